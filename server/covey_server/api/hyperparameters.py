"""A member's hyperparameters as attributes, such as `agent.lr`, under the names that any algorithm has for them."""

from __future__ import annotations

from typing import Any, Protocol

import pydantic

from covey.config.section import explain
from covey.errors import ConfigError
from covey_server.member import Member


class _OfMember(Protocol):
    """What has these attributes: it knows its member, whose algorithm has a name."""

    member: Member

    @property
    def algo(self) -> str: ...

    def unpacked(self) -> Member: ...


class _Hyperparameter:
    """Attribute of a member's agent that reads and writes the hyperparameter of the same name of its member."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, agent: _OfMember, owner: type) -> Any:
        self._check(agent)
        return getattr(agent.member.hyperparameters, self._name)

    def __set__(self, agent: _OfMember, value: float) -> None:
        self._check(agent)
        member = agent.unpacked()
        try:
            member.hyperparameters = member.hyperparameters.changed(**{self._name: value})
        except pydantic.ValidationError as exc:
            raise ConfigError(explain(exc, type(member.hyperparameters))) from exc

    def _check(self, agent: _OfMember) -> None:
        if not hasattr(agent.member.hyperparameters, self._name):
            raise AttributeError(f"{self._name}: {agent.algo} has no such hyperparameter")


class MemberHyperparameters:
    """Every hyperparameter that an algorithm of covey has; those that the member's own does not have are no attributes.

    Reading one of another algorithm is an AttributeError; a value that it may not have is a ConfigError.
    """

    batch_size = _Hyperparameter()
    learn_step = _Hyperparameter()
    gamma = _Hyperparameter()
    lr = _Hyperparameter()
    gae_lambda = _Hyperparameter()
    q_lambda = _Hyperparameter()
    clip_coef = _Hyperparameter()
    ent_coef = _Hyperparameter()
    vf_coef = _Hyperparameter()
    max_grad_norm = _Hyperparameter()
    update_epochs = _Hyperparameter()
    lr_actor = _Hyperparameter()
    lr_critic = _Hyperparameter()
    tau = _Hyperparameter()
    expl_noise = _Hyperparameter()
    policy_freq = _Hyperparameter()
