"""Computes encoders that are `torch.nn.Module`s of one's own: with weights of covey's, for one network or a stack.

The module itself is made once in a process and keeps no weights that matter: those of each network stand in for its
parameters while it computes (`torch.func.functional_call`), for all networks of a stack at once (`vmap`) where the
module can be computed so, else one after another.

Dims: K networks, B samples.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from covey.errors import ConfigError
from covey.networks.torch_module import Named, TorchModule
from covey_server.packing.module_checks import can_be_stacked, checked, made

_computing = threading.Lock()
"""Held while a module computes, as other weights stand in for its own meanwhile."""


class ModuleOps:
    """The operation that computes an encoder which is a module, and what is to be known of the module before."""

    def module(self, encoder: TorchModule, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        """Compute a module's features, (B, features) or (K, B, features) for K stacked networks.

        Args:
            encoder: Description of the module.
            params: Its parameters by name; of stacked networks with a leading axis K.
            x: What it reads, flat: (B, numbers) or (K, B, numbers).
        """
        module, stacked = _module(encoder), x.dim() == 3
        lead = (len(x),) if stacked else ()
        own = {name: params[name].reshape((*lead, *shape)) for name, shape in encoder.tensors}
        with _computing:
            if not stacked:
                return computed(module, own, encoder.reads, x)
            if len(x) > 1 and _stackable(encoder):
                each = torch.func.vmap(lambda p, its: computed(module, p, encoder.reads, its), randomness="error")
                features: Tensor = each(own, x)
                return features
            rows = ({name: values[k] for name, values in own.items()} for k in range(len(x)))
            return torch.stack([computed(module, p, encoder.reads, its) for p, its in zip(rows, x, strict=True)])

    @torch.no_grad()
    def module_of_arrays(
        self, encoder: TorchModule, params: Mapping[str, NDArray[np.float32]], x: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Compute a module's features as `module` does, from arrays and to an array."""
        tensors = {name: torch.from_numpy(values) for name, values in params.items()}
        features: NDArray[np.float32] = self.module(encoder, tensors, torch.from_numpy(x)).numpy()
        return features

    def check_module(self, encoder: TorchModule) -> None:
        """Make a module, if that was not done before, and compare it with its description.

        Raises:
            ConfigError: its function is not found or fails, or it is another module than the one described.
        """
        _module(encoder)

    def initial_weights(self, encoder: TorchModule, seed: int) -> dict[str, NDArray[np.float32]]:
        """Return initial weights of a module by name: those with which its function makes it.

        Args:
            encoder: Description of the module.
            seed: Seed of torch's random numbers meanwhile.
        """
        module, _ = made(encoder.module, encoder.options, encoder.reads, "network", seed)
        return {name: p.detach().numpy().copy() for name, p in module.named_parameters()}

    def describe_module(self, module: str, options: str, reads: Named, activation: str, where: str) -> TorchModule:
        """Make a module as a configuration says, check that it can be trained here, and describe it.

        Args:
            module: The function that makes it, "package.module:function".
            options: Its keyword arguments, a JSON object as text.
            reads: The shapes that the module reads, by name.
            activation: Activation of the latents.
            where: Dotted path of the configuration, for errors.

        Raises:
            ConfigError: it cannot be; says what the module does and what is expected.
        """
        tensors, features = _found(module, options, reads, where)
        return TorchModule(
            module=module, options=options, reads=reads, features=features, tensors=tensors, activation=activation
        )


def computed(module: nn.Module, params: Mapping[str, Tensor], reads: Named, x: Tensor) -> Tensor:
    """Compute one network's features (B, features) from flat observations (B, numbers), with these parameters."""
    features: Tensor = torch.func.functional_call(module, dict(params), (shaped(x, reads),))
    return features


def shaped(x: Tensor, reads: Named) -> Any:
    """Return flat observations (B, numbers) in the shapes that a module reads: a tensor, or tensors by name."""
    sizes = [int(np.prod(shape)) for _, shape in reads]
    parts = {name: p.reshape(-1, *shape) for (name, shape), p in zip(reads, x.split_with_sizes(sizes, -1), strict=True)}
    return parts[""] if list(parts) == [""] else parts


@functools.lru_cache(maxsize=64)
def _found(module: str, options: str, reads: Named, where: str) -> tuple[Named, int]:
    """Make and check a module; returns its parameters' names and shapes, and how many features it gives."""
    tensors, features, _ = checked(module, options, reads, where)
    return tensors, features


@functools.lru_cache(maxsize=64)
def _of(module: str, options: str, reads: Named) -> tuple[nn.Module, Named, int]:
    """Make a module as described; returns it with its parameters' names and shapes, and how many features it gives."""
    tensors, features, its = checked(module, options, reads, f"module {module}")
    return its, tensors, features


def _module(encoder: TorchModule) -> nn.Module:
    """Return the module of a description, made once in this process.

    Raises:
        ConfigError: its function is not found or fails, or it is another module than the one described.
    """
    module, tensors, features = _of(encoder.module, encoder.options, encoder.reads)
    if (tensors, features) != (encoder.tensors, encoder.features):
        mine, theirs = dict(tensors), dict(encoder.tensors)
        odd = next((name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)), "features")
        raise ConfigError(
            f"module {encoder.module}: {odd} is {mine.get(odd, features if odd == 'features' else 'missing')} here, "
            f"expected {theirs.get(odd, encoder.features if odd == 'features' else 'none')} as in the policy; install "
            "the version of the module that the policy was trained with"
        )
    return module


@functools.lru_cache(maxsize=64)
def _stackable(encoder: TorchModule) -> bool:
    """Whether stacked networks of this module are computed at once, with the results that each has alone."""
    module = _module(encoder)
    return can_be_stacked(lambda p, x: computed(module, p, encoder.reads, x), module, encoder)
