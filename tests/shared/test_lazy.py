"""Names that packages import when they are asked for."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("package", ["covey", "covey_server"])
def test_type_checkers_see_the_names_that_a_package_offers(package: str) -> None:
    module = importlib.import_module(package)
    tree = ast.parse(Path(str(module.__file__)).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    seen = {
        (node.module, alias.name, alias.asname)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert {as_name for _, _, as_name in seen} == set(module.__all__)
    for source, name, as_name in seen:
        assert name == as_name
        assert getattr(module, name) is getattr(importlib.import_module(str(source)), name)


@pytest.mark.parametrize("package", ["covey", "covey_server"])
def test_importing_a_package_imports_nothing_heavy(package: str) -> None:
    script = f"import sys, {package}; print(sorted({{'numpy', 'torch', 'pettingzoo', 'grpc'}} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_name_that_a_package_does_not_offer_is_an_attribute_error() -> None:
    import covey

    with pytest.raises(AttributeError, match="module 'covey' has no attribute 'nothing'"):
        _ = covey.nothing
