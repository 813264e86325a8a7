"""CPU time of convolutional encoders: packed training by three ways, and actors' numpy beside torch.

python benchmarks/convolutions.py [--rounds 5]

Two layers as a configuration without sizes gets them, for images of 84 x 84 x 4 and 10 x 10 x 5, on one core. First
forward, and forward and backward, of 64 images for each of 1, 4 and 16 networks: one convolution in groups, one
convolution a network, and windows gathered for one batched matrix product. Then 1, 16 and 64 images of one network:
numpy as actors run it, beside torch. CPU milliseconds, the least of all rounds, in turns.
"""

from __future__ import annotations

import argparse
import os

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import time  # noqa: E402
from collections.abc import Callable, Mapping  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch import Tensor  # noqa: E402

from covey.acting.tape import Tape  # noqa: E402
from covey.networks.convolution import Window  # noqa: E402
from covey_server.packing.torch_ops import convolved, grouped_convolution, network_by_network  # noqa: E402

CHANNELS = 32
IMAGES = {
    "84 x 84 x 4": (4, (Window(84, 84, 8, 4), Window(20, 20, 4, 2))),
    "10 x 10 x 5": (5, (Window(10, 10, 3), Window(8, 8, 3))),
}

Layers = list[tuple[Tensor, Tensor, Window]]
Convolve = Callable[[Tensor, Tensor, Tensor, Window], Tensor]


def gathered(x: Tensor, w: Tensor, b: Tensor, window: Window) -> Tensor:
    """Convolve images of K networks as one batched product with the pixels of all windows, copied side by side."""
    networks, _, channels = x.shape
    images = x.reshape(networks, -1, window.height, window.width, channels)
    pixels = images.unfold(2, window.kernel, window.stride).unfold(3, window.kernel, window.stride)
    windows = pixels.permute(0, 1, 2, 3, 5, 6, 4).reshape(networks, -1, w.shape[1])
    return torch.baddbmm(b.unsqueeze(1), windows, w)


WAYS: dict[str, Convolve] = {
    "in groups": grouped_convolution,
    "a network at a time": lambda x, w, b, window: network_by_network(x.unbind(), w, b, window),
    "windows gathered": gathered,
}


def layers_of(name: str, networks: int) -> Layers:
    """Draw the weights of both layers."""
    channels, windows = IMAGES[name]
    layers: Layers = []
    draw = torch.Generator().manual_seed(0)
    for window in windows:
        inputs = window.kernel**2 * channels
        w = torch.randn(networks, inputs, CHANNELS, generator=draw) / inputs**0.5
        layers.append((w.requires_grad_(), torch.zeros(networks, CHANNELS, requires_grad=True), window))
        channels = CHANNELS
    return layers


def least_ms(calls: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the least CPU time of each call, in milliseconds, over rounds in which they take turns both ways."""
    least = dict.fromkeys(calls, float("inf"))
    for call in calls.values():
        call()
    for round_ in range(rounds):
        for name in list(calls)[:: 1 if round_ % 2 else -1]:
            repeats, start = 0, time.process_time()
            while repeats == 0 or time.process_time() - start < 0.1:
                calls[name]()
                repeats += 1
            least[name] = min(least[name], (time.process_time() - start) / repeats * 1e3)
    return least


def training(name: str, networks: int, rounds: int, images: int = 64) -> None:
    """Print the ways to train packed networks."""
    channels, windows = IMAGES[name]
    layers = layers_of(name, networks)
    x = torch.rand(networks, images * windows[0].height * windows[0].width, channels)
    leaves = [leaf for w, b, _ in layers for leaf in (w, b)]

    def forward(convolve: Convolve) -> Tensor:
        y = x
        for w, b, window in layers:
            y = convolve(y, w, b, window).relu()
        return y

    def ahead(convolve: Convolve) -> Callable[[], object]:
        def call() -> object:
            with torch.no_grad():
                return forward(convolve)

        return call

    both = {way: lambda c=convolve: torch.autograd.grad(forward(c).sum(), leaves) for way, convolve in WAYS.items()}
    for what, calls in (("forward", {way: ahead(c) for way, c in WAYS.items()}), ("and backward", both)):
        told = ", ".join(f"{way} {ms:.1f}" for way, ms in least_ms(calls, rounds).items())
        print(f"{name}, {networks:2} networks, {what:12}: {told} ms", flush=True)


def acting(name: str, images: int, rounds: int) -> None:
    """Print numpy beside torch."""
    channels, windows = IMAGES[name]
    layers = layers_of(name, 1)
    x = np.random.default_rng(0).random((1, images * windows[0].height * windows[0].width, channels), np.float32)
    tape = Tape()
    y = x
    for w, b, window in layers:
        y = tape.activation("ReLU", tape.convolution(y, w.detach().numpy(), b.detach().numpy(), window))

    def by_torch() -> Tensor:
        with torch.no_grad():
            z = torch.from_numpy(x[0])
            for w, b, window in layers:
                z = convolved(z, w[0], b, window).relu_()
        return z

    np.testing.assert_allclose(by_torch().numpy(), y[0], atol=1e-4)
    ms = least_ms({"numpy": tape.replay, "torch": by_torch}, rounds)
    ratio = ms["numpy"] / ms["torch"]
    print(f"{name}, {images:2} images: numpy {ms['numpy']:.3f} ms, torch {ms['torch']:.3f} ms, {ratio:.2f} times")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    for name in IMAGES:
        for networks in (1, 4, 16):
            training(name, networks, rounds)
    for name in IMAGES:
        for images in (1, 16, 64):
            acting(name, images, rounds)


if __name__ == "__main__":
    main()
