"""What the documents say can be done, can be done."""

import json
import re
import subprocess
import sys
from pathlib import Path

import zstandard
from typer.main import get_command

from covey.cli import build_app
from covey.config import Config, load_config
from covey.rows import RowKind, RowSchema
from covey.spaces import AgentSpec, Box, Discrete, EnvironmentSpaces

ROOT = Path(__file__).parents[2]
PAGES = [p for p in ROOT.rglob("*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]


def test_every_make_target_named_in_a_page_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {(p.name, t) for p in PAGES for t in re.findall(r"`make ([a-z-]+)", p.read_text())}
    assert {("README.md", "train"), ("README.md", "test")} <= named
    assert {(page, target) for page, target in named if target not in targets} == set()


def test_every_covey_command_named_in_a_page_exists() -> None:
    commands = set(get_command(build_app()).commands)  # type: ignore[attr-defined]
    code = [
        piece
        for page in PAGES
        for piece in re.findall(r"^```sh\n(.*?)^```|`([^`\n]+)`", page.read_text(), re.MULTILINE | re.DOTALL)
    ]
    lines = [line for blocks in code for block in blocks for line in block.splitlines()]
    named = {found[1] for line in lines if (found := re.match(r"(?:\.venv/bin/)?covey ([a-z][a-z-]*)", line))}
    assert {"train", "learner", "actor", "status"} <= named
    assert named <= commands


def test_every_file_and_folder_that_a_page_links_to_exists() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_the_configuration_page_is_fresh() -> None:
    command = [sys.executable, "-m", "benchmarks.pages.configuration", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_every_example_is_a_valid_configuration() -> None:
    examples = {p.stem: load_config(p) for p in (ROOT / "examples").glob("*.yaml")}
    assert {"speaker_listener", "page_maddpg"} <= set(examples)
    assert all(isinstance(c, Config) for c in examples.values())


def test_the_byte_example_of_the_wire_specification_is_what_the_code_gives() -> None:
    spaces = EnvironmentSpaces.build(
        [AgentSpec(f"scout_{i}", Box("float32", (1,), (-1.0,), (1.0,)), Discrete(3)) for i in range(2)]
    )
    schema = RowSchema.of(spaces)
    text = (ROOT / "proto" / "README.md").read_text()
    assert json.dumps([[c.name, c.dtype, list(c.shape)] for c in schema.columns], separators=(",", ":")) in text
    assert f"Its hash is `{schema.hash.hex()}`, a row has {schema.row_bytes} bytes" in text
    dump = dict(re.findall(r"^(kind|scout/[a-z]+) +((?:[0-9a-f]{2} *)+)$", text, re.MULTILINE))
    raw = b"".join(bytes.fromhex(dump[c.name]) for c in schema.columns)
    rows = schema.decode(zstandard.ZstdCompressor(write_checksum=True).compress(raw), 2, len(raw))
    assert rows["kind"].tolist() == [RowKind.STEP, RowKind.FINAL]
    assert rows["scout/observation"][..., 0].tolist() == [[0.5, -1.0], [0.25, 0.0]]
    assert rows["scout/action"].tolist() == [[2, 1], [0, 0]]
    assert rows["scout/active"].tolist() == rows["scout/terminated"].tolist() == [[1, 1], [0, 0]]
    assert rows["scout/reward"].tolist() == [[1.0, -0.5], [0.0, 0.0]]
