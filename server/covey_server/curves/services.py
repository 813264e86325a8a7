"""Services that keep the curves of many runs: Weights & Biases, MLflow, trackio. None of them can end a run."""

from __future__ import annotations

import logging
import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from covey.config import Config
from covey.config.dotted import dotted
from covey.errors import StorageError
from covey.run.directory import RunDirectory
from covey.run.files import read_json, write_json

logger = logging.getLogger("covey.learner")

AXIS = "env_steps"

IDS = "services.json"
"""In the run's directory: under which id each service knows the run, so that a resumed one goes on there."""


class Service(Protocol):
    """A service that keeps curves."""

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Take values of some curves at one env step."""
        ...

    def end(self, result: Mapping[str, Any]) -> None:
        """Take the run's result and its best policy; nothing follows."""
        ...


class WeightsAndBiases:
    """The run at Weights & Biases.

    Args:
        module: The package.
        about: How the run is called there: project, entity, group, name and id.
        tags: Of the run.
        settings: The configuration by dotted key.
        run: The run's directory.
    """

    def __init__(
        self, module: Any, about: Mapping[str, Any], tags: Sequence[str], settings: Mapping[str, Any], run: RunDirectory
    ) -> None:
        self._module, self._path, self._best = module, run.path, run.best
        self._run = module.init(
            **about,
            tags=list(tags),
            config=dict(settings),
            resume="allow",
            dir=run.path,
            settings=module.Settings(console="off"),  # wandb is not to capture what the process prints
        )
        self._run.define_metric("*", step_metric=AXIS)

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Log values; all curves are drawn over env steps."""
        self._run.log({**values, AXIS: env_steps})

    def end(self, result: Mapping[str, Any]) -> None:
        """Keep the result as the run's summary and the best policy as an artifact."""
        self._run.summary.update({f"result/{name}": value for name, value in result.items()})
        if self._best.is_dir():
            self._run.log_artifact(_policy(self._module, self._run.id, self._best, result))
        self._run.finish()


class Trackio:
    """The run at trackio, which keeps it on this machine, with most of the interface of Weights & Biases."""

    def __init__(
        self, module: Any, about: Mapping[str, Any], tags: Sequence[str], settings: Mapping[str, Any], run: RunDirectory
    ) -> None:
        self._module, self._id, self._best = module, about["id"], run.best
        module.init(
            project=about["project"],
            name=about["id"],
            group=about["group"],
            config={**settings, "tags": list(tags)},
            resume="allow",
            embed=False,
            auto_log_cpu=False,  # curves below system/ have that
            auto_log_gpu=False,
        )

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Log values at an env step."""
        self._module.log(dict(values), step=env_steps)

    def end(self, result: Mapping[str, Any]) -> None:
        """Log the numbers of the result and the best policy, and end."""
        numbers = {f"result/{name}": value for name, value in result.items() if isinstance(value, int | float)}
        self._module.log(numbers)
        if self._best.is_dir():
            self._module.log_artifact(_policy(self._module, self._id, self._best, result))
        self._module.finish()


def _policy(module: Any, run_id: str, best: Path, result: Mapping[str, Any]) -> Any:
    """The run's best policy as an artifact of a package that has the interface of Weights & Biases."""
    artifact = module.Artifact(f"policy-{run_id}", type="policy", metadata=dict(result))
    artifact.add_dir(str(best))
    return artifact


class MLflow:
    """The run at MLflow: an experiment is a project there."""

    def __init__(
        self, module: Any, about: Mapping[str, Any], tags: Sequence[str], settings: Mapping[str, Any], run: RunDirectory
    ) -> None:
        self._client = client = import_module("mlflow.tracking").MlflowClient()
        self._entities = import_module("mlflow.entities")
        self._best = run.best
        experiment = client.get_experiment_by_name(about["project"])
        number = client.create_experiment(about["project"]) if experiment is None else experiment.experiment_id
        found = client.search_runs([number], f"tags.covey_id = '{about['id']}'")
        if found:
            self._run = found[0].info.run_id
            client.update_run(self._run, status="RUNNING")
            return
        marks = {"covey_id": about["id"], "group": about["group"], **dict.fromkeys(tags, "")}
        self._run = client.create_run(number, tags=marks, run_name=about["name"]).info.run_id
        params = [self._entities.Param(name, str(value)) for name, value in settings.items()]
        for first in range(0, len(params), MLFLOW_PARAMS):
            client.log_batch(self._run, params=params[first : first + MLFLOW_PARAMS])

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Log values at an env step."""
        self._batch(values, env_steps)

    def end(self, result: Mapping[str, Any]) -> None:
        """Log the numbers of the result and the best policy, and end the run."""
        steps = int(result.get(AXIS, 0))
        self._batch({f"result/{n}": v for n, v in result.items() if isinstance(v, int | float)}, steps)
        if self._best.is_dir():
            self._client.log_artifacts(self._run, str(self._best), "best")
        self._client.set_terminated(self._run, "FINISHED" if result.get("state") == "complete" else "KILLED")

    def _batch(self, values: Mapping[str, float], env_steps: int) -> None:
        now = int(time.time() * 1000)  # MLflow draws over the time of day, too
        metrics = [self._entities.Metric(_as_file(name), float(v), now, env_steps) for name, v in values.items()]
        for first in range(0, len(metrics), MLFLOW_METRICS):
            self._client.log_batch(self._run, metrics=metrics[first : first + MLFLOW_METRICS])


def _as_file(name: str) -> str:
    """A curve's name that is no other one's folder, as MLflow may keep curves in files: "fitness/best.agent_0"."""
    first, _, rest = name.partition("/")
    return f"{first}/{rest.replace('/', '.')}"


MLFLOW_PARAMS, MLFLOW_METRICS = 100, 1000
"""The most that MLflow takes in one call."""

SERVICES: dict[str, Callable[..., Service]] = {"wandb": WeightsAndBiases, "mlflow": MLflow, "trackio": Trackio}


class Guarded:
    """A service whose first error is told in a sentence, after which the run does without it."""

    def __init__(self, name: str, service: Service) -> None:
        self._name = name
        self._service: Service | None = service

    def log(self, env_steps: int, values: Mapping[str, float]) -> None:
        """Log values, as the service does."""
        self._call(lambda service: service.log(env_steps, values))

    def end(self, result: Mapping[str, Any]) -> None:
        """End the run there, as the service does."""
        self._call(lambda service: service.end(result))

    def _call(self, what: Callable[[Service], None]) -> None:
        if self._service is None:
            return
        try:
            what(self._service)
        except Exception as exc:  # of a package that is not ours, on a network that is not either
            self._service = None
            _warn(self._name, f"failed ({_words(exc)}), so from here on")


def open_services(run: RunDirectory, config: Config) -> list[Guarded]:
    """Open the services that the configuration names; what cannot be opened is told in a warning, and left out."""
    chosen = config.logging
    wanted = [name for name in SERVICES if getattr(chosen, name)]
    if not wanted:
        return []
    settings = dict(dotted(config.model_dump(mode="json")))
    name = run.path.resolve().name
    about = {
        "project": chosen.project or os.environ.get("WANDB_PROJECT", "covey"),
        "entity": chosen.entity,
        "group": chosen.group or config.name,
        "name": name,
        "id": _id_of(run, name),
    }
    tags = [config.algorithm.name, config.environment.name, *chosen.tags]
    opened = []
    for each in wanted:
        try:
            module = import_module(each)
        except ImportError:
            _warn(each, f"{each} is not installed (pip install 'covey-marl[{each}]'), so")
            continue
        try:
            opened.append(Guarded(each, SERVICES[each](module, about, tags, settings, run)))
        except Exception as exc:  # no login, no network or no disk space: training goes on without it
            _warn(each, f"{each} cannot start ({_words(exc)}), so")
    return opened


def _id_of(run: RunDirectory, name: str) -> str:
    """The run's id at services: its name and random letters, as other machines may have a run of this name."""
    path = run.path / IDS
    with suppress(StorageError, KeyError):
        if path.exists():
            return str(read_json(path)["id"])
    made = f"{name}-{secrets.token_hex(4)}"
    write_json(path, {"id": made})
    return made


def _warn(name: str, why: str) -> None:
    logger.warning("logging.%s: %s curves go to the run directory only", name, why)


def _words(exc: Exception) -> str:
    return " ".join(str(exc).split()) or type(exc).__name__
