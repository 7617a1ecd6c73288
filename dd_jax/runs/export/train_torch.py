"""Train a PyTorch network on the distilled set in images_nchw.npz, as the set was learnt to be used.

    net = train(network(), load())   # the network that the set is for, as it starts
    net = train(start_as_learnt(my_network), load())
    print(accuracy(net, normalise(test_images, load()), test_labels))

or, to see the network that the set is for trained and tested:   python train_torch.py [TEST.npz]
TEST.npz holds `images` as `normalise` takes them, and `labels` (N,); without it the file test.npz beside this one.

The set trains networks of the kind that it was learnt with, which network.json tells. Where it is for one known
network, only that one will do: init.npz has its weights, by their names in Flax: dense kernels (in, out), convolution
kernels (height, width, in, out); images are flattened as height, width, channels.
"""

import itertools
import json
import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

FILE = Path(__file__).with_name("images_nchw.npz")


def load(path=FILE):
    """Images (S, B, C, H, W) in model space; labels (S, B), or soft (S, B, K); step_sizes and order (T,); mean, std.

    Of a set with learnt momentum also momenta (T,), of one for another rule the numbers of that.
    Of a set that networks are trained on from scratch also epochs, batch_size, learning_rate and so on.
    Of a set with ZCA also the matrix of the whitening (H * W * C, H * W * C).
    """
    with np.load(path, allow_pickle=False) as npz:
        return {name: torch.from_numpy(npz[name]) for name in npz.files}


def network(path=FILE):
    """The network that the set is for, as it starts: at random or, where the set is for one known network, that one.

    Raises:
        ValueError: where this file has no such network: give `train` one of your own.
    """
    about = json.loads(path.with_name("network.json").read_text())
    if about["name"] not in NETWORKS:
        raise ValueError(
            f"The set is for the network {about['name']!r}, but this file only has {', '.join(NETWORKS)}. Write "
            "that network in PyTorch and train it by train(start_as_learnt(net), load())."
        )
    net = torch.nn.Sequential(*NETWORKS[about["name"]](about["image_shape"], about["num_classes"], **about["settings"]))
    start_as_learnt(net, about["settings"]["initialiser"])
    return with_weights(net, path.with_name("init.npz")) if about["fixed"] else net


class Flatten(torch.nn.Module):
    """Images (N, C, H, W) as rows, in the order height, width, channels."""

    def forward(self, images):
        """The rows (N, H * W * C)."""
        return images.permute(0, 2, 3, 1).flatten(1)


def mlp(image_shape, num_classes, hidden, **_):
    """Linear layers with ReLU between them."""
    height, width, channels = image_shape
    units = [height * width * channels, *hidden, num_classes]
    layers: list[torch.nn.Module] = [Flatten()]
    for before, after in itertools.pairwise(units):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return layers[:-1]


def convnet(image_shape, num_classes, width, depth, norm, activation, pooling, **_):
    """Blocks of convolution, normalisation, activation and pooling, then one linear layer."""
    high, wide, channels = image_shape
    groups = {"instance": width, "group": 4, "layer": 1, "batch": 0, "none": 0}[norm]
    layers: list[torch.nn.Module] = []
    for block in range(depth):
        padding = 3 if block == 0 and high == 28 else 1
        layers.append(torch.nn.Conv2d(channels if block == 0 else width, width, 3, padding=padding))
        layers += [torch.nn.GroupNorm(groups, width)] if groups else []
        # By the batch at hand, as dd_jax does: no running statistics.
        layers += [torch.nn.BatchNorm2d(width, track_running_stats=False)] if norm == "batch" else []
        layers.append(ACTIVATIONS[activation]())
        layers += [] if pooling == "none" else [torch.nn.AvgPool2d(2) if pooling == "avg" else torch.nn.MaxPool2d(2)]
        high, wide = (side + 2 * padding - 2 for side in (high, wide))
        high, wide = (high, wide) if pooling == "none" else (high // 2, wide // 2)
    return [*layers, Flatten(), torch.nn.Linear(high * wide * width, num_classes)]


def lenet(image_shape, num_classes, **_):
    """Two convolutions and three linear layers, for 28 or 32 pixels."""
    convolutions: list[torch.nn.Module] = []
    for before, after, padding in ((image_shape[2], 6, 2 if image_shape[0] == 28 else 0), (6, 16, 0)):
        layer = torch.nn.Conv2d(before, after, 5, padding=padding)
        convolutions += [layer, torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
    return [*convolutions, *mlp((5, 5, 16), num_classes, (120, 84))]


NETWORKS: dict = {"mlp": mlp, "convnet": convnet, "lenet": lenet}
ACTIVATIONS = {
    "relu": torch.nn.ReLU,
    "leaky_relu": torch.nn.LeakyReLU,
    "sigmoid": torch.nn.Sigmoid,
    "swish": torch.nn.SiLU,
    "softplus": torch.nn.Softplus,
}
STARTS = {  # of kernels, by the names of dd_jax; "default" is what torch does by itself
    "xavier": torch.nn.init.xavier_normal_,
    "xavier_uniform": torch.nn.init.xavier_uniform_,
    "kaiming": lambda kernel: torch.nn.init.kaiming_normal_(kernel, nonlinearity="relu"),
    "kaiming_out": lambda kernel: torch.nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu"),
    "orthogonal": torch.nn.init.orthogonal_,
}


def start_as_learnt(net, initialiser="xavier"):
    """Xavier-normal weights and no biases, what most of dd_jax's networks start from, or another of its starts.

    From another start than the one that the set was learnt for less is learnt.
    """
    if initialiser == "default":
        return net
    for name, weights in net.named_parameters():
        if weights.ndim > 1:
            STARTS[initialiser](weights)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(weights)
    return net


@torch.no_grad()
def with_weights(net, path):
    """The network with weights of the same architecture in Flax, out of an npz file."""
    kinds = {torch.nn.Linear: "Dense", torch.nn.Conv2d: "Conv"}
    kinds |= dict.fromkeys((torch.nn.GroupNorm, torch.nn.BatchNorm2d), "GroupNorm")
    seen = dict.fromkeys(kinds.values(), 0)
    with np.load(path, allow_pickle=False) as npz:
        for layer in net.modules():
            kind = kinds.get(type(layer))
            if kind is None:
                continue
            name = f"{kind}_{seen[kind]}"
            seen[kind] += 1
            kernel = npz[f"{name}/scale" if kind == "GroupNorm" else f"{name}/kernel"]
            axes = {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[kernel.ndim]
            layer.weight.copy_(torch.tensor(kernel.transpose(axes)))
            layer.bias.copy_(torch.tensor(npz[f"{name}/bias"]))
    return net


def train(net, distilled):
    """The learnt steps: step t takes batch order[t] by step_sizes[t]; without an order each epoch deals images anew."""
    if "epochs" in distilled:
        return train_from_scratch(net, distilled)
    device = next(net.parameters()).device
    images, labels = (distilled[name].flatten(0, 1).to(device) for name in ("images", "labels"))
    (steps, batch), order = distilled["images"].shape[:2], distilled["order"].tolist()
    places = torch.arange(steps * batch)
    descent = rule_of(net, distilled)
    for t, step_size in enumerate(distilled["step_sizes"].tolist()):
        if not order and t % steps == 0:
            places = torch.randperm(steps * batch)
        chosen = places[batch * (order[t] if order else t % steps) :][:batch]
        descent.param_groups[0]["lr"] = step_size
        if "momenta" in distilled:
            descent.param_groups[0]["momentum"] = distilled["momenta"][t].item()
        descent.zero_grad()
        cross_entropy(net(images[chosen]), labels[chosen]).backward()
        descent.step()
    return net


def rule_of(net, distilled):
    """How weights follow their gradients: by plain descent, or with what the set was learnt for."""
    if "adam_betas" in distilled:
        return torch.optim.Adam(
            net.parameters(), betas=distilled["adam_betas"].tolist(), eps=distilled["epsilon"].item()
        )
    if "rmsprop_decay" in distilled:
        return torch.optim.RMSprop(
            net.parameters(), alpha=distilled["rmsprop_decay"].item(), eps=distilled["epsilon"].item()
        )
    return torch.optim.SGD(net.parameters(), lr=1.0)


def train_from_scratch(net, distilled):
    """Shuffled minibatches, as the set's protocol says, but for its augmentation: add that to `images[chosen]`."""
    device = next(net.parameters()).device
    images, labels = (distilled[name].flatten(0, 1).to(device) for name in ("images", "labels"))
    setting = {name: distilled[name].item() for name in ("learning_rate", "momentum", "weight_decay")}
    descent = torch.optim.SGD(net.parameters(), setting.pop("learning_rate"), **setting)
    drops, factor = distilled["drops"].tolist(), distilled["drop_factor"].item()
    schedule = torch.optim.lr_scheduler.MultiStepLR(descent, drops, factor)
    for _ in range(distilled["epochs"].item()):
        for chosen in torch.randperm(len(images)).split(distilled["batch_size"].item()):
            descent.zero_grad()
            cross_entropy(net(images[chosen]), labels[chosen]).backward()
            descent.step()
        schedule.step()
    return net


def normalise(images, distilled):
    """Real images in the model space of the set, (N, C, H, W).

    Args:
        images: uint8, or floats in [0, 1], of NumPy or torch; (N, H, W, C), (N, C, H, W) or, of one channel, (N, H, W).

    Raises:
        ValueError: for other images.
    """
    images = torch.as_tensor(np.array(images))
    channels, height, width = distilled["images"].shape[2:]
    if images.ndim == 3 and channels == 1:
        images = images[..., None]
    first = images.ndim == 4 and images.shape[1] == channels
    last = images.ndim == 4 and images.shape[3] == channels
    if not (first or last):
        raise ValueError(
            f"images should be (N, {height}, {width}, {channels}) or (N, {channels}, {height}, {width}), like "
            f"those of the set, but are {tuple(images.shape)}."
        )
    any_range = not distilled["mean"].any() and (distilled["std"] == 1).all()  # model space is that of the images
    if images.dtype == torch.uint8:
        images = images / 255
    elif not images.is_floating_point() or not (any_range or 0 <= images.min() <= images.max() <= 1):
        raise ValueError(
            f"images should be uint8, or floats in [0, 1], but are {images.dtype} from {images.min().item():g} "
            f"to {images.max().item():g}. Convert them first."
        )
    if first and (not last or images.shape[2:] == (height, width)):
        images = images.permute(0, 2, 3, 1)
    pixels = images.float()
    pixels = (pixels - distilled["mean"]) / distilled["std"]
    if "whitening" in distilled:  # all the values of an image at once, in the order H, W, C
        pixels = (pixels.flatten(1) @ distilled["whitening"]).view(pixels.shape)
    return pixels.permute(0, 3, 1, 2)


@torch.no_grad()
def accuracy(net, images, labels):
    """The fraction of the images (N, C, H, W), in model space, that get their label (N,)."""
    device = next(net.parameters()).device
    return (net(images.to(device)).argmax(1).cpu() == torch.from_numpy(np.array(labels))).float().mean().item()


if __name__ == "__main__":
    test_file = Path(sys.argv[1]) if len(sys.argv) > 1 else FILE.with_name("test.npz")
    if len(sys.argv) > 2 or not test_file.is_file():
        sys.exit(__doc__)
    distilled = load()
    with np.load(test_file, allow_pickle=False) as test:
        images, labels = normalise(test["images"], distilled), test["labels"].astype(np.int64)
    try:
        net = network()
    except ValueError as error:
        sys.exit(str(error))
    before = accuracy(net, images, labels)
    print(f"accuracy before {before:.3f}, after {accuracy(train(net, distilled), images, labels):.3f}")
