"""How a member explores while it trains."""

from __future__ import annotations

from covey.config import Config, OnPolicyAlgorithm
from covey.v1.order_pb2 import Exploration
from covey_server.member import Member


def exploration_of(config: Config, member: Member) -> Exploration:
    """What orders say of it: samples of the policy itself on-policy, noise off-policy, as far as it has come."""
    algorithm = config.algorithm
    if isinstance(algorithm, OnPolicyAlgorithm):
        return Exploration(kind=Exploration.KIND_SAMPLE)
    scale = float(member.hyperparameters.get("expl_noise", algorithm.expl_noise))
    if algorithm.expl_noise_final is not None:
        share = min(1.0, member.env_steps / config.training.max_steps)
        scale += share * (algorithm.expl_noise_final - scale)
    return Exploration(
        kind=Exploration.KIND_ORNSTEIN_UHLENBECK if algorithm.O_U_noise else Exploration.KIND_GAUSSIAN,
        scale=scale,
        mean=algorithm.mean_noise,
        theta=algorithm.theta,
        dt=algorithm.dt,
    )
