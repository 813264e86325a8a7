"""What trying out an environment says where evaluations build it with other arguments than training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from covey.envs.check import EnvironmentReport, check_environment
from covey.envs.evaluation import difference
from covey.envs.loading import EnvironmentFactory
from covey.errors import EnvironmentLoadError


def try_evaluation(
    training: EnvironmentReport,
    factory: EnvironmentFactory,
    steps: int,
    groups: Mapping[str, Sequence[str]] | None,
    ignored: Sequence[str] = (),
    frame_stack: int = 1,
    state: bool = False,
) -> EnvironmentReport:
    """Try out the environment of evaluations too, and add what it shows to the report of training's.

    Args:
        training: What trying out the environment of training has shown.
        factory: Builds the environment of evaluations.
        steps: Env steps to play.
        groups: Agent ids by group id, if the configuration gives them.
        ignored: Dotted names of parts of observations that are left out.
        frame_stack: How many observations networks are to read together.
        state: Whether rows are to hold the state of the whole environment.

    Raises:
        EnvironmentLoadError: it cannot be built.
    """
    try:
        return with_evaluation(
            training,
            check_environment(factory, steps, groups=groups, ignored=ignored, frame_stack=frame_stack, state=state),
        )
    except EnvironmentLoadError as exc:
        raise EnvironmentLoadError(f"{exc} (built with environment.evaluation on top of environment.config)") from exc


def with_evaluation(training: EnvironmentReport, evaluation: EnvironmentReport) -> EnvironmentReport:
    """Add to the report of training's environment what that of evaluations, once tried out, shows.

    Args:
        training: The environment with the arguments of `environment.config`.
        evaluation: The same with those of `environment.evaluation` on top.
    """
    cannot = [f"environment.evaluation: {sentence}" for sentence in evaluation.cannot]
    if training.spaces and evaluation.spaces and training.spaces != evaluation.spaces:
        cannot.append(
            f"environment.evaluation: {difference(evaluation.spaces, training.spaces)} leave out what changes agents "
            "or spaces"
        )
    will = [f"evaluation: {'; '.join(_played(evaluation))}"]
    return replace(training, will=(*training.will, *will), cannot=(*training.cannot, *cannot))


def _played(report: EnvironmentReport) -> Iterator[str]:
    """Yield sentences about the episodes that were played in the environment of evaluations, such as their lengths."""
    seen = report.behaviour
    if seen is None:
        yield "environment.evaluation is set, and was not played"
        return
    lengths = seen.episode_lengths
    ended = f", of {min(lengths)} to {max(lengths)} steps (mean {fmean(lengths):.1f})" if lengths else ""
    yield f"with environment.evaluation {seen.steps} env steps, {len(lengths)} episodes{ended}"
