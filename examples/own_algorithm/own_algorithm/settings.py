"""What a configuration may say of independent Q-learning. Imported by actors and queries too: no torch here."""

from typing import ClassVar, Literal

from pydantic import Field

from covey.config import AlgorithmSettings, Hyperparameters
from covey.wire.limits import EPSILON_GREEDY_SINCE


class IndependentQHyperparameters(Hyperparameters):
    """What evolution may change, besides `batch_size` and `learn_step`: each member has values of its own."""

    lr: float = Field(default=0.001, gt=0, le=1, description="Learning rate (Adam).")
    gamma: float = Field(default=0.95, ge=0, le=1, description="Discount factor of rewards, per env step.")


class IndependentQSettings(IndependentQHyperparameters, AlgorithmSettings):
    """Independent Q-learning (Tan, 1993): each agent learns the values of its own discrete actions."""

    hyperparameters: ClassVar[type[Hyperparameters]] = IndependentQHyperparameters
    implementation: ClassVar[str] = "own_algorithm.independent_q:IndependentQ"
    oldest_protocol_version: ClassVar[int] = EPSILON_GREEDY_SINCE

    name: Literal["IQL"] = Field(description="Name of the algorithm.")
    tau: float = Field(default=0.01, gt=0, le=1, description="Share by which targets move towards the networks.")
    epsilon: float = Field(default=0.1, ge=0, le=1, description="Probability of an action drawn uniformly.")
