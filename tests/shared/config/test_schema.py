"""The JSON schema and the page of a configuration: both say of every key what covey does with it."""

import types
from pathlib import Path
from typing import Any, get_args

import pydantic
import pytest
import yaml
from jsonschema import Draft202012Validator

from covey.config import (
    TLS,
    Config,
    Environment,
    IPPOSettings,
    MLPConfig,
    Mutation,
    NetConfig,
    RLParameter,
    parse_config,
)
from covey.config.reference import configuration_page
from covey.config.schema import algorithm_name, all_algorithms, config_schema, meaning
from covey.config.section import Section

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
SCHEMA = config_schema()

SMALLEST: dict[type[Section], dict[str, Any]] = {
    Config: {"algorithm": {"name": "MATD3"}, "environment": {"name": "mpe2.simple_v3"}, "training": {}},
    Environment: {"name": "mpe2.simple_v3"},
    TLS: {"certificate": "server.crt", "key": "server.key"},
    RLParameter: {"min": 0.25, "max": 0.75},
    **{settings: {"name": algorithm_name(settings)} for settings in all_algorithms()},
}
"""What a section must hold; of those that are not here, nothing."""


def inside(annotation: Any) -> list[type[Section]]:
    """The sections that a value of this type may hold."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation, *(m for f in annotation.model_fields.values() for m in inside(f.annotation))]
    return [model for argument in get_args(annotation) for model in inside(argument)]


SECTIONS = list(dict.fromkeys(m for root in (Config, NetConfig, *all_algorithms()) for m in inside(root)))
KEYS = [pytest.param(model, key, id=f"{model.__name__}.{key}") for model in SECTIONS for key in model.model_fields]

VALUES: tuple[Any, ...] = (
    None,
    -1,
    0,
    1,
    0.5,
    3,
    1 << 17,
    1 << 70,
    True,
    "",
    "text",
    "random",
    [],
    [1],
    ["text"],
    {},
    {"text": 1},
)
"""No whole numbers as floats: those are integers in JSON Schema, and for pydantic's strict mode they are not."""


def complaints(data: Any) -> list[str]:
    """What the schema has against a whole configuration."""
    return [error.message for error in Draft202012Validator(SCHEMA).iter_errors(data)]


def schema_accepts(model: type[Section], data: dict[str, Any]) -> bool:
    section = SCHEMA if model is Config else {"$ref": f"#/$defs/{model.__name__}", "$defs": SCHEMA["$defs"]}
    return Draft202012Validator(section).is_valid(data)


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert len(SECTIONS) == 25 and {m.__name__ for m in SECTIONS} - {"Config"} == set(SCHEMA["$defs"])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_valid(example: Path) -> None:
    assert complaints(yaml.safe_load(example.read_text())) == []


@pytest.mark.parametrize("algorithm", [algorithm_name(settings) for settings in all_algorithms()])
def test_the_configuration_that_a_run_keeps_is_valid(algorithm: str) -> None:
    config = parse_config({**SMALLEST[Config], "algorithm": {"name": algorithm}, "learner": {"tls": SMALLEST[TLS]}})
    assert complaints(config.model_dump()) == []
    assert complaints(config.model_dump(by_alias=True)) == []


@pytest.mark.parametrize(("model", "key"), KEYS)
def test_the_schema_accepts_the_values_that_covey_accepts(model: type[Section], key: str) -> None:
    if (model, key) == (Config, "network"):
        return  # what it holds is validated with the environment: see below
    for value in VALUES:
        data = {**SMALLEST.get(model, {}), key: value}
        try:
            model.model_validate(data, strict=True)
        except pydantic.ValidationError as exc:
            if {error["type"] for error in exc.errors()} == {"value_error"}:
                continue  # a rule about several keys, which no schema of ours holds
            accepted = False
        else:
            accepted = True
        assert schema_accepts(model, data) == accepted, f"{key}: {value!r}: accepted by covey: {accepted}"


@pytest.mark.parametrize("model", SECTIONS, ids=lambda model: model.__name__)
def test_an_unknown_key_is_refused(model: type[Section]) -> None:
    assert schema_accepts(model, SMALLEST.get(model, {}))
    for value in (1, None, "text"):
        assert not schema_accepts(model, {**SMALLEST.get(model, {}), "no_such_key": value})


@pytest.mark.parametrize(
    ("network", "valid"),
    [
        ({}, True),
        (None, True),
        ({"latent_dim": 32, "encoder_config": {"hidden_size": [8]}}, True),
        ({"bob": {"latent_dim": 16}, "bob_1": {"head_config": {"activation": "Tanh"}}}, True),
        ({"latent_dim": 32, "bob": {}}, False),
        ({"latent_dims": 32}, False),
        ({"bob": {"latent_dims": 32}}, False),
        ({"head_config": {"activation": "Relu"}}, False),
    ],
)
def test_networks_are_described_once_or_by_agent(network: Any, valid: bool) -> None:
    assert (complaints({**SMALLEST[Config], "network": network}) == []) == valid


def test_hyperparameters_that_may_mutate_have_names() -> None:
    def mutated(name: str) -> list[str]:
        ranges = {name: {"min": 0.1, "max": 0.9}}
        return complaints({**SMALLEST[Config], "mutation": {"rl_hp_selection": ranges}})

    assert mutated("gamma") == mutated("policy_freq") == mutated("ent_coef") == []
    assert mutated("gama") != []


def test_both_names_of_a_key_are_known() -> None:
    other_names = {"tournament_selection": {"tournament_size": 3}, "replay_buffer": {"memory_size": 7}}
    assert complaints({**SMALLEST[Config], **other_names}) == []
    assert complaints({**SMALLEST[Config], "replay_buffer": {"memory_size": 0}}) != []


def test_an_algorithm_has_its_own_keys() -> None:
    def algorithm(**keys: Any) -> list[str]:
        return complaints({**SMALLEST[Config], "algorithm": keys})

    assert algorithm(name="MADDPG", lr_actor=0.1) == algorithm(name="IPPO", ent_coef=0.1) == []
    assert algorithm(name="IPPO", lr_actor=0.1) != []
    assert algorithm(name="PPO") != []
    assert algorithm(lr_actor=0.1) != []


@pytest.mark.parametrize(("model", "key"), KEYS)
def test_every_key_says_what_it_means(model: type[Section], key: str) -> None:
    field = model.model_fields[key]
    text = meaning(field)
    assert text and text[0] != " " and text.endswith((".", "...")) and "\n" not in text
    if types.NoneType in get_args(field.annotation):
        assert "null: " in text, "a value of its own needs a meaning"
    section = SCHEMA if model is Config else SCHEMA["$defs"][model.__name__]
    assert section["properties"][key]["description"] == text


@pytest.mark.parametrize(
    ("model", "key", "expected"),
    [
        (IPPOSettings, "gamma", {"type": ["number", "null"], "minimum": 0, "maximum": 1, "default": 0.99}),
        (MLPConfig, "max_hidden_layers", {"type": ["integer", "null"], "minimum": 1, "maximum": 32, "default": 3}),
        (Environment, "name", {"type": "string", "minLength": 1}),
        (Mutation, "pre_training", {"type": ["boolean", "null"], "default": True}),
    ],
)
def test_bounds_and_defaults_are_told(model: type[Section], key: str, expected: dict[str, Any]) -> None:
    told = SCHEMA["$defs"][model.__name__]["properties"][key]
    assert {k: v for k, v in told.items() if k != "description"} == expected


def test_the_page_has_a_line_for_every_key() -> None:
    lines = configuration_page().splitlines()
    for model in SECTIONS:
        for key, field in model.model_fields.items():
            other = f" (also `{field.alias}`)" if field.alias else ""
            assert any(
                line.startswith(f"| `{key}`{other} | ") and line.endswith(f" | {meaning(field)} |") for line in lines
            ), f"{model.__name__}.{key}"
    assert "## `mutation.rl_hp_selection.NAME`" in lines
    assert "## `network.encoder_config`" in lines and "## `network.head_config`" in lines
    assert "## `selection_strategy` (also `tournament_selection`)" in lines
    assert "| `seed` | `0` | integer, >= 0, < 2^63 | " in "\n".join(lines)
