"""The JSON schema of a run's configuration, by which editors complete, explain and check a file as it is written."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core import core_schema

from covey.config.algorithm_settings import AlgorithmSettings
from covey.config.config import Config
from covey.config.evolution import Mutation
from covey.config.installed_algorithms import installed_algorithms
from covey.config.network import NetConfig
from covey.config.section import never_null

Algorithms = tuple[type[AlgorithmSettings], ...]
"""Models that the `algorithm:` section may have."""


def all_algorithms() -> Algorithms:
    """The models of all algorithms that are installed, in the order of their names."""
    return tuple(installed_algorithms()[0].values())


def algorithm_name(settings: type[AlgorithmSettings]) -> str:
    """The name by which a configuration chooses this model."""
    (name,) = get_args(settings.model_fields["name"].annotation)
    return str(name)


def evolvable(settings: type[AlgorithmSettings]) -> tuple[str, ...]:
    """Hyperparameters that may evolve."""
    # Constructed, not validated: of other keys the defaults will do, and some may have none.
    return settings.model_construct(name=algorithm_name(settings)).evolvable


def meaning(field: FieldInfo) -> str:
    """What a key means: its description, or that of the section which it holds."""
    return field.description or description(field.annotation)


def description(model: Any) -> str:
    """The docstring of a section's model, as one line."""
    return " ".join((model.__doc__ or "").split())


def config_schema() -> dict[str, Any]:
    """The schema of a configuration with covey's own keys, in JSON Schema's draft 2020-12.

    It refuses unknown keys and values out of bounds. What concerns several keys (min is at most max), or needs the
    environment (ids of agents), is checked when a run begins. Keys that only AgileRL's manifests have are refused.
    """
    algorithms = all_algorithms()
    models: tuple[type[BaseModel], ...] = (Config, NetConfig, Mutation, *algorithms)
    found, schema = models_json_schema(
        [(model, "validation") for model in models], by_alias=False, schema_generator=_SectionSchema
    )
    references = {model: {"$ref": reference["$ref"]} for (model, _), reference in found.items()}
    definitions: dict[str, Any] = schema["$defs"]
    names = {model: reference["$ref"].rpartition("/")[2] for model, reference in references.items()}

    root = definitions.pop(names[Config])
    for algorithm in algorithms:
        definitions[names[algorithm]]["title"] = algorithm_name(algorithm)
    _replace(root["properties"]["algorithm"], oneOf=[references[algorithm] for algorithm in algorithms])
    # Either one block for all agents, or blocks by the id of an agent or group: ids that this schema cannot know.
    by_id = {"type": "object", "additionalProperties": references[NetConfig]}
    _replace(root["properties"]["network"], anyOf=[references[NetConfig], by_id, {"type": "null"}])
    # Ranges of hyperparameters are a free mapping in the model; here their names are known.
    ranges = definitions[names[Mutation]]["properties"]["rl_hp_selection"]
    evolving = [name for algorithm in algorithms for name in evolvable(algorithm)]
    ranges["properties"] = dict.fromkeys(evolving, ranges["additionalProperties"])
    ranges["additionalProperties"] = False
    head = {"$schema": GenerateJsonSchema.schema_dialect, "title": "Configuration of a covey run"}
    return {**head, **{key: value for key, value in root.items() if key != "title"}, "$defs": definitions}


def _replace(schema: dict[str, Any], **constraints: Any) -> None:
    """Give a key's schema other constraints in place of its own; its description stays."""
    text = schema["description"]
    schema.clear()
    schema.update({"description": text}, **constraints)


class _SectionSchema(GenerateJsonSchema):
    """Writes the schema of a section of the configuration: each key with its meaning; null where `Section` takes it."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """No key has a title: it would be the key again, in other letters."""
        return False

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        """A section's schema; made for `by_alias=False`."""
        model: type[BaseModel] = schema["cls"]
        result = super().model_schema(schema)
        result["description"] = description(model)
        properties = result["properties"]
        for name, field in model.model_fields.items():
            constraints = {key: value for key, value in properties[name].items() if key != "description"}
            if not field.is_required() and name in never_null(model):
                constraints = _or_empty(constraints)
            own = properties[name] = {"description": meaning(field), **constraints}
            if field.alias:
                properties[field.alias] = {**own, "description": f"Another name of `{name}`. {meaning(field)}"}
        return result


def _or_empty(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a key that may also be empty (null), which means its default."""
    if isinstance(schema.get("type"), str) and not {"enum", "const"} & schema.keys():
        return {**schema, "type": [schema["type"], "null"]}
    return {
        "anyOf": [{k: v for k, v in schema.items() if k != "default"}, {"type": "null"}],
        **({"default": schema["default"]} if "default" in schema else {}),
    }
