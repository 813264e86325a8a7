"""`covey check-env` tries an environment out and reports what covey can do with it.

Numpy and the environment's packages are imported where they are needed: every `covey` command loads this module.
"""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covey.cli.old_pydantic import asks_for_pydantic
from covey.errors import ConfigError, SpaceError, one_line

if TYPE_CHECKING:
    from covey.config import Config
    from covey.envs.check import EnvironmentReport

KINDS = {
    "simultaneous": "all living agents act in every step",
    "turn-based": "one agent acts in a step, the others wait",
    "asynchronous": "some agents act in a step, the others wait",
    "unknown": "not played",
}


def register(app: typer.Typer) -> None:
    """Add `covey check-env` to the command line."""
    app.command("check-env")(check_env)


def check_env(
    environment: Annotated[
        str | None,
        typer.Argument(
            metavar="MODULE[:FUNCTION]",
            help="The environment: a module, or a file of yours as ./FILE.py[:FUNCTION]. Left out: that of --config "
            "FILE.yaml.",
        ),
    ] = None,
    config: Annotated[
        list[str] | None,
        typer.Option(
            "--config",
            metavar="KEY=VALUE|FILE",
            help="Argument of the environment's function, in YAML; repeatable. Or the YAML file of a run, whose "
            "algorithm, networks and sizes are checked too.",
        ),
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Number of env steps to play at random.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Try an environment out: its agents and spaces, who acts when, its speed, and whether covey can train in it.

    Ends with exit code 0 if covey can, 3 or 4 if not.
    """
    from covey.envs import load_environment
    from covey.envs.check import check_environment
    from covey.envs.check_evaluation import try_evaluation
    from covey.envs.own_modules import entry_point_of, search

    logging.basicConfig(format="%(message)s")
    here = Path.cwd()
    search(here)
    entry_point = None if environment is None else entry_point_of(environment, here)
    run = _run([text for text in config or [] if "=" not in text], entry_point)
    entry_point = run.environment.name if run else entry_point
    if entry_point is None:
        raise ConfigError(
            "MODULE: missing, expected an environment such as mpe2.simple_spread_v3, or --config FILE.yaml"
        )
    arguments = {**(run.environment.config if run else {}), **arguments_of([t for t in config or [] if "=" in t])}
    groups = run.environment.groups if run else None
    ignored = run.environment.ignore_observations if run else ()
    frames, state = (run.environment.frame_stack, run.environment.state) if run else (1, False)
    factory = load_environment(entry_point, arguments)
    report = check_environment(factory, steps, groups=groups, ignored=ignored, frame_stack=frames, state=state)
    if run and run.environment.evaluation:
        evaluation = load_environment(entry_point, {**arguments, **run.environment.evaluation})
        report = try_evaluation(report, evaluation, steps, groups, ignored, frames, state)
    parameters: dict[str, int] = {}
    encoders: dict[str, dict[str, Any]] = {}
    try:
        from covey.cli.run_limits import run_limits
    except ImportError as exc:
        if not (asked := asks_for_pydantic(exc)):
            raise
        report = replace(report, will=(*report.will, f"networks: not counted, as {asked}"))
    else:
        if report.spaces:
            limits = run_limits(report.spaces, entry_point, run)
            report = replace(report, will=(*report.will, *limits.will), cannot=(*report.cannot, *limits.cannot))
            parameters, encoders = limits.parameters, limits.encoders
    result = {**as_answer(report), "parameters": parameters}
    for agent in result["agents"]:
        agent["encoder"] = encoders.get(agent["agent_id"])
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _show(result)
    if not report.trainable:
        raise typer.Exit(SpaceError.exit_code)


def as_answer(report: EnvironmentReport) -> dict[str, Any]:
    """Convert what is known about an environment to the JSON object that `covey check-env --json` prints."""
    from covey.rows import RowSchema

    spaces, seen = report.spaces, report.behaviour
    group_of = {a: g.group_id for g in spaces.groups for a in g.agents} if spaces else {}
    masked = {a.agent_id for a in spaces.agents if a.masked} if spaces else set()
    lengths = seen.episode_lengths if seen else []
    return {
        "environment": report.entry_point,
        "interface": report.interface,
        "trainable": report.trainable,
        "agents": [
            {
                "agent_id": agent,
                "group": group_of.get(i),
                "observation": observation,
                "action": action,
                "masked": agent in masked,
            }
            for i, (agent, (observation, action)) in enumerate(report.declared.items())
        ],
        "kind": report.kind,
        "agents_die": seen and seen.dies,
        "agents_appear_later": seen and seen.appears_later,
        "masks_forbid": seen and seen.restricts,
        "forces_actions": seen and seen.forces,
        "steps": seen.steps if seen else 0,
        "steps_per_s": seen and seen.timed.steps_per_s,
        "timed_copies": seen and seen.timed.copies,
        "episodes": len(lengths),
        "episode_length": {"min": min(lengths), "mean": fmean(lengths), "max": max(lengths)} if lengths else None,
        "outside": seen.outside if seen else [],
        "faults": seen.faults if seen else [],
        "row_bytes": RowSchema.of(spaces).row_bytes if spaces else None,
        "api_test": report.api_test,
        "api_warnings": list(report.api_warnings),
        "will": list(report.will),
        "cannot": list(report.cannot),
    }


def _run(files: list[str], entry_point: str | None) -> Config | None:
    """Load the configuration of a run, given as one file; None without one.

    Args:
        files: What `--config` gave without "=".
        entry_point: The environment that was named besides; None: none was.

    Raises:
        ConfigError: several files, one that is none, or one of a run in another environment.
    """
    if not files:
        return None
    from covey.config import load_config
    from covey.run.own_environment import with_entry_point

    path = Path(files[0])
    if len(files) > 1 or path.suffix not in (".yaml", ".yml"):
        raise ConfigError(
            f"--config {' '.join(files)}: expected key=value, such as --config continuous_actions=true, or one YAML "
            "file of a run, such as --config job.yaml"
        )
    run = with_entry_point(load_config(path), path.parent, Path.cwd())
    if entry_point not in (None, run.environment.name):
        raise ConfigError(
            f"--config {path} is of a run in {run.environment.name}, expected {entry_point} as named besides; leave "
            "one of the two out"
        )
    return run


def arguments_of(config: list[str]) -> dict[str, Any]:
    """Parse texts `key=value`, values in YAML, into keyword arguments for an environment.

    Raises:
        ConfigError: a text has another form.
    """
    arguments = {}
    for text in config:
        from covey.config.yaml_text import parse_yaml  # which needs pydantic 2: not every machine of an actor has it

        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise ConfigError(f"--config {text}: expected key=value, such as --config continuous_actions=true")
        arguments[key] = parse_yaml(value, f"--config {text}")
    return arguments


def _show(result: dict[str, Any]) -> None:
    """Print what was found out about an environment, for people."""
    typer.echo(f"{result['environment']} ({result['interface']})")
    for agent in result["agents"]:
        name = one_line(agent["agent_id"], 60) or "''"
        typer.echo(f"  {name}" + (f", group {agent['group']}" if agent["group"] else ""))
        typer.echo(f"    sees {agent['observation']}")
        if encoder := agent["encoder"]:
            each = ", ".join(f"{kind} for {leaf}" for leaf, kind in encoder["leaves"].items())
            typer.echo(f"    read by the encoder {encoder['kind']}" + (f": {each}" if each else ""))
        typer.echo(f"    does {agent['action']}" + (", some of it masked" if agent["masked"] else ""))
    traits = [
        text
        for key, text in (
            ("agents_die", "agents end before their episode"),
            ("agents_appear_later", "agents appear later"),
            ("masks_forbid", "masks forbid actions"),
            ("forces_actions", "actions are forced"),
        )
        if result[key]
    ]
    typer.echo("; ".join([f"{result['kind']}: {KINDS[result['kind']]}", *traits]))
    if result["steps"]:
        length = result["episode_length"]
        ended = f", of {length['min']} to {length['max']} steps (mean {length['mean']:.1f})" if length else ""
        pace = f"{result['steps_per_s']:,.0f} per s"
        pace += f" as {result['timed_copies']} copies" if result["timed_copies"] > 1 else ""
        typer.echo(f"{result['steps']} env steps, {pace}; {result['episodes']} episodes{ended}")
    for fault in result["faults"]:
        typer.echo(f"raised {fault}")
    typer.echo(f"PettingZoo's API test: {result['api_test']}")
    for warning in result["api_warnings"]:
        typer.echo(f"  warned: {warning}")
    for sentence in result["will"]:
        typer.echo(f"+ {sentence}")
    for sentence in result["cannot"]:
        typer.echo(f"- cannot train: {sentence}")
