"""The same algorithm in plain eager PyTorch, for benchmark.py to measure beside ours: it is no part of the library.

Wang et al. 2018, Algorithm 1: gradient descent on flat distilled batches with `create_graph=True`, then the reverse
pass step by step, as in the authors' released code; one network after another; Adam on images and step sizes.

Reads one JSON command a line from stdin and answers with one line on stdout:
{"op": "hypergradient", "network": NAME, "path": NPZ}   loss and hypergradient of what is in NPZ, written back beside it
{"op": "prepare", "workload": {...}}                    make networks and data
{"op": "time", "steps": N}                              seconds of each of N outer steps
"""

import json
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def lenet(params, x):
    c1, b1, c2, b2, w1, d1, w2, d2, w3, d3 = params
    x = F.max_pool2d(F.relu(F.conv2d(x, c1, b1, padding=2 if x.shape[-1] == 28 else 0)), 2, 2)
    x = F.max_pool2d(F.relu(F.conv2d(x, c2, b2)), 2, 2)
    return linear(x, w1, d1, w2, d2, w3, d3)


def alexcifarnet(params, x):
    c1, b1, c2, b2, w1, d1, w2, d2, w3, d3 = params

    def norm(x):
        return F.local_response_norm(x, 4, alpha=0.001 / 9.0, beta=0.75, k=1.0)

    x = norm(F.max_pool2d(F.relu(F.conv2d(x, c1, b1, padding=2)), 3, 2, 1))
    x = F.max_pool2d(norm(F.relu(F.conv2d(x, c2, b2, padding=2))), 3, 2, 1)
    return linear(x, w1, d1, w2, d2, w3, d3)


def linear(x, w1, d1, w2, d2, w3, d3):
    x = F.relu(F.linear(x.flatten(1), w1, d1))
    x = F.relu(F.linear(x, w2, d2))
    return F.linear(x, w3, d3)


NETWORKS = {"lenet": lenet, "alexcifarnet": alexcifarnet}


def shapes(network, size, channels):
    """Shapes of the parameters, weight and bias in turn."""
    wide = network == "alexcifarnet"
    features = 64 * 8 * 8 if wide else 16 * 5 * 5
    first, second = (64, 64) if wide else (6, 16)
    units = (384, 192) if wide else (120, 84)
    convolutions = [(first, channels, 5, 5), (first,), (second, first, 5, 5), (second,)]
    return [*convolutions, (units[0], features), (units[0],), (units[1], units[0]), (units[1],), (10, units[1]), (10,)]


def xavier(network, size, channels):
    """A network drawn anew: normal weights scaled by fan-in and fan-out, no biases."""
    params = []
    for shape in shapes(network, size, channels):
        leaf = torch.zeros(shape, device=DEVICE)
        params.append(torch.nn.init.xavier_normal_(leaf) if len(shape) > 1 else leaf)
    return params


def hypergradient(apply, params, images, labels, raw, real, targets):
    """Loss after the inner steps, and its gradients with respect to images (S, B, C, H, W) and raw step sizes (T,).

    The parameters are one flat vector, cut into views at each step, as in the released code.
    """
    sizes = [p.numel() for p in params]
    forms = [p.shape for p in params]

    def network(flat, x):
        return apply([part.view(form) for part, form in zip(flat.split(sizes), forms, strict=True)], x)

    step_sizes = F.softplus(raw)
    flat = torch.cat([p.reshape(-1) for p in params]).detach().requires_grad_()
    batches = [images[t % len(images)].detach().requires_grad_() for t in range(len(raw))]
    rates = [rate.detach().requires_grad_() for rate in step_sizes]
    kept = []
    for batch, rate in zip(batches, rates, strict=True):
        loss = F.cross_entropy(network(flat, batch), labels)
        (gradient,) = torch.autograd.grad(loss, flat, rate, create_graph=True)
        kept.append((flat, gradient))
        flat = (flat.detach() - gradient.detach()).requires_grad_()
    loss = F.cross_entropy(network(flat, real), targets)
    (adjoint,) = torch.autograd.grad(loss, flat)
    to_images, to_rates = torch.zeros_like(images), []
    for t in reversed(range(len(raw))):
        flat, gradient = kept[t]
        back = torch.autograd.grad(gradient, (flat, batches[t], rates[t]), -adjoint)
        adjoint = adjoint + back[0]
        to_images[t % len(images)] += back[1]
        to_rates.append(back[2])
    (to_raw,) = torch.autograd.grad(step_sizes, raw, torch.stack(to_rates[::-1]))
    return loss.detach(), to_images, to_raw


class Workload:
    """Outer steps of one workload on random data."""

    def __init__(self, network, size, channels, num_batches, num_epochs, num_inits, fixed, batch_size):
        torch.manual_seed(0)
        self.network, self.size, self.channels = network, size, channels
        self.num_inits, self.fixed, self.batch_size = num_inits, fixed, batch_size
        self.images = torch.randn(num_batches, 10, channels, size, size, device=DEVICE, requires_grad=True)
        start = torch.full((num_batches * num_epochs,), 0.02, device=DEVICE)
        self.raw = start.expm1().log().requires_grad_()
        self.labels = torch.arange(10, device=DEVICE)
        self.real = torch.randn(8192, channels, size, size, device=DEVICE)
        self.targets = torch.randint(0, 10, (8192,), device=DEVICE)
        self.params = xavier(network, size, channels)
        self.optimiser = torch.optim.Adam([self.images, self.raw], lr=0.001, betas=(0.5, 0.999))

    def step(self):
        to_images, to_raw = torch.zeros_like(self.images), torch.zeros_like(self.raw)
        for _ in range(self.num_inits):
            params = self.params if self.fixed else xavier(self.network, self.size, self.channels)
            index = torch.randint(0, len(self.real), (self.batch_size,), device=DEVICE)
            _, by_images, by_raw = hypergradient(
                NETWORKS[self.network], params, self.images, self.labels, self.raw, self.real[index],
                self.targets[index],
            )  # fmt: skip
            to_images += by_images / self.num_inits
            to_raw += by_raw / self.num_inits
        self.images.grad, self.raw.grad = to_images, to_raw
        self.optimiser.step()

    def timed(self, steps):
        seconds = []
        for _ in range(steps):
            started = time.perf_counter()
            self.step()
            if DEVICE == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - started)
        return seconds


def check(network, path):
    """The hypergradient of what is in the file, in the file's precision."""
    given = np.load(path)
    tensors = {name: torch.tensor(given[name], device=DEVICE) for name in given.files}
    count = sum(name.startswith("param") for name in tensors)
    params = [tensors[f"param{i}"] for i in range(count)]
    raw = tensors["raw"].requires_grad_()
    loss, images, to_raw = hypergradient(
        NETWORKS[network], params, tensors["images"], tensors["labels"], raw,
        tensors["real"], tensors["targets"],
    )  # fmt: skip
    np.savez(path + ".peer.npz", loss=loss.cpu(), images=images.cpu(), raw=to_raw.cpu())


def main():
    workload: Workload
    for line in sys.stdin:
        command = json.loads(line)
        if command["op"] == "hypergradient":
            check(command["network"], command["path"])
            answer = {}
        elif command["op"] == "prepare":
            workload = Workload(**command["workload"])
            answer = {
                "torch": torch.__version__,
                "threads": torch.get_num_threads(),
                "device": DEVICE if DEVICE == "cpu" else torch.cuda.get_device_name(),
            }
        else:
            answer = {"seconds": workload.timed(command["steps"])}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
