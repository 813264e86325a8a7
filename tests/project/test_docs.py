"""What the documents say can be done, can be done."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import zstandard
from typer.main import get_command

from covey import errors
from covey.cli import INTERRUPTED, build_app
from covey.collect import evaluate
from covey.config import Config, load_config
from covey.envs import load_environment
from covey.envs.check import check_environment
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


def test_every_file_folder_and_heading_that_a_page_links_to_exists() -> None:
    for page in PAGES:
        for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
            found = page.parent / target if target else page
            assert found.exists(), f"{page.relative_to(ROOT)} links to {target}"
            assert not heading or heading in anchors(found), f"{page.relative_to(ROOT)} links to {target}#{heading}"


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_room_says_what_lives_there() -> None:
    packages = [ROOT / "server" / "covey_server", ROOT / "shared" / "covey"]
    rooms = [p.parent for package in packages for p in package.glob("*/__init__.py") if p.parent.name != "v1"]
    assert {"ingest", "config"} <= {room.name for room in rooms}
    for folder in (*rooms, ROOT / "server", ROOT / "shared", ROOT / "actor_client"):
        lines = (folder / "README.md").read_text().splitlines()
        assert 5 <= len(lines) <= 45, f"{folder.relative_to(ROOT)}/README.md has {len(lines)} lines"


def test_every_decision_is_a_page_of_its_own_and_in_the_index() -> None:
    folder = ROOT / "docs" / "decisions"
    pages = sorted(folder.glob("[0-9]*.md"))
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    index = (folder / "README.md").read_text()
    for page in pages:
        title, _, text = page.read_text().partition("\n")
        assert f"| [{page.name[:4]}]({page.name}) | {title.removeprefix(f'# {page.name[:4]}: ')} |" in index
        assert re.search(r"^Status: .+ Date: \d{4}-\d{2}\.$", text, re.MULTILINE), page.name
        assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Consequence"], page.name


def test_every_exit_code_says_what_to_do() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.CoveyError)]
    codes = {kind.exit_code for kind in kinds}
    explained = {int(code) for code in re.findall(r"^## (\d+): ", text, re.MULTILINE)}
    assert explained == codes | {0, INTERRUPTED}
    assert explained == {int(code) for code in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}


def test_the_environment_that_a_page_shows_can_be_trained_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, text = (ROOT / "docs" / "environments.md").read_text().partition("## Your own environment")
    text, _, _ = text.partition("\n## ")
    blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    (tmp_path / "meeting.py").write_text(blocks["python"])
    (tmp_path / "meeting.yaml").write_text(blocks["yaml"])
    monkeypatch.syspath_prepend(tmp_path)
    name = load_config(tmp_path / "meeting.yaml").environment.name
    report = check_environment(load_environment(name, {}), steps=100)
    assert report.trainable
    assert report.api_test == "passed"


def test_the_array_environment_that_a_page_shows_is_the_other_one_and_can_be_trained_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for page, name in (("environments", "twin"), ("array_environments", "meeting_arrays")):
        text = (ROOT / "docs" / f"{page}.md").read_text()
        blocks = dict(re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
        (tmp_path / f"{name}.py").write_text(blocks["python"])
        (tmp_path / "job.yaml").write_text(blocks["yaml"])
    arrays = load_environment(load_config(tmp_path / "job.yaml").environment.name, {})
    report = check_environment(arrays, steps=100)
    assert report.trainable and report.interface == "batched" and not any("seeds:" in s for s in report.will)
    assert report.spaces is not None
    seats = [None] * 2
    played = evaluate(arrays, report.spaces, seats, range(9), 0, 3)
    assert played == evaluate(load_environment("twin", {}), report.spaces, seats, range(9), 0, 3)
    assert {e.length for e in played} == {25} and len({e.returns[0] for e in played}) > 3


def test_the_configuration_page_is_fresh() -> None:
    command = [sys.executable, "-m", "covey", "schema", "--format", "markdown"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert result.returncode == 0, result.stderr
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert result.stdout == page, "docs/configuration.md is stale; run `make docs`"


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
