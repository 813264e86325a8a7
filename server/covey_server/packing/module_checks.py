"""What a `torch.nn.Module` of one's own must be to be an encoder, found out by making it and trying it.

It is tried on random observations, so whatever makes outputs depend on more than a sample and the parameters is found:
dropout, statistics of a batch, state that is no parameter.
"""

from __future__ import annotations

import importlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from covey.errors import ConfigError, one_line
from covey.networks.torch_module import Named, TorchModule

logger = logging.getLogger("covey")

SAMPLES = 5
"""Samples on which a module is tried."""


def made(module: str, options: str, reads: Named, where: str, seed: int) -> tuple[nn.Module, Any]:
    """Make a module by its function, in evaluation mode, with torch's random numbers from a seed.

    Args:
        module: The function, "package.module:function".
        options: Its keyword arguments, a JSON object as text.
        reads: The shapes that it reads, by name.
        where: Begins the sentences of errors.
        seed: Seed of torch's random numbers.

    Returns:
        The module, and its outputs for zeros, which parameters that are made late need to be there.

    Raises:
        ConfigError: the function is not found or fails, returns no module, or the module fails.
    """
    function = _function(module, where)
    given = reads[0][1] if reads[0][0] == "" else dict(reads)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        try:
            its = function(given, **json.loads(options))
        except Exception as exc:  # whatever a stranger's function raises
            raise ConfigError(
                f"{where}: {module} raised {_told(exc)} when called with {_shown(given)} and {options}, expected "
                "a torch.nn.Module; give its keyword arguments in encoder_config.options"
            ) from exc
        if not isinstance(its, nn.Module):
            raise ConfigError(
                f"{where}: {module} returned {type(its).__name__}, expected a torch.nn.Module; let the function return "
                "the module that it makes"
            )
        its.eval()
        outputs = _tried(its, _observations(reads, zeros=True), module, given, where)
    return its, outputs


def checked(module: str, options: str, reads: Named, where: str) -> tuple[Named, int, nn.Module]:
    """Make a module and check that it can be an encoder; returns its parameters' shapes, its features, and itself.

    Raises:
        ConfigError: it cannot; says what it does and what is expected.
    """
    its, outputs = made(module, options, reads, where, 0)
    given = reads[0][1] if reads[0][0] == "" else dict(reads)
    _check_outputs(outputs, module, given, where)
    tensors = _parameters(its, module, where)
    again, _ = made(module, options, reads, where, 0)
    if any(not torch.equal(p, q) for p, q in zip(its.parameters(), again.parameters(), strict=True)):
        raise ConfigError(
            f"{where}: {module} made other weights from the same seed, expected them to follow from torch's random "
            "numbers; draw initial weights with torch"
        )
    seen = _observations(reads)
    before = {name: x.clone() for name, x in seen.items()}

    def run() -> Tensor:
        y: Tensor = _tried(its, seen, module, given, where)
        return y

    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = run()
        its.train()
        others = [run(), run()]
        its.eval()
        if any(not torch.equal(x, before[name]) for name, x in seen.items()):
            raise ConfigError(f"{where}: {module} changes its input in place, expected it to stay; copy it first")
        dropout = any(isinstance(part, nn.modules.dropout._DropoutNd) for part in its.modules())
        if dropout or any(not torch.equal(first, y) for y in others):
            raise ConfigError(
                f"{where}: {module} computes something else in training, or draws random numbers (dropout?), expected "
                "outputs that follow from observation and parameters alone; leave that layer out"
            )
        if not torch.isfinite(first).all():
            raise ConfigError(f"{where}: {module} gave numbers that are not finite for observations between 0 and 1")
        alone = _tried(its, {name: x[:1] for name, x in seen.items()}, module, given, where)
        if not torch.allclose(first[:1], alone, rtol=1e-3, atol=1e-4):
            raise ConfigError(
                f"{where}: {module} gives a sample other outputs beside other samples (batch normalisation?), expected "
                "each to be computed from its own observation; use nn.LayerNorm or nn.GroupNorm"
            )
    return tensors, outputs.shape[-1], its


def can_be_stacked(
    compute: Callable[[Mapping[str, Tensor], Tensor], Tensor], module: nn.Module, encoder: TorchModule
) -> bool:
    """Whether two networks of a module computed at once give what each gives alone, gradients included.

    Args:
        compute: Computes the module with the given parameters and flat observations.
        module: The module.
        encoder: Its description.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(2, SAMPLES, encoder.numbers, generator=generator)
    own = dict(module.named_parameters())
    stacks = {n: torch.stack([p.detach(), 0.9 * p.detach()]).requires_grad_() for n, p in own.items()}
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("error")  # such as that a part of it is slow in stacks
            together = torch.func.vmap(compute, randomness="error")(stacks, x)
            apart = torch.stack([compute({n: s[k] for n, s in stacks.items()}, x[k]) for k in range(2)])
            found = [
                torch.autograd.grad(y.square().sum(), list(stacks.values()), allow_unused=True, materialize_grads=True)
                for y in (together, apart)
                if stacks
            ]
    except Exception as exc:  # whatever torch raises for operations that it cannot compute in stacks
        logger.info("module %s: computed network by network (%s)", encoder.module, _told(exc))
        return False
    pairs = [(together, apart), *(pair for pair in zip(*found, strict=True))]
    same = all(torch.allclose(a, b, rtol=1e-3, atol=1e-4) for a, b in pairs)
    if not same:
        logger.info("module %s: computed network by network, as stacks give other results", encoder.module)
    return same


def _function(module: str, where: str) -> Callable[..., Any]:
    """Import the function that makes a module.

    Raises:
        ConfigError: it is not found, or its file raises.
    """
    name, _, function = module.partition(":")
    try:
        found = getattr(importlib.import_module(name), function)
    except Exception as exc:  # whatever a stranger's file raises when it is imported
        raise ConfigError(
            f"{where}: {module} does not load ({_told(exc)}), expected a function that Python finds as "
            "package.module:function; correct the name, or install its package or start in the folder of its file"
        ) from exc
    if not callable(found):
        raise ConfigError(f"{where}: {module} is {type(found).__name__}, expected a function that makes a module")
    return found  # type: ignore[no-any-return]


def _observations(reads: Named, *, zeros: bool = False) -> dict[str, Tensor]:
    """Return a few observations by name, random from 0 to 1, or zeros."""
    generator = torch.Generator().manual_seed(1)
    make = torch.zeros if zeros else lambda *shape: torch.rand(*shape, generator=generator)
    return {name: make(SAMPLES, *shape) for name, shape in reads}


def _tried(its: nn.Module, seen: dict[str, Tensor], module: str, given: Any, where: str) -> Any:
    """Call a module with observations, a tensor or tensors by name.

    Raises:
        ConfigError: it raises an exception.
    """
    try:
        return its(seen[""] if list(seen) == [""] else dict(seen))
    except Exception as exc:  # whatever a stranger's module raises
        raise ConfigError(
            f"{where}: {module} raised {_told(exc)} for observations of {_shown(given)} behind a batch axis, expected "
            "features for each; correct the module"
        ) from exc


def _check_outputs(outputs: Any, module: str, given: Any, where: str) -> None:
    """Check that a module gave a tensor of floating-point numbers (samples, features).

    Raises:
        ConfigError: it gave something else.
    """
    if not isinstance(outputs, Tensor):
        raise ConfigError(
            f"{where}: {module} gave {type(outputs).__name__}, expected one tensor (batch, features); return that alone"
        )
    if outputs.dtype != torch.float32:
        raise ConfigError(f"{where}: {module} gave numbers of {outputs.dtype}, expected torch.float32; convert them")
    if outputs.dim() != 2 or len(outputs) != SAMPLES or outputs.shape[1] < 1:
        raise ConfigError(
            f"{where}: {module} gave shape {tuple(outputs.shape)} for {SAMPLES} observations of {_shown(given)}, "
            f"expected ({SAMPLES}, features); flatten what it computes"
        )


def _parameters(its: nn.Module, module: str, where: str) -> Named:
    """Return the names and shapes of a module's parameters.

    Raises:
        ConfigError: it has buffers, or parameters that cannot be trained as float32.
    """
    buffers = [name for name, _ in its.named_buffers()]
    if buffers:
        raise ConfigError(
            f"{where}: {module} has buffers ({', '.join(buffers[:3])}), expected parameters alone, as no other state "
            "travels to actors; use layers without running statistics, such as nn.LayerNorm, and plain attributes for "
            "constants"
        )
    for name, p in its.named_parameters():
        if p.dtype != torch.float32 or not p.requires_grad:
            raise ConfigError(
                f"{where}: {module} has {name} of {p.dtype}{'' if p.requires_grad else ' that is not trained'}, "
                "expected parameters of torch.float32 that are all trained; make constants plain attributes"
            )
    return tuple((name, tuple(p.shape)) for name, p in its.named_parameters())


def _shown(given: Any) -> str:
    return one_line(str(given), 120)


def _told(exc: Exception) -> str:
    return f"{type(exc).__name__}: {one_line(str(exc), 200)}"
