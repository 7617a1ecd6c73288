"""Train a PyTorch network on the distilled set in images_nchw.npz, as the set was learnt to be used.

    net = train(start_as_learnt(my_network), load())
    print(accuracy(net, normalise(test_pixels, load()), test_labels))

or, to see a small network trained and tested:   python train_torch.py TEST.npz
TEST.npz holds `images`, uint8 (N, H, W, C) or (N, H, W), and `labels` (N,).

The set trains networks of the kind that it was learnt with. Where it is for one known network, only that one will do:
init.npz has its weights, by their names in Flax: dense kernels (in, out), convolution kernels (height, width, in, out);
images are flattened as height, width, channels.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import cross_entropy

FILE = Path(__file__).with_name("images_nchw.npz")


def load(path=FILE):
    """Images (S, B, C, H, W) in model space; labels (S, B), or soft (S, B, K); step_sizes and order (T,); mean, std.

    Of a set that networks are trained on from scratch also epochs, batch_size, learning_rate and so on.
    Of a set with ZCA also the matrix of the whitening (H * W * C, H * W * C).
    """
    with np.load(path, allow_pickle=False) as npz:
        return {name: torch.from_numpy(npz[name]) for name in npz.files}


def start_as_learnt(net):
    """Xavier-normal weights and no biases, what dd_jax's networks start from; from torch's own start less is learnt."""
    for name, weights in net.named_parameters():
        if weights.ndim > 1:
            torch.nn.init.xavier_normal_(weights)
        elif name.endswith("bias"):
            torch.nn.init.zeros_(weights)
    return net


def train(net, distilled):
    """Gradient descent: step t takes batch order[t] by step_sizes[t]; without an order each epoch deals images anew."""
    if "epochs" in distilled:
        return train_from_scratch(net, distilled)
    device = next(net.parameters()).device
    images, labels = (distilled[name].flatten(0, 1).to(device) for name in ("images", "labels"))
    (steps, batch), order = distilled["images"].shape[:2], distilled["order"].tolist()
    places = torch.arange(steps * batch)
    descent = torch.optim.SGD(net.parameters(), lr=1.0)
    for t, step_size in enumerate(distilled["step_sizes"].tolist()):
        if not order and t % steps == 0:
            places = torch.randperm(steps * batch)
        chosen = places[batch * (order[t] if order else t % steps) :][:batch]
        descent.param_groups[0]["lr"] = step_size
        descent.zero_grad()
        cross_entropy(net(images[chosen]), labels[chosen]).backward()
        descent.step()
    return net


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


def normalise(pixels, distilled):
    """Real images uint8 (N, H, W, C) or (N, H, W) in the model space of the set, (N, C, H, W)."""
    pixels = torch.from_numpy(np.array(pixels)) / 255
    pixels = pixels[..., None] if pixels.ndim == 3 else pixels
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
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    distilled = load()
    with np.load(sys.argv[1], allow_pickle=False) as test:
        images, labels = normalise(test["images"], distilled), test["labels"].astype(np.int64)
    num_classes = int(distilled["labels"].shape[2] if distilled["labels"].ndim == 3 else distilled["labels"].max() + 1)
    net = torch.nn.Sequential(
        torch.nn.Flatten(), torch.nn.Linear(images[0].numel(), 64), torch.nn.ReLU(), torch.nn.Linear(64, num_classes)
    )
    start_as_learnt(net)
    before = accuracy(net, images, labels)
    print(f"accuracy before {before:.3f}, after {accuracy(train(net, distilled), images, labels):.3f}")
