"""The learner process: builds the parts of a run's learner, starts them in order and ends them in order."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

from covey.config import Config, load_config
from covey.config.resuming import changes
from covey.envs import load_environment, read_spaces
from covey.envs.evaluation import load_evaluation
from covey.envs.mpe import faster
from covey.envs.repeats import ignored_seed
from covey.errors import ConfigError, DiskFullError, StorageError
from covey.resources import raise_file_limit
from covey.run.checkpoint_format import checkpoint_paths
from covey.run.directory import RunDirectory
from covey.run.files import write_json
from covey.run.frozen_opponents import check_spaces, read_opponents
from covey.run.reports import actors_json, members_json, status_json
from covey.v1.population_service_pb2 import Status
from covey_server.attendance import Attendance
from covey_server.build import PopulationFactory
from covey_server.coordination.run_state import RunState
from covey_server.curves.moments import give_moment
from covey_server.curves.writer import CurveWriter
from covey_server.durability.changed_settings import keep_configuration
from covey_server.durability.checkpointer import Checkpointer
from covey_server.durability.recovery import restore
from covey_server.durability.start_files import next_epoch, port_before
from covey_server.evolution.hyperparameters import ranges
from covey_server.ingest.intake import Intake
from covey_server.learner import Learner
from covey_server.packing.updates import backend_of
from covey_server.security.tls import check_exposure
from covey_server.security.tokens import Tokens
from covey_server.serving.actor_service import ActorServicer
from covey_server.serving.grpc_thread import GrpcThread
from covey_server.serving.report import Report
from covey_server.serving.standstill import Standstill
from covey_server.storage.journal import Journal, Kind
from covey_server.training.generational import Generational
from covey_server.training.steady_state import SteadyState
from covey_server.training.trainer import Trainer
from covey_server.training.update_threads import check_threads

logger = logging.getLogger("covey.learner")

TRAINER_STOP_S = 60.0
"""Time that the running update and the last checkpoint may take when a run is stopped, in seconds."""

GRACE_S = 5.0
"""Time that actors have to disconnect when the learner ends, in seconds."""

FILES = 4096
"""Open files and connections that a learner should be allowed, so that idle strangers leave some for its journal."""

REPORT_FILES_S = 10.0
"""Interval at which the run's status is written into its directory, in seconds."""


class LearnerProcess:
    """The learner of one run, from the start of its process to the end; a resumed run gets a new one.

    Args:
        config: The run's configuration.
        run: The run's directory.
        resume: Whether to continue from the checkpoint and the journal in the run's directory.
        factory: Creates the run's populations; None: a `PopulationFactory` for the configuration.
        insecure: Whether other machines may connect without TLS or tokens. Only an argument: no configuration file can
            open a learner to the network.

    Raises:
        StorageError: the run's directory cannot be written or, with `resume`, read.
        ConfigError: this machine lacks the device or the cores, a hyperparameter's range exceeds what the algorithm
            allows, `learner.bind` is reachable from other machines without TLS and tokens, or these cannot be used.
    """

    def __init__(
        self,
        config: Config,
        run: RunDirectory,
        *,
        resume: bool = False,
        factory: PopulationFactory | None = None,
        insecure: bool = False,
    ) -> None:
        self.config = config
        self.run = run
        self.tokens = Tokens.load(config.learner.tokens)
        check_exposure(config.learner, self.tokens, insecure=insecure)
        # The trainer's thread gives the interpreter lock to the gRPC thread this often: at the default of 5 ms, actors
        # wait for orders while the trainer runs Python code.
        sys.setswitchinterval(0.0005)
        if config.training.deterministic:
            # Without a fixed workspace cuBLAS is not deterministic, and torch refuses its products on CUDA.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        # What a resumed run may not change is refused before anything is touched.
        self._changes = changes(load_config(run.config, stored=True), config) if resume else []
        _check_device(config.learner.device)
        if factory is None:  # else the number is what the caller told torch
            check_threads(config)
        # For their errors only: before the run's directory is changed.
        backend_of(config, torch.device(config.learner.device))
        ranges(config)
        self._factory = factory or PopulationFactory(config)
        self._factory.opponents = read_opponents(run, config)
        checkpoint = config.checkpoint
        # An interval of 0 seconds means that every append is synced: a sync is due from the first byte on.
        sync_bytes = 1 if checkpoint.journal_sync_s == 0 else checkpoint.journal_sync_bytes
        journal = Journal.open(run.journal, checkpoint.journal_segment_bytes, sync_bytes)
        self.learner = Learner(config, run, journal, next_epoch(run, journal), self._factory.fresh)
        self.attendance = Attendance(self.learner)
        self.intake = Intake(self.learner)
        checkpointer = Checkpointer(self.learner)
        self._resumed = resume
        # Before the trainer and the server are created, so that both find the restored state.
        if resume and checkpoint_paths(run.checkpoints):
            restore(self.learner, self.intake, self._factory, checkpointer, self._changes)
            if self.learner.population is not None:  # as the run is resumed, opponents may be others
                check_spaces(self._factory.opponents, self.learner.population.spaces)
        elif resume and any(kind is Kind.FRAGMENT for _, kind, _ in journal.read(journal.start)):
            raise StorageError(
                f"run {run.path}: its journal has env steps, and {run.checkpoints.name}/ no checkpoint that they "
                "follow, expected one, as the first is written before the first env step; put it back, or start a new "
                "run"
            )
        mode = SteadyState if config.evolution.mode == "steady_state" else Generational
        self.trainer = Trainer(self.learner, checkpointer, mode(self.learner, self._factory))
        actors = ActorServicer(self.learner, self.attendance, self.intake)
        standstill = Standstill(self.learner, self.trainer, self.attendance)
        self.report = Report(self.learner, self.trainer.evaluator.phase, actors.gauges, standstill)
        self._grpc = GrpcThread(self.learner, self.attendance, actors, self.trainer, self.report, self.tokens)
        self._curves = CurveWriter(run, config)
        self.address = ""

    def start(self) -> str:
        """Start the gRPC server and the trainer's thread.

        With `environment.spaces_from: local` the environment is created here, to read its spaces; otherwise the first
        actor that joins sends them.

        Returns:
            The address that the server listens on, "HOST:PORT".

        Raises:
            AddressInUseError: the port is taken.
            EnvironmentLoadError, SpaceError: the environment cannot be created here, or has unsupported spaces.
        """
        environment = self.config.environment
        if environment.spaces_from == "local" and self.learner.population is None:
            with contextlib.redirect_stdout(sys.stderr):  # where it prints; the run's result goes to stdout
                make = load_environment(environment.name, environment.config)
                env = make()
                try:
                    spaces = read_spaces(
                        env,
                        environment.groups,
                        environment.ignore_observations,
                        environment.frame_stack,
                        environment.state,
                    )
                finally:
                    env.close()
                if environment.evaluation:
                    load_evaluation(
                        make,
                        spaces,
                        environment.evaluation_config,
                        environment.groups,
                        environment.ignore_observations,
                        environment.frame_stack,
                        environment.state,
                    )
                differs = ignored_seed(make, spaces) if self.config.training.deterministic else None
            if differs:
                self.learner.event(f"training.deterministic: {differs}")
            with self.learner.lock:
                self.learner.create_population(spaces)
        arrays = faster(environment.name, environment.config)
        if arrays and not self._resumed:
            logger.info("environment.name: %s", arrays)
        files = raise_file_limit(FILES)
        if files < FILES:
            self.learner.event(
                f"limit of open files and connections: {files:,}, expected {FILES:,}: strangers' connections could use "
                "them up, and the journal then has none; raise the hard limit (ulimit -Hn)"
            )
        self.address = self._grpc.serve(port_before(self.run) if self._resumed else 0)
        self.run.result.unlink(missing_ok=True)  # of an earlier end, from which the run goes on
        if self._changes:
            keep_configuration(self.run, self.config)
            self.learner.event(f"resumed with other settings: {', '.join(map(str, self._changes))}")
        write_json(self.run.address, {"address": self.address, "tls": self.config.learner.tls is not None})
        self.trainer.start()
        return self.address

    def wait(self, watch: Callable[[Status], None] | None = None) -> dict[str, Any]:
        """Wait until the run is complete or stopped, and write metrics and status files meanwhile.

        Args:
            watch: Called with the run's status about four times a second.

        Returns:
            The run's result, as `result` returns it.

        Raises:
            CoveyError: the fault that ended the run, if it failed.
        """
        last_moment = last_files = 0.0
        while self.trainer.is_alive():
            self.trainer.join(timeout=0.25)
            now = time.monotonic()
            status = self.report.status()
            if watch is not None:
                watch(status)
            try:
                if now - last_moment >= self.config.logging.interval_s:
                    last_moment = now
                    self._give_moment(status)
                self._write_curves()
                if now - last_files >= REPORT_FILES_S:
                    last_files = now
                    self.write_files()
            except DiskFullError as exc:
                # These files are for people to read; training needs none of them, so it goes on.
                self._count_unwritten(exc)
        if self.learner.fault is not None:
            raise self.learner.fault
        return self.result()

    def _count_unwritten(self, exc: DiskFullError) -> None:
        """Count a failed write of metrics or status files; the first one of a run is also reported as an event."""
        if not self.learner.totals.counters["files_not_written"]:
            self.learner.event(f"{exc}; until then curves have gaps")
        self.learner.count("files_not_written")

    def result(self) -> dict[str, Any]:
        """The run's result as JSON: totals over the whole population and the best member's fitness.

        `covey train --json` prints it, and `result.json` holds it once the run has ended. The best member of a complete
        run was confirmed in fresh episodes; before, it is the one that was best when it was evaluated last.
        """
        totals = self.learner.totals
        wall_s = self.learner.training_s
        result: dict[str, Any] = {
            "run_dir": str(self.run.path),
            "state": self.learner.state.value,
            "env_steps": totals.env_steps,
            "wall_s": round(wall_s, 3),
            "env_steps_per_s": round(totals.env_steps / wall_s, 1) if wall_s else 0.0,
            "generations": self.learner.scheduler.generation + (self.learner.state is RunState.COMPLETE),
            **self._best_so_far(),
            "eval_env_steps": totals.eval_env_steps,
            "updates": totals.updates,
            "members_per_pass": round(self.learner.members_per_pass, 3),
            "idle_s": round(totals.idle_s, 2),
            "actor_wait_s": round(totals.actor_wait_s, 2),
            "learner_wait_s": round(totals.learner_wait_s, 2),
            "staleness_updates": round(totals.staleness_updates / max(1, totals.staleness_samples), 2),
            "wire_bytes": totals.wire_bytes,
            "raw_bytes": totals.raw_bytes,
        }
        return result | (self.trainer.evaluator.result or {})

    def _best_so_far(self) -> dict[str, Any]:
        """The result's keys for the best member, as its newest evaluation has it: None where there was none."""
        best = self.report.best()
        return {
            "best_member": None if best is None else best.member_id,
            "best_fitness": None if best is None else best.fitness,
            "best_fitness_stderr": None if best is None else best.fitness_stderr,
            "best_per_agent": None,
            "best_against": None,
            "best_confirmed": False,
        }

    def stop(self) -> None:
        """End the learner in order: a last checkpoint, actors disconnect, the port closes, status files are written."""
        # First the trainer, which writes a last checkpoint; then the server, which lets actors leave; the journal is
        # closed last, because both write to it.
        self.trainer.request_stop()
        if self.trainer.ident is not None:
            self.trainer.join(timeout=TRAINER_STOP_S)
        self._grpc.stop(GRACE_S)
        if self.learner.progress.may_become(RunState.STOPPED):
            self.learner.become(RunState.STOPPED)
        self.learner.journal.close()
        # The run is over, and a storage error that ended it has been reported already.
        with contextlib.suppress(StorageError):
            result = self.result()
            self._give_moment(self.report.status())
            self._write_curves()
            self._curves.close(result)
            self.write_files()
            write_json(self.run.result, result)
            # An address file that remains tells a resumed learner, and commands, that this one was killed.
            self.run.address.unlink(missing_ok=True)

    def write_files(self) -> None:
        """Write the run's status, members and actors as JSON files, which commands read when no learner answers.

        Members that died are not among them: `lineage.jsonl` has those. Of the living there are two records: how
        each came into this generation, and how it was born.
        """
        write_json(self.run.status, status_json(self.report.status()))
        write_json(self.run.members, members_json(self.report.members()))
        write_json(self.run.living, members_json(self.report.living()))
        write_json(self.run.actors, actors_json(self.report.actors()))

    def _give_moment(self, status: Status) -> None:
        """Give the curves their values of this moment: the machine, losses, training episodes."""
        learner = self.learner
        with learner.lock:
            population = learner.population
            places = {} if population is None else {m.member_id: k for k, m in enumerate(population.members)}
            agents = () if population is None else population.spaces.agent_ids
        give_moment(learner.curves, status, places, agents)

    def _write_curves(self) -> None:
        """Write what the curves were given since the last time."""
        if points := self.learner.curves.take():
            self._curves.write(points)
            self._curves.flush()


def _check_device(device: str) -> None:
    """Raise a `ConfigError` unless torch can compute on the device and read the result."""
    try:
        torch.ones(1, device=device).add(1).item()
    except (RuntimeError, AssertionError) as exc:
        raise ConfigError(
            f"learner.device: {device!r} is not usable here ({str(exc).splitlines()[0]}); use cpu or a device it has"
        ) from exc
