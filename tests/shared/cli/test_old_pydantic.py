"""What a command says where pydantic is too old for configurations, or missing."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError

import pytest

from covey.cli import describe, old_pydantic
from covey.errors import ConfigError


@pytest.mark.parametrize(
    ("exc", "installed", "says"),
    [
        (ImportError("cannot import name 'model_validator'", name="pydantic"), "1.9.1", "pydantic 1.9.1 is installed"),
        (ModuleNotFoundError("No module named", name="pydantic_core"), "1.10.2", "pydantic 1.10.2 is installed"),
        (ModuleNotFoundError("No module named", name="pydantic.json_schema"), None, "pydantic is not installed"),
    ],
)
def test_a_sentence_says_what_is_installed_and_what_is_needed(
    exc: ImportError, installed: str | None, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def version(_: str) -> str:
        if installed is None:
            raise PackageNotFoundError("pydantic")
        return installed

    monkeypatch.setattr(old_pydantic, "version", version)
    sentence, code = describe(exc)
    assert sentence.startswith(f"{says}, expected 2.7 or newer") and code == ConfigError.exit_code


def test_other_errors_are_none_of_its_business() -> None:
    assert old_pydantic.asks_for_pydantic(ImportError("x", name="pydantics")) == ""
    assert old_pydantic.asks_for_pydantic(ValueError("pydantic")) == ""
