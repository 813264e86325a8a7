"""Names that a package offers and imports only when they are asked for, so that importing the package costs nothing."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """The `__getattr__`, `__dir__` and `__all__` of a package whose names lie in other modules.

    Type checkers do not follow them: the package also imports the names under `TYPE_CHECKING`, each `as` itself.

    Args:
        package: The package's own name, for errors.
        names: What the package offers, by the module that holds it.
    """
    modules = {name: module for module, its in names.items() for name in its}

    def get(name: str) -> Any:
        if name in modules:
            return getattr(import_module(modules[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    offered = sorted(modules)
    return get, lambda: offered, offered
