"""Sweeps whose settings Optuna chooses, by what earlier ones scored; runs are made and trained as those of any sweep.

A trial is a choice of settings. It is trained with every seed of the sweep, and its value is the mean of the runs'
scores. The study is a file in the sweep's directory (`optuna.log`), which processes on one file system share.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

from covey.errors import ConfigError
from covey.experiments.grid import Combination, parse_values
from covey.experiments.prepared import Prepared
from covey.experiments.run_process import State
from covey.experiments.sweep_directory import SweepDirectory
from covey.experiments.sweeping import Progress, Sweeping
from covey.run.directory import RunDirectory
from covey.run.files import read_json

LOGARITHMIC = 10
"""Ranges of positive numbers whose ends differ by this factor or more are searched on a logarithmic scale."""

DIGITS = 4
"""Significant digits of a number that is chosen: it is a part of its run's name."""

_NUMBER = r"[-+]?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?"
_RANGE = re.compile(rf"([^=]+)=\s*({_NUMBER})\.\.({_NUMBER})\s*")

Range = tuple[float | int, float | int]


def parse_ranges(options: Sequence[str]) -> tuple[dict[str, list[Any]], dict[str, Range]]:
    """Read the values of `--set`, of which some are ranges, "section.key=LOW..HIGH"; returns lists and ranges by key.

    Raises:
        ConfigError: a value has another form, a key is given twice, or a range is empty.
    """
    ranges: dict[str, Range] = {}
    lists = []
    for option in options:
        found = _RANGE.fullmatch(option)
        if found is None:
            lists.append(option)
            continue
        key, texts = found[1], (found[2], found[3])
        whole = all(re.fullmatch(r"[-+]?[0-9]+", text) for text in texts)
        low, high = (int(text) if whole else float(text) for text in texts)
        if key in ranges or low >= high:
            raise ConfigError(f"--set {option}: expected one range for {key}, LOW..HIGH, whose first end is lower")
        ranges[key] = low, high
    values = parse_values(lists)
    for key in ranges.keys() & values.keys():
        raise ConfigError(f"--set {key} has a range and values, expected one of them; leave one out")
    return values, ranges


class Study:
    """A sweep whose settings Optuna chooses.

    Args:
        directory: The sweep's directory.
        prepared: Makes the runs' directories.
        varied: Values by key, one of which is chosen.
        ranges: Ranges by key, in which a number is chosen.
        seeds: Seeds that every choice is trained with.
        trials: How many choices are made in all, those of earlier processes included.

    Raises:
        ConfigError: Optuna is not installed, or there is nothing to choose.
    """

    def __init__(
        self,
        directory: SweepDirectory,
        prepared: Prepared,
        varied: Mapping[str, list[Any]],
        ranges: Mapping[str, Range],
        seeds: Sequence[int],
        trials: int,
    ) -> None:
        if not varied and not ranges:
            raise ConfigError("--optuna: nothing to choose, expected --set KEY=LOW..HIGH or --set KEY=V1,V2 beside it")
        try:
            self._optuna: Any = import_module("optuna")
        except ImportError as exc:
            raise ConfigError(
                "--optuna: Optuna is not installed, expected it; pip install 'covey-marl[optuna]'"
            ) from exc
        self._directory = directory
        self._varied, self._ranges = varied, ranges
        self._seeds, self._trials = seeds, trials
        for choice in self._corners():
            prepared.check([Combination(choice, seeds[0])])
        spans = {key: list(ends) for key, ends in ranges.items()}
        directory.enter(prepared.plan(dict(varied), seeds, {"ranges": spans}))

    def run(self, sweeping: Sweeping, tell: Callable[[str], None]) -> Progress:
        """Make and train trials until there are as many as were asked for, or a signal comes.

        Trials that were cut short are trained first.
        """
        optuna, progress = self._optuna, sweeping.progress
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        backend = optuna.storages.journal.JournalFileBackend(str(self._directory.study))
        study = optuna.create_study(
            study_name="sweep",
            storage=optuna.storages.JournalStorage(backend),
            sampler=optuna.samplers.RandomSampler(),
            direction="maximize",
            load_if_exists=True,
        )
        unfinished = [t.number for t in study.get_trials() if t.state == optuna.trial.TrialState.RUNNING]
        at_a_time = max(1, sweeping.jobs // len(self._seeds))
        while progress.signal is None:
            numbers, unfinished = unfinished[:at_a_time], unfinished[at_a_time:]
            begun = len(study.get_trials())
            if not numbers:
                # Another seed each time: processes that share a study would else make the same choices.
                study.sampler = optuna.samplers.TPESampler(seed=begun)
                asked = min(at_a_time, self._trials - begun)
                numbers = [study.ask(self._distributions()).number for _ in range(asked)]
            if not numbers:
                break
            self._train(study, numbers, sweeping, tell)
        if finished := [t for t in study.get_trials() if t.value is not None]:
            best = max(finished, key=lambda t: t.value)
            settings = " ".join(f"{key}={value}" for key, value in self._settings(best.params))
            tell(f"best of {len(finished)} trials: {settings}: {best.value:.2f}, mean of {len(self._seeds)} runs")
        return progress

    def _train(self, study: Any, numbers: Sequence[int], sweeping: Sweeping, tell: Callable[[str], None]) -> None:
        """Train trials, and tell the study what they scored; of those that were cut short or fell to others nothing."""
        chosen = {}
        for number in numbers:
            settings = self._settings(study.get_trials()[number].params)
            chosen[number] = [Combination(settings, seed) for seed in self._seeds]
        progress = sweeping.train([c for combinations in chosen.values() for c in combinations])
        for number, combinations in chosen.items():
            states = [progress.states[c.name] for c in combinations]
            if all(state is State.COMPLETE for state in states):
                runs = [RunDirectory(self._directory.run(c.name)) for c in combinations]
                value = statistics.fmean(read_json(run.evaluations)["best"]["mean_return"] for run in runs)
                study.tell(number, value)
                tell(f"trial {number}: {value:.2f}")
            elif State.FAILED in states:
                study.tell(number, state=self._optuna.trial.TrialState.FAIL)

    def _distributions(self) -> dict[str, Any]:
        """What Optuna chooses from, by key."""
        kinds = self._optuna.distributions
        found: dict[str, Any] = {key: kinds.CategoricalDistribution(_texts(v)) for key, v in self._varied.items()}
        for key, (low, high) in self._ranges.items():
            kind = kinds.IntDistribution if isinstance(low, int) else kinds.FloatDistribution
            found[key] = kind(low, high, log=low > 0 and high / low >= LOGARITHMIC)
        return found

    def _settings(self, params: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
        """A trial's choices as settings of a run."""
        listed = [(key, values[_texts(values).index(params[key])]) for key, values in self._varied.items()]
        numbers = [(key, _rounded(params[key])) for key in self._ranges]
        return (*listed, *numbers)

    def _corners(self) -> list[tuple[tuple[str, Any], ...]]:
        """Choices by which all values and all ends of ranges are seen once."""
        lists = {key: [*values] for key, values in self._varied.items()} | {k: [*v] for k, v in self._ranges.items()}
        most = max(map(len, lists.values()))
        return [tuple((key, values[i % len(values)]) for key, values in lists.items()) for i in range(most)]


def _texts(values: Sequence[Any]) -> list[str]:
    """Values as texts, as Optuna chooses among simple ones alone."""
    return [repr(value) for value in values]


def _rounded(value: float | int) -> float | int:
    """A number with few digits."""
    return value if isinstance(value, int) else float(f"{value:.{DIGITS}g}")
