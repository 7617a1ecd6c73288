"""Networks as pure (init, apply) pairs over plain pytrees; Flax stays behind this door."""

import ast
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.models.alexcifarnet import alexcifarnet
from dd_jax.models.alexnet import alexnet, alexnet_from_torchvision
from dd_jax.models.alexnet_small import alexnet_small
from dd_jax.models.base import (
    PRECISIONS,
    ImageSpec,
    InitFn,
    KernelFn,
    Model,
    SetWeights,
    Shapes,
    architecture,
    from_kernel,
    num_params,
    same_shapes,
    with_precision,
)
from dd_jax.models.convnet import convnet
from dd_jax.models.convnet_family import convnet_family, family_member
from dd_jax.models.custom import from_flax, from_functions
from dd_jax.models.graph.appnp import appnp
from dd_jax.models.graph.base import propagated
from dd_jax.models.graph.gcn import gcn
from dd_jax.models.graph.graphsage import graphsage
from dd_jax.models.graph.sgc import sgc
from dd_jax.models.infinite.convnet import infinite_convnet
from dd_jax.models.infinite.kernels import WideKernel
from dd_jax.models.infinite.mlp import infinite_mlp
from dd_jax.models.lenet import lenet
from dd_jax.models.mlp import mlp
from dd_jax.models.resnet import resnet18
from dd_jax.models.variants import sized
from dd_jax.models.vgg import vgg11
from dd_jax.own import is_own, load_own
from dd_jax.renamed import renamed_in
from dd_jax.types import Batch, Experts, Pretrained

__getattr__ = renamed_in("dd_jax.models", from_linen="from_flax")

_YOUR_OWN = "A network of your own is MODULE:FUNCTION, such as mynet:Tiny for Tiny in mynet.py."

MODELS: Mapping[str, Callable[..., Model]] = {
    "alexcifarnet": alexcifarnet,
    "alexnet": alexnet,
    "appnp": appnp,
    "gcn": gcn,
    "graphsage": graphsage,
    "sgc": sgc,
    "alexnet-small": alexnet_small,
    "convnet": convnet,
    "infinite_convnet": infinite_convnet,
    "infinite_mlp": infinite_mlp,
    "lenet": lenet,
    "mlp": mlp,
    "resnet18": resnet18,
    "vgg11": vgg11,
}


def make(name: str, data: ImageSpec, **settings: Any) -> Model:
    """The network called `name` for `data`; OptionError for an unknown name or setting."""
    if name not in MODELS:
        raise unknown_name("model", name, MODELS, _YOUR_OWN)
    known = set(inspect.signature(MODELS[name]).parameters) - {"data", "layout"}
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of {name}", setting, known)
    try:
        return MODELS[name](data, **settings)
    except TypeError as error:
        raise OptionError(f"A setting of {name} has a value of the wrong type: {settings} ({error}).") from error


def from_spec(spec: str, data: ImageSpec) -> Model:
    """The network that `spec` means for `data`: a name, with settings after a colon, or MODULE:FUNCTION of one's own.

    The function, of the current directory or wherever Python finds modules, is called with the dataset and the settings
    that follow after another colon, and gives a `Model` or a Flax module; a class of Linen modules
    is called with the settings alone.

    Raises:
        OptionError: for an unknown name or setting, or a function that isn't there or gives something else.
    """
    name, settings = parse_model(spec)
    if not is_own(name):
        return make(name, data, **settings)
    expected = "a function (data, **settings) -> dd_jax.models.Model, or a Flax module"
    found = load_own(name, expected)
    if inspect.isroutine(found) or inspect.isclass(found) or isinstance(found, functools.partial):
        arguments = () if inspect.isclass(found) else (data,)
        try:
            inspect.signature(found).bind(*arguments, **settings)
        except TypeError as error:
            what = "settings" if inspect.isclass(found) else "the data and settings"
            raise OptionError(f"{name} can't be called with {what} {settings}: {error}.") from error
        found = found(*arguments, **settings)
    if isinstance(found, Model):
        return found
    try:
        return from_flax(found, data)
    except OptionError as error:
        raise OptionError(f"{name} should be {expected}. {error}") from error


def variants(model: Model, widths: Sequence[int] = (), depths: Sequence[int] = ()) -> tuple[Model, ...]:
    """A network of the library in each of these widths and depths, with all its other settings.

    Of an MLP the width is the units of each hidden layer, and the depth how many there are.

    Args:
        widths, depths: none for those that the network has.

    Raises:
        OptionError: for a network that has no such setting, or was not made by this library.
    """
    if (widths or depths) and model.name not in MODELS:
        raise OptionError(
            f"widths and depths are settings of this library's networks, but {model.name} is "
            "another one. Leave them out, or give learners."
        )
    return sized(MODELS.get(model.name, lambda *_: model), model, widths, depths)


def parse_model(spec: str) -> tuple[str, dict[str, Any]]:
    """The name and the settings in "convnet:width=32,norm='none'"; bare words are strings.

    "module:function:width=32" has the name "module:function".

    Raises:
        OptionError: if it can't be read.
    """
    name, _, rest = spec.partition(":")
    if name not in MODELS and is_own(":".join(spec.split(":")[:2])):
        own, _, rest = rest.partition(":")
        name = f"{name}:{own}"
    try:
        call = ast.parse(f"f({rest})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args:
            raise ValueError("not a list of SETTING=VALUE")
        values = {str(k.arg): k.value for k in call.keywords}
        return name, {k: v.id if isinstance(v, ast.Name) else ast.literal_eval(v) for k, v in values.items()}
    except (SyntaxError, ValueError) as error:
        raise OptionError(
            f"Can't read the settings in model {spec!r}: expected NAME or NAME:SETTING=VALUE,..., e.g. "
            "'convnet:width=32,depth=2' or 'mlp:hidden=(64, 64)'."
        ) from error


def check_fits(model: Model, images: Any, num_classes: int, what: str = "dataset") -> None:
    """Raise DataError unless `model` was built for images and classes like these."""
    array = images.images if isinstance(images, Batch) else images
    shape = tuple(array.shape[-3:])
    if shape != tuple(model.image_shape) or num_classes != model.num_classes:
        build = f": dd_jax.models.{model.name.replace('-', '_')}(data)" if model.name in MODELS else ""
        raise DataError(
            f"The {model.name} was built for images {model.image_shape} in {model.num_classes} classes, but the {what} "
            f"has images {shape} in {num_classes} classes. Build the model from the same data{build}."
        )


def check_pretrained(pretrained: Pretrained | Experts, model: Model) -> None:
    """Raise DataError unless the pretrained networks are of the architecture `model`, with weights of its shapes.

    Their images may have another size where that makes no difference to the weights (LeNet at 28 and 32 pixels).
    """
    theirs: Any = pretrained.model, dict(pretrained.settings), pretrained.num_classes
    ours: Any = model.name, architecture(model), model.num_classes
    if theirs == ours:
        built = make(pretrained.model, Shapes(pretrained.image_shape, pretrained.num_classes), **pretrained.settings)
        if same_shapes(built, model):
            return
        theirs, ours = (f"images {tuple(shape)}" for shape in (pretrained.image_shape, model.image_shape))
    raise DataError(
        f"The pretrained networks {pretrained.name} are of another architecture: {theirs}, but the model is {ours}. "
        "Build the same model, and load the data with the networks' image_size and channels."
    )


__all__ = [
    "MODELS",
    "PRECISIONS",
    "ImageSpec",
    "InitFn",
    "KernelFn",
    "Model",
    "SetWeights",
    "Shapes",
    "WideKernel",
    "alexcifarnet",
    "alexnet",
    "alexnet_from_torchvision",
    "alexnet_small",
    "appnp",
    "architecture",
    "check_fits",
    "check_pretrained",
    "convnet",
    "convnet_family",
    "family_member",
    "from_flax",
    "from_functions",
    "from_kernel",
    "from_spec",
    "gcn",
    "graphsage",
    "infinite_convnet",
    "infinite_mlp",
    "lenet",
    "make",
    "mlp",
    "num_params",
    "parse_model",
    "propagated",
    "resnet18",
    "same_shapes",
    "sgc",
    "variants",
    "vgg11",
    "with_precision",
]
