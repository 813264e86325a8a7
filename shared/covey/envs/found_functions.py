"""Finds the function that an environment's name means, with a one-sentence error for all that can go wrong."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from covey.envs.gymnasium_ids import GYMNASIUM_ID, registered, without_deprecations
from covey.envs.slots import describe
from covey.errors import EnvironmentLoadError

DEFAULT_FUNCTIONS = ("parallel_env", "env")
"""Functions that an entry point without one may mean: the first of these that its module has."""

ENTRY_POINT = re.compile(
    rf"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*(:([A-Za-z_]\w*(\.[A-Za-z_]\w*)?|{GYMNASIUM_ID.pattern}))?", re.ASCII
)
"""How the names of environments are written: "package.module:function", "package.module:Class.method",
"package.module:ID" of a gymnasium environment that the package registers, or "package.module"."""

_VERSIONED = re.compile(r"(.+)_v(\d+)")


def entry_function(entry_point: str) -> Callable[..., Any]:
    """Import the function that builds the environment.

    Raises:
        EnvironmentLoadError: the module does not import, or has no such function.
    """
    if not ENTRY_POINT.fullmatch(entry_point):
        raise EnvironmentLoadError(
            f"environment {entry_point!r}: expected package.module or package.module:function, or package:ID of a "
            "gymnasium environment, such as gymnasium:CartPole-v1"
        )
    name, _, attribute = entry_point.partition(":")
    module = _module(entry_point, name)
    if GYMNASIUM_ID.fullmatch(attribute):
        return registered(entry_point, name, attribute)
    for candidate in [attribute] if attribute else DEFAULT_FUNCTIONS:
        function = _attribute(module, candidate)
        if callable(function):
            return function  # type: ignore[no-any-return]
    raise EnvironmentLoadError(_no_function(entry_point, module, attribute))


def _module(entry_point: str, name: str) -> types.ModuleType:
    """Import a module; one that its package has by another name, as an attribute, is found too.

    Such an attribute must be a module of the same package: a name never leads to modules that a package has imported.
    """
    try:
        with without_deprecations():
            return importlib.import_module(name)
    except Exception as exc:  # the module's own code may raise anything
        parent, _, attribute = name.rpartition(".")
        if isinstance(exc, ModuleNotFoundError) and exc.name == name and parent in sys.modules:
            found = vars(sys.modules[parent]).get(attribute)
            if isinstance(found, types.ModuleType) and _package(found.__name__) == _package(name):
                return found
        raise EnvironmentLoadError(f"environment {entry_point}: {_import_reason(name, exc)}") from exc


def _attribute(module: types.ModuleType, name: str) -> Any:
    """A module's attribute; with a dot, a static or class method of a class of the module's own package; or None."""
    owner, dot, method = name.partition(".")
    found = getattr(module, owner, None)
    if not dot:
        return found
    if not isinstance(found, type) or _package(found.__module__) != _package(module.__name__):
        return None
    return getattr(found, method, None) if isinstance(vars(found).get(method), staticmethod | classmethod) else None


def _package(module: str) -> str:
    """The top-level package of a module's name."""
    return module.partition(".")[0]


def _import_reason(name: str, exc: Exception) -> str:
    """Say in words why importing a module failed, and what to do about it."""
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        if name == exc.name or name.startswith(exc.name + "."):
            parent = exc.name.rpartition(".")[0]
            if not parent:
                return f"no module {exc.name!r} is installed; {_own_file_hint(exc.name)}"
            near = _nearest_module(exc.name)
            hint = f"did you mean {near}?" if near else "install its package here, or correct the name"
            return f"no module {exc.name!r} in package {parent!r}; {hint}"
        return f"module {name!r} needs {exc.name!r}, which is not installed; install it here"
    return f"importing {name!r} raised {describe(exc)}; repair its package, or correct the name"


def _own_file_hint(name: str) -> str:
    """What to do about a module that is not installed; its file may lie in this folder, perhaps by a similar name."""
    here = [path.stem for path in Path.cwd().glob("*.py")]
    here += [path.parent.name for path in Path.cwd().glob("*/__init__.py")]
    if name in here:
        return f"{name}.py lies in this folder, which is not searched: start with --env-path ."
    if close := difflib.get_close_matches(name, here, n=1):
        return f"did you mean {close[0]}, which lies in this folder?"
    return "install its package here, start in the folder of its file, or correct the name"


def _nearest_module(name: str) -> str | None:
    """Return the installed module that was probably meant: another version, or a similar name; None if none."""
    parent, _, wanted = name.rpartition(".")
    beside = [m.name for m in pkgutil.iter_modules(getattr(sys.modules[parent], "__path__", []))]
    versioned = _VERSIONED.fullmatch(wanted)
    if versioned:
        versions = [
            (abs(int(found[2]) - int(versioned[2])), m)
            for m in beside
            if (found := _VERSIONED.fullmatch(m)) and found[1] == versioned[1]
        ]
        if versions:
            return f"{parent}.{min(versions)[1]}"
    close = difflib.get_close_matches(wanted, beside, n=1)
    return f"{parent}.{close[0]}" if close else None


def _no_function(entry_point: str, module: types.ModuleType, attribute: str) -> str:
    """Make the error sentence for a function that a module does not have, with a similar name if there is one."""
    wanted = repr(attribute) if attribute else " or ".join(map(repr, DEFAULT_FUNCTIONS))
    functions = sorted(n for n, v in vars(module).items() if callable(v) and not n.startswith("_"))
    close = difflib.get_close_matches(attribute, functions, n=1)
    hint = f"; did you mean {module.__name__}:{close[0]}?" if close else "; name one as package.module:function"
    return f"environment {entry_point}: module {module.__name__!r} has no function {wanted}{hint}"
