"""What a configuration says that is wrong: in plain words, with the key that was meant."""

from typing import Any

import numpy as np
import pytest

from covey.config import Config, parse_config
from covey.config.hyperparameters import HyperparameterConfig, RLParameter
from covey.errors import ConfigError

MINIMAL: dict[str, Any] = {"algorithm": {"name": "MATD3"}, "environment": {"name": "mpe2.simple_v3"}, "training": {}}


def complaint(section: str, **values: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config({**MINIMAL, section: {**MINIMAL.get(section, {}), **values}})
    return str(caught.value)


@pytest.mark.parametrize(
    ("section", "key", "meant"),
    [
        ("algorithm", "lr", "lr_actor"),
        ("algorithm", "learning_rate", "lr_actor"),
        ("algorithm", "seed", "training.seed"),
        ("algorithm", "device", "learner.device"),
        ("environment", "n_envs", "num_envs"),
        ("training", "n_envs", "environment.num_envs"),
        ("training", "total_timesteps", "max_steps"),
        ("training", "device", "learner.device"),
    ],
)
def test_a_setting_by_another_librarys_name_or_in_another_section_is_suggested(
    section: str, key: str, meant: str
) -> None:
    assert complaint(section, **{key: 1}) == f"{section}.{key}: unknown key; did you mean {meant!r}?"


def test_a_setting_outside_of_all_sections_is_suggested() -> None:
    meanings = {"seed": "training.seed", "n_envs": "environment.num_envs", "device": "learner.device"}
    for key, meant in {**meanings, "learning_rate": "algorithm.lr"}.items():  # close to `learner`, which is not meant
        with pytest.raises(ConfigError, match=f"^{key}: unknown key; did you mean '{meant}'?"):
            parse_config({**MINIMAL, key: 1})


PYDANTICS_WORDS = (
    "valid dictionary",
    "instance of",
    "unable to parse",
    "Input should",
    "after validation",
    "Value error",
)


def test_values_of_a_wrong_kind_are_told_in_plain_words() -> None:
    wrong: list[tuple[dict[str, Any], str]] = []
    for section, field in Config.model_fields.items():
        wrong += [({section: value}, section) for value in ("certs", 3, [1]) if section != "name" or value != "certs"]
        kinds = [field.annotation] if isinstance(field.annotation, type) else []
        for kind in kinds:
            for key in getattr(kind, "model_fields", {}):
                for value in ("certs", {"a": 1}, [[1]], 2.5):
                    wrong.append(({section: {**MINIMAL.get(section, {}), key: value}}, f"{section}.{key}"))
    refused = 0
    for data, path in wrong:
        try:
            parse_config({**MINIMAL, **data})
        except ConfigError as exc:
            refused += 1
            assert path in str(exc) and not any(words in str(exc) for words in PYDANTICS_WORDS), exc
    assert refused > 100


def test_a_wrong_section_names_keys_that_it_may_have() -> None:
    assert complaint("learner", tls="certs").startswith(
        "learner.tls: 'certs': expected a section of keys with values such as certificate, key"
    )
    assert complaint("training", pop_size="x") == "training.pop_size: 'x': expected an integer"
    wide = {"lr_actor": {"min": 2, "max": 1}}
    assert complaint("mutation", rl_hp_selection=wide) == (
        "mutation.rl_hp_selection.lr_actor: min 2.0 is above max 1.0"
    )


def test_ranges_of_scripts_take_agilerls_types_and_refuse_in_a_sentence() -> None:
    assert [RLParameter(1, 2, dtype=t).dtype for t in (int, float, None)] == ["int", "float", None]
    assert RLParameter(1, 2, 0.5, 1.5).shrink_factor == 0.5
    for arguments, says in (
        ({"min": 2, "max": 1}, r"^RLParameter: min 2.0 is above max 1.0$"),
        ({"min": 1, "max": 2, "dtype": "x"}, r"^RLParameter.dtype: 'x': expected 'float' or 'int'$"),
        ({"min": 1, "max": 2, "dtype": np.ndarray}, r"^RLParameter.dtype: ndarray: expected 'float' or 'int'$"),
        ({"min": "a", "max": None}, r"^RLParameter.min: 'a': expected a number; also RLParameter.max: missing"),
    ):
        given: dict[str, Any] = dict(arguments)
        with pytest.raises(ConfigError, match=says):
            RLParameter(**given)
    with pytest.raises(ConfigError, match=r"^HyperparameterConfig.lr: 3: expected a range"):
        HyperparameterConfig(lr=3)  # type: ignore[arg-type]
