"""A name for the gradient of an array, so that a reverse pass through a reverse pass may keep it.

`jax.checkpoint` chooses what to keep by the names of `checkpoint_name`, which names values. In an unrolled training the
gradients of activations are values too, but it is the reverse pass of an inner step that makes them, and no function
is there to name them.
"""

import jax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir


def name_gradient(x: jax.Array, name: str) -> jax.Array:
    """`x`, whose cotangent bears `name`; differentiable in either mode, to any order."""
    return _PRIMITIVE.bind(x, name=name)


_PRIMITIVE = Primitive("name_gradient")
_PRIMITIVE.def_impl(lambda x, *, name: x)
_PRIMITIVE.def_abstract_eval(lambda x, *, name: x)
ad.deflinear2(_PRIMITIVE, lambda cotangent, _, *, name: [checkpoint_name(cotangent, name)])
batching.defvectorized(_PRIMITIVE)
mlir.register_lowering(_PRIMITIVE, lambda _, x, *, name: [x])
