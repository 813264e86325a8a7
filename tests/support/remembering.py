"""Policies with memory of random weights, for tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from covey.acting import LoadedPolicy
from covey.networks import MLP, Input, NetworkSpec, NumpyOps, Recurrent
from covey.spaces import AgentSpec
from covey.wire.policy_file import encode_policy, spec_of


def remembering(agent: AgentSpec, seed: int, state: int = 5) -> LoadedPolicy:
    """A policy of an agent that remembers so many numbers; 0: nothing."""
    encoder = MLP(hidden_size=(8,))
    own = Recurrent(encoder=encoder, hidden_state_size=state) if state else encoder
    spec = NetworkSpec(
        inputs=(Input("observation", agent.observation.width, own),),
        head=MLP(hidden_size=(8,)),
        outputs=agent.action.width,
        latent_dim=6,
    )
    params = {name: 2 * values for name, values in spec.init(np.random.default_rng(seed)).items()}
    return LoadedPolicy.decode(encode_policy(spec_of(spec, agent, "deterministic"), params))


def remembered(policy: LoadedPolicy, seen: NDArray[np.float32], state: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the policy remembers after it has seen these observations (T, width), one after another."""
    state = state[None]
    for x in seen:
        _, state = policy.spec.network.step(NumpyOps(), policy.params, x[None].copy(), state)
    after: NDArray[np.float32] = state[0]
    return after
