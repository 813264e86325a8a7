"""`covey check-env` tries an environment out and reports what covey can do with it.

Numpy and the environment's packages are imported where they are needed: every `covey` command loads this module.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Any

import typer

from covey.errors import ConfigError, SpaceError, one_line

if TYPE_CHECKING:
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
        str,
        typer.Argument(
            metavar="MODULE[:FUNCTION]", help="The environment: a module, or a file of yours as ./FILE.py[:FUNCTION]."
        ),
    ],
    config: Annotated[
        list[str] | None, typer.Option("--config", metavar="KEY=VALUE", help="An argument of it (YAML); repeatable.")
    ] = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Env steps to play at random.")] = 1000,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Try an environment out: agents, spaces, kind, speed, and what covey will do with it.

    Ends with exit code 0 if covey can train in it.
    """
    from covey.envs import load_environment
    from covey.envs.check import check_environment
    from covey.envs.own_modules import entry_point_of, search

    logging.basicConfig(format="%(message)s")
    here = Path.cwd()
    search(here)
    entry_point = entry_point_of(environment, here)
    report = check_environment(load_environment(entry_point, arguments_of(config or [])), steps)
    result = as_answer(report)
    if as_json:
        typer.echo(json.dumps(result))
    else:
        _show(result)
    if not report.trainable:
        raise typer.Exit(SpaceError.exit_code)


def as_answer(report: EnvironmentReport) -> dict[str, Any]:
    """Convert what is known about an environment to the JSON object that `covey check-env --json` prints."""
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
        "steps_per_s": seen and seen.steps_per_s,
        "episodes": len(lengths),
        "episode_length": {"min": min(lengths), "mean": fmean(lengths), "max": max(lengths)} if lengths else None,
        "faults": seen.faults if seen else [],
        "api_test": report.api_test,
        "api_warnings": list(report.api_warnings),
        "will": list(report.will),
        "cannot": list(report.cannot),
    }


def arguments_of(config: list[str]) -> dict[str, Any]:
    """Parse texts `key=value`, values in YAML, into keyword arguments for an environment.

    Raises:
        ConfigError: a text has another form.
    """
    from covey.config.yaml_text import parse_yaml

    arguments = {}
    for text in config:
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
        typer.echo(
            f"{result['steps']} env steps, {result['steps_per_s']:,.0f} per s; {result['episodes']} episodes{ended}"
        )
    for fault in result["faults"]:
        typer.echo(f"raised {fault}")
    typer.echo(f"PettingZoo's API test: {result['api_test']}")
    for warning in result["api_warnings"]:
        typer.echo(f"  warned: {warning}")
    for sentence in result["will"]:
        typer.echo(f"+ {sentence}")
    for sentence in result["cannot"]:
        typer.echo(f"- cannot train: {sentence}")
