"""Chooses how updates are run: as the setting `learner.updates` asks, if the installed torch and the device can."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shutil
from collections.abc import Iterable, Sequence

import torch

from covey.config import Config, Updates
from covey.config.architecture import modules_of
from covey.errors import ConfigError
from covey.networks import NetworkSpec
from covey_server.packing.updates.backend import UpdateBackend
from covey_server.packing.updates.private_torch import ALWAYS, CAPTURING, COMPILING, RECORDING, Private, missing

logger = logging.getLogger("covey.learner")

MOST_RECORDED = 4 << 20
"""Numbers of a population's networks up to which recordings pay. What they save, the price of calls, is lost in the
time that Adam takes over more numbers; and the results that a recording holds, gradients among them, are memory that
eager updates give back."""

HEAVIEST_RECORDED = 1 << 20
"""Multiplications that an observation takes in a network up to which recordings pay. Convolutions of large images take
more: their time is none of the calls', and a recording holds the results of all their layers for every sample."""

REMEDY = "install a torch within the bounds of covey's extra 'learner'"


def backend_for(updates: Updates, device: torch.device, networks: Iterable[NetworkSpec] = ()) -> UpdateBackend:
    """Return what runs the updates of one population, or refuse a setting that torch or the device cannot do.

    Args:
        updates: `learner.updates`. "auto" makes recordings on a CPU and CUDA graphs on CUDA, and is eager on other
            devices, in deterministic runs on CUDA, and where this torch can do neither.
        device: Where the population lives.
        networks: Its networks. On a CPU "auto" is eager for large ones (`MOST_RECORDED`, `HEAVIEST_RECORDED`).

    Raises:
        ConfigError: updates that this torch or this device cannot do. Where there is no compiler, "compiled" is "auto",
            with a warning.
    """
    _need("every kind of update", ALWAYS)
    kind = _automatic(device, list(networks)) if updates == "auto" else updates
    # Modules that use private names of torch are imported when these are known to be there.
    if kind == "recorded":
        _need("'recorded'", RECORDING)
        from covey_server.packing.updates.recorded import Recorded

        return Recorded()
    if kind == "graph":
        if device.type != "cuda":
            raise ConfigError(
                f"learner.updates: 'graph', expected auto, eager, recorded or compiled with learner.device "
                f"{str(device)!r}: CUDA graphs need CUDA; write auto, or set learner.device to cuda"
            )
        _need("'graph'", CAPTURING)
        from covey_server.packing.updates.cuda_graph import CudaGraphs

        return CudaGraphs()
    if kind == "compiled" and (lacking := _lacking_compiler(device)):
        _say_uncompiled(lacking)
        return backend_for("auto", device, networks)
    if kind == "compiled":
        _need("'compiled'", COMPILING)
        from covey_server.packing.updates.compiled import Compiled

        return Compiled()
    from covey_server.packing.updates.eager import Eager

    return Eager()


def backend_of(config: Config, device: torch.device, networks: Iterable[NetworkSpec] = ()) -> UpdateBackend:
    """Return what runs the updates of a run's population: `learner.updates`, but eagerly where modules are one's own.

    Their code may do anything, and decide by numbers, so that what a recording saw once need not be so again.

    Args:
        config: The run's configuration.
        device: Where updates are computed.
        networks: Those of its members.

    Raises:
        ConfigError: as `backend_for`, or another way than "auto" or "eager" is set beside such modules.
    """
    modules, updates = modules_of(config.network), config.learner.updates
    if modules and updates not in ("auto", "eager"):
        raise ConfigError(
            f"learner.updates: {updates!r} beside network module {modules[0]}, expected auto or eager: networks of "
            "one's own are updated eagerly; leave it out"
        )
    return backend_for("eager" if modules else updates, device, networks)


def is_recorded(config: Config, networks: Sequence[NetworkSpec]) -> bool:
    """Whether updates of a population with these networks are run from recordings on a CPU that can make them."""
    if config.learner.updates == "auto":
        return not modules_of(config.network) and not _heavy(networks)
    return config.learner.updates == "recorded"


def _heavy(networks: Sequence[NetworkSpec]) -> bool:
    """Whether networks are so large that recordings of their updates do not pay on a CPU."""
    numbers, heaviest = sum(n.numbers for n in networks), max((n.products for n in networks), default=0)
    return numbers > MOST_RECORDED or heaviest > HEAVIEST_RECORDED


def _automatic(device: torch.device, networks: Sequence[NetworkSpec]) -> Updates:
    if device.type == "cpu" and _heavy(networks):
        return "eager"
    if device.type == "cpu":
        kind, lacking = "recorded", missing(RECORDING)
    elif device.type == "cuda" and torch.are_deterministic_algorithms_enabled():
        # Graphs are eager updates but for rounding, so a restart would show; and torch's deterministic writes to
        # scattered rows wait for the device, which a capture cannot.
        return "eager"
    elif device.type == "cuda":
        kind, lacking = "graph", missing(CAPTURING)
    else:
        return "eager"
    if lacking:
        _say_once(lacking)
        return "eager"
    return "recorded" if kind == "recorded" else "graph"


@functools.cache
def _say_once(lacking: tuple[str, ...]) -> None:
    logger.warning(
        "learner.updates: torch %s is without %s: updates are eager, which takes about twice as long; %s",
        torch.__version__,
        ", ".join(lacking),
        REMEDY,
    )


def _need(what: str, names: Sequence[Private]) -> None:
    lacking = missing(tuple(names))
    if lacking:
        raise ConfigError(
            f"learner.updates: {what} needs {', '.join(lacking)}, which torch {torch.__version__} is without; {REMEDY}"
            + ("" if names is ALWAYS else ", or write eager")
        )


def _lacking_compiler(device: torch.device) -> str | None:
    """What torch.compile lacks to be able to compile, and what to do about it; None: nothing."""
    if device.type == "cuda":
        return (
            None if importlib.util.find_spec("triton") else "found no Triton, which compiling on CUDA needs; install it"
        )
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler):
        return None
    return f"found no C++ compiler {compiler!r}; install one, or name it in the environment variable CXX"


@functools.cache
def _say_uncompiled(lacking: str) -> None:
    logger.warning("learner.updates: 'compiled', but %s; updates are run as with 'auto' until then", lacking)
