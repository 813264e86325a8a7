"""`--seeds` and `--set` of a sweep: which combinations they make, how their directories are called, what is refused."""

import pytest
import yaml

from covey.errors import ConfigError
from covey.experiments.grid import MOST_NAME_BYTES, Combination, combinations, override, parse_seeds, parse_values


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("3", [3]), ("0-2", [0, 1, 2]), ("0,2,5-7", [0, 2, 5, 6, 7]), ("9,1", [1, 9]), (" 4 , 5", [4, 5])],
)
def test_seeds_are_numbers_and_ranges(text: str, seeds: list[int]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "a", "3-1", "-1", "1,,2", "1,1", "0-3,2", "0-99999999", "1.5"])
def test_other_seeds_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_seeds(text)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.001,0.003", [0.001, 0.003]),
        ("[64,64],[32]", [[64, 64], [32]]),
        ("relu,tanh", ["relu", "tanh"]),
        ("'a,b',c", ["a,b", "c"]),
        ("{a: 1},{a: 2}", [{"a": 1}, {"a": 2}]),
        ("null,5", [None, 5]),
        ("7", [7]),
    ],
)
def test_values_are_split_at_commas_outside_of_brackets(text: str, values: list[object]) -> None:
    assert parse_values([f"x.y={text}"]) == {"x.y": values}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["x"], "expected section.key=VALUE"),
        (["x="], "expected section.key=VALUE"),
        (["x=1,1"], "stands twice"),
        (["x=1", "x=2"], "given twice"),
        (["training.seed=1,2"], "--seeds"),
        (["x=[1"], "not YAML"),
        (["x=0.1..0.2"], "--optuna"),
    ],
)
def test_other_values_are_refused(options: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_values(options)


def test_every_combination_has_every_seed() -> None:
    found = combinations({"a.b": [1, 2], "c": ["x", "y"]}, [0, 7])
    assert [c.name for c in found] == [
        *("a.b=1,c=x,seed=0", "a.b=1,c=y,seed=0", "a.b=2,c=x,seed=0", "a.b=2,c=y,seed=0"),
        *("a.b=1,c=x,seed=7", "a.b=1,c=y,seed=7", "a.b=2,c=x,seed=7", "a.b=2,c=y,seed=7"),
    ]
    assert [c.name for c in combinations({}, [3])] == ["seed=3"]
    with pytest.raises(ConfigError, match="at most"):
        combinations({"a": list(range(200))}, list(range(200)))


@pytest.mark.parametrize("value", [1e-05, 0.001, 3, True, None, "relu", "1", "a/b", "~", [64, 64], {"k": [1e-7]}, ""])
def test_overrides_have_the_value_that_was_given(value: object) -> None:
    text = override("x.y", value).removeprefix("x.y=")
    assert yaml.safe_load(text) == value and type(yaml.safe_load(text)) is type(value)


def test_names_are_directories_and_tell_values_apart() -> None:
    values = ["a/b", "a-b", "a%2Fb", "..", "[64,64]", [64, 64], 1, "x" * 300, "x" * 301, "ü", "a b", "a,b=1"]
    names = [Combination((("k", value),), 0).name for value in values]
    assert len(set(names)) == len(values)
    for name in names:
        assert "/" not in name and len(name.encode()) <= MOST_NAME_BYTES and name.endswith(",seed=0")
