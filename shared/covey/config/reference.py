"""The page docs/configuration.md: every section of the file and every key, from the models and their descriptions."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from covey.config.config import Config
from covey.config.evolution import RLParameter
from covey.config.network import NetConfig
from covey.config.resuming import on_resume
from covey.config.schedule import SCHEDULE
from covey.config.schema import Algorithms, algorithm_name, all_algorithms, description, evolvable, meaning

HEAD = """# Configuration

One YAML file configures a run; the jobs in `examples/` show whole files. Sections and keys are those of AgileRL's
manifests, and some of covey's own. An unknown key is an error that names the nearest valid one. A key without a value
has its default, unless `null` is one of its values. A key without a default must be given.

On the command line `--set section.key=value` overrides a key, as often as needed; the value is YAML.

Units end a name: `_s` seconds, `_bytes` bytes, `_steps` **env steps** (one `step()` of one environment, whatever the
number of its agents). `max_steps`, `evo_steps` and `learn_step` count per member; `learning_delay`, `random_steps` and
the size of the replay memory count over the whole population.

`covey train --resume RUN --set section.key=value` goes on with other values where the tables say that a key may change
in a run: from then on or, "in all members", in the place of what evolution has made of it. `RUN/config.yaml` then has
them, `config.1.yaml`, `config.2.yaml` ... beside it what held before.

This page is written by `make docs`; `covey schema --format markdown` prints it with the algorithms that are installed.

## In an editor

An editor can complete keys, show their meanings and mark mistakes while one types:

```sh
covey schema > covey.schema.json
```

Then let the file say where its schema is, in its first line, by a path that starts from the file's folder:

```yaml
# yaml-language-server: $schema=covey.schema.json
algorithm:
  name: MATD3
```

Editors with the YAML language server read that line: VS Code with Red Hat's extension "YAML", Neovim, Emacs, Helix and
others. In PyCharm, map the schema to the file in "JSON Schema Mappings". The schema has the keys of this page, and not
those that only AgileRL's manifests have.
"""

MANIFESTS = """
## Manifests of AgileRL

AgileRL's multi-agent manifests train as they are: `covey train maddpg.yaml`. There are two forms of them, one with the
sections of this page and an older one with `INIT_HP`, `MUTATION_PARAMS` and `NET_CONFIG`; covey reads both. With
either, `--set` takes the keys of this page, and a key that the manifest leaves out has the default of this page.

- Other names for keys of this page: `replay_buffer.memory_size`, `training.population_size`,
  `training.metrics_interval`, `environment.env_config`, `environment.sync`, and `environment.entrypoint` (`name` is
  then a label).
- `mutation.rand_seed` is `training.seed`, where that is not given. `training.sum_scores: false` is
  `fitness.reduce: mean`; the scores of each agent are reported with either. `pettingzoo.mpe.*` is `mpe2.*`.
- A key that covey does not have is named in a warning, which says what happens instead: all kinds of parameter mutation
  become one.
- A value that would make it another experiment is an error: `squash_output: true`, wrappers, prioritised or multi-step
  replay, `hpo: false`.
"""


def configuration_page() -> str:
    """The whole page, in Markdown, with the algorithms that are installed."""
    algorithms = all_algorithms()
    tables = [_table("The file", description(Config), Config)]
    for name, field in Config.model_fields.items():
        title = f"`{name}`" + (f" (also `{field.alias}`)" if field.alias else "")
        if name == "algorithm":
            tables += [_table(f"`algorithm` of {algorithm_name(a)}", description(a), a) for a in algorithms]
        elif model := NetConfig if name == "network" else _section(field.annotation):
            tables += [_table(title, meaning(field), model), *_nested(name, model, algorithms)]
    return HEAD + "".join(tables) + MANIFESTS


def _nested(path: str, model: type[BaseModel], algorithms: Algorithms) -> Iterator[str]:
    """Tables of the sections within a section; one table for several of the same model."""
    paths: dict[type[BaseModel], list[str]] = {}
    for name, field in model.model_fields.items():
        if inner := _section(field.annotation):
            any_name = ".NAME" if get_origin(field.annotation) is dict else ""
            paths.setdefault(inner, []).append(f"{path}.{name}{any_name}")
    for inner, its in paths.items():
        note = description(inner)
        if inner is RLParameter:
            note += f" NAME is a hyperparameter of the algorithm:\n\n{_hyperparameters(algorithms)}"
        yield _table(", ".join(f"`{p}`" for p in its), note, inner)
        for each in its:
            yield from _nested(each, inner, algorithms)


def _hyperparameters(algorithms: Algorithms) -> str:
    """A list of the hyperparameters that may evolve, a line for each algorithm."""
    lines = [f"- {algorithm_name(a)}: {', '.join(f'`{name}`' for name in evolvable(a))}" for a in algorithms]
    return "\n".join(lines)


def _table(title: str, note: str, model: type[BaseModel]) -> str:
    """Heading, note and table of one section."""
    # What must be given comes first.
    fields = sorted(model.model_fields.items(), key=lambda item: not item[1].is_required())
    rows = [_row(model, name, field) for name, field in fields]
    head = "| key | default | expected | may change in a run | meaning |\n|---|---|---|---|---|\n"
    return f"\n## {title}\n\n{note}\n\n{head}" + "".join(rows)


def _row(model: type[BaseModel], name: str, field: FieldInfo) -> str:
    """One key's line of a table."""
    key = f"`{name}`" + (f" (also `{field.alias}`)" if field.alias else "")
    changes = "see below" if _section(field.annotation) else on_resume(model, name)
    cells = (key, _default(field), _expected(field), changes, " ".join(meaning(field).split()))
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |\n"


def _default(field: FieldInfo) -> str:
    """The default as YAML would write it."""
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, BaseModel):
        return "see below"
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return "`true`" if value else "`false`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def _expected(field: FieldInfo) -> str:
    """Type and bounds in words."""
    text = _type(field.annotation)
    signs = {annotated_types.Ge: "ge", annotated_types.Gt: "gt", annotated_types.Le: "le", annotated_types.Lt: "lt"}
    words = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    bounds = [
        f"{words[a]} {_number(getattr(m, a))}" for m in field.metadata for t, a in signs.items() if isinstance(m, t)
    ]
    lengths = [f"at least {m.min_length} long" for m in field.metadata if isinstance(m, annotated_types.MinLen)]
    lengths += [f"at most {m.max_length} long" for m in field.metadata if isinstance(m, annotated_types.MaxLen)]
    moving = ["or `{from, to}`"] if SCHEDULE in field.metadata else []
    return ", ".join([text, *bounds, *lengths, *moving])


def _number(value: float) -> str:
    """The number; a large power of two, as sizes and seeds have them, as a power."""
    power = int(value).bit_length() - 1
    return f"2^{power}" if power >= 16 and value == 1 << power else str(value)


def _type(annotation: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{a}`" for a in arguments)
    if origin in (Union, types.UnionType) and not _section(annotation):
        return " or ".join("null" if a is types.NoneType else _type(a) for a in arguments)
    if origin is Annotated:
        return _type(arguments[0])
    if origin is list:
        return f"list of {_type(arguments[0])}"
    names = {bool: "true or false", int: "integer", float: "number", str: "text"}
    return names.get(annotation, "mapping" + (" or null" if types.NoneType in arguments else ""))


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model of the section that a key of this type holds, or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for argument in get_args(annotation) if (model := _section(argument))), None)
