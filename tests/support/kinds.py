"""Of which kind a test is, as its function, helpers and fixtures show: nobody has to mark it by hand."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

MARKED = ("learning", "engines")
"""Kinds that a test has because it says so."""

STARTERS = frozenset(
    {
        "subprocess",
        "grpc",
        "AsyncSlots",
        "AsyncPettingZooVecEnv",
        "InProcessActor",
        "LearnerProcess",
        "LocalActors",
        "multiprocessing",
        "make_multi_agent_vect_envs",
    }
)
"""Names by which tests start processes and servers: a test that mentions one of them is no `unit`."""


def kind_of(test: pytest.Item) -> str:
    """One of `learning`, `engines`, `process` and `unit`."""
    for kind in MARKED:
        if test.get_closest_marker(kind):
            return kind
    return "process" if "system" in test.path.parts or STARTERS & mentioned(test) else "unit"


def mentioned(test: pytest.Item) -> set[str]:
    """Names in the code of a test, its fixtures, its parameters, and of what these use of our own."""
    if not isinstance(test, pytest.Function):
        return set()
    fixtures = [definition.func for found in test._fixtureinfo.name2fixturedefs.values() for definition in found]
    parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
    acting = [value for value in parameters if isinstance(value, (FunctionType, functools.partial, type))]
    return set().union(*map(_mentioned, (test.function, *fixtures, *acting)))


@functools.cache
def _mentioned(beginning: Any) -> frozenset[str]:
    """Names in the code of a function or class, and of what it uses of our own, and so on."""
    names: set[str] = set()
    seen, waiting = set[int](), [beginning]
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        for code, scope in _codes(value):
            used = _names(code)
            names |= used
            ours = [scope[name] for name in used if name in scope and _is_ours(scope[name])]
            waiting += ours
            # Of a module only what is used of it, which is among the names too.
            modules = [module for module in ours if isinstance(module, ModuleType)]
            of_modules = [getattr(module, name) for module in modules for name in used if hasattr(module, name)]
            waiting += [value for value in of_modules if _is_ours(value)]
    return frozenset(names)


def _codes(value: Any) -> Iterator[tuple[CodeType, dict[str, Any]]]:
    """The code of a function, or of a class's methods, and the module that each is of."""
    if isinstance(value, type):
        for method in vars(value).values():
            yield from _codes(method)
        for base in value.__bases__:
            if _is_ours(base):
                yield from _codes(base)
        return
    function: Any = value.fget if isinstance(value, property) else getattr(value, "func", value)
    function = inspect.unwrap(function)
    if isinstance(function, FunctionType):
        yield function.__code__, function.__globals__


def _names(code: CodeType) -> set[str]:
    """All names in some code, that of functions within it included."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _is_ours(value: Any) -> bool:
    """Whether something is defined in the tests or the benchmarks."""
    home = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(home, str) and home.partition(".")[0] in ("tests", "benchmarks")
