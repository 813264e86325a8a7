"""Hyperparameters that move over a run: `lr: {from: 0.002, to: 0.0002}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidatorFunctionWrapHandler
from pydantic_core import core_schema


class Scheduled(float):
    """A number that moves linearly to another one over the env steps of a run; as a float it is the first.

    Args:
        first: What it is at the start.
        last: What it is at the end.

    Attributes:
        last: What it is at the end.
    """

    last: float

    def __new__(cls, first: float, last: float) -> Scheduled:
        """Make one; `float` takes its number here."""
        made = super().__new__(cls, first)
        made.last = last
        return made

    def share(self, progress: float) -> float:
        """Return by what the first number is multiplied when this share of the run, 0 to 1, is done.

        Members whose own first number evolution has changed follow the same course at their height.
        """
        return 1 + min(max(progress, 0.0), 1.0) * (self.last / float(self) - 1)


class _Schedule:
    """Makes pydantic take a number or `{from, to}`."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            _read, handler(source), serialization=core_schema.plain_serializer_function_ser_schema(_written)
        )

    def __get_pydantic_json_schema__(self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler) -> Any:
        number = dict(handler(schema))
        bounds = {key: value for key, value in number.items() if key == "maximum"}
        ends = {
            "from": {"type": "number", "exclusiveMinimum": 0, **bounds},
            "to": {"type": "number", "minimum": 0, **bounds},
        }
        moving = {"type": "object", "properties": ends, "required": ["from", "to"], "additionalProperties": False}
        return {"anyOf": [number, moving]}


def _read(value: Any, number: ValidatorFunctionWrapHandler) -> Any:
    if isinstance(value, Scheduled):
        return value
    if not isinstance(value, Mapping):
        return number(value)
    if set(value) != {"from", "to"}:
        raise ValueError(f"{', '.join(map(str, value)) or 'nothing'}: expected a number, or from and to")
    first, to = number(value["from"]), value["to"]
    if first <= 0:
        raise ValueError(f"from {first:g}: expected above 0")
    # Down to 0 is a common end of what may not be 0 from the start.
    return Scheduled(first, 0.0 if isinstance(to, int | float) and to == 0 else number(to))


def _written(value: float) -> Any:
    return {"from": float(value), "to": value.last} if isinstance(value, Scheduled) else value


SCHEDULE = _Schedule()
"""Marks fields that may move."""

Schedulable = Annotated[float, SCHEDULE]
"""A number, or `{from: NUMBER, to: NUMBER}`: it moves linearly over `training.max_steps`."""
