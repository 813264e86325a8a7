"""Settings that are changed as a run is resumed: what the configuration's file and living members then have."""

from __future__ import annotations

from collections.abc import Sequence

import yaml

from covey.config import Config
from covey.config.resuming import Change
from covey.config.section import OnResume
from covey.run.directory import RunDirectory
from covey.run.files import cannot_write, write_synced
from covey_server.evolution.hyperparameters import carried_over
from covey_server.member import Member


def set_in_members(members: Sequence[Member], changes: Sequence[Change]) -> str:
    """Give all living members the changed hyperparameters, whatever evolution had made of them.

    Returns:
        The changes in words; empty if none concerns members.
    """
    own = [change for change in changes if change.kind is OnResume.MEMBERS]
    values = {change.key.rpartition(".")[2]: change.after for change in own}
    if values:
        for member in members:
            before = member.hyperparameters.learn_step
            member.hyperparameters = member.hyperparameters.changed(**values)
            member.unpaid_steps = carried_over(member.unpaid_steps, before, member.hyperparameters.learn_step)
    return ", ".join(map(str, own))


def keep_configuration(run: RunDirectory, config: Config) -> None:
    """Write the configuration with which a run goes on; the one before stays beside it as `config.N.yaml`.

    Raises:
        StorageError: the file cannot be written.
    """
    number = 1
    while (before := run.config.with_name(f"config.{number}.yaml")).exists():
        number += 1
    temporary = run.config.with_name("config.new.yaml")
    try:
        write_synced(before, run.config.read_bytes())
        write_synced(temporary, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False).encode())
        temporary.rename(run.config)
    except OSError as exc:
        raise cannot_write(run.config, exc) from exc
