"""`covey schema`: what it prints, and that it needs nothing of the learner."""

import json
import subprocess
import sys

import pytest
from jsonschema import Draft202012Validator

from covey.cli import run
from covey.config.reference import configuration_page


def test_it_prints_a_json_schema_for_editors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    Draft202012Validator.check_schema(schema)
    assert next(iter(schema)) == "$schema"
    assert schema["title"] == "Configuration of a covey run"
    assert schema["$defs"]["Training"]["properties"]["pop_size"]["default"] == 4


def test_it_prints_the_configuration_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == configuration_page()


def test_another_format_is_refused_in_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema", "--format", "xml"]) == 2
    said = capsys.readouterr().err
    assert "'xml'" in said and "json" in said and "markdown" in said and said.count("\n") == 1


def test_it_needs_no_torch_and_no_numpy() -> None:
    program = (
        "import sys; from covey.cli import run; run(['schema']); "
        "sys.exit(' '.join({'torch', 'numpy', 'pettingzoo'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["properties"]["algorithm"]
