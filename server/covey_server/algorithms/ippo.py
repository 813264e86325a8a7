"""IPPO (de Witt et al., 2020): PPO (Schulman et al., 2017) for every agent or group of agents by itself.

With the policy pi and the values V at the round's start, for decision t of an agent, r_t = pi'(a_t|o_t) / pi(a_t|o_t):

    A_t  = generalised advantages, R_t = A_t + V(o_t); A_t is normalised in each minibatch
    L_pi = -mean min(r_t A_t, clip(r_t, 1 - c, 1 + c) A_t) - ent_coef * mean H(pi'(.|o_t))
    L_V  = vf_coef * mean 0.5 max((V' - R_t)^2, (V + clip(V' - V, -c, c) - R_t)^2)

over `update_epochs` passes through the round in shuffled minibatches. A network whose last minibatch of a pass has
mean (r - 1 - log r) above `target_kl` learns no more from this round. What the environment chose for an agent is left
out of L_pi.

Dims: R pairs of a policy and a value (ids, each for the members due in turn); K networks of a pack, A policies and C
values among them; n minibatches of B decisions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey.config import Config, OnPolicyAlgorithm
from covey.spaces import EnvironmentSpaces
from covey_server.algorithms.algorithm import Algorithm
from covey_server.algorithms.compiling import compiled, padding_of
from covey_server.algorithms.epochs import Dealer, Epoch
from covey_server.algorithms.estimates import estimates
from covey_server.algorithms.kinds import Kind, Share, families_of
from covey_server.algorithms.pooled import Pool
from covey_server.experience.rollouts import Rollout, Rollouts
from covey_server.member import Member
from covey_server.packing import counter_rng
from covey_server.packing.networks_by_role import PackedNetworks
from covey_server.packing.policy_snapshot import PolicySnapshot
from covey_server.packing.recording import Recorder

METRICS = ("policy_loss", "entropy", "approx_kl", "clip_fraction", "value_loss")


def policy_loss(log_ratio: Tensor, advantage: Tensor, clip: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Minus the clipped surrogate, (K,), and its gradient with respect to `log_ratio`.

    Args:
        log_ratio: (K, B).
        advantage: (K, B).
        clip: (K, 1).
        weight: (K, B), with a sum of 1.
    """
    ratio = log_ratio.exp()
    free, bound = ratio * advantage, ratio.clamp(1 - clip, 1 + clip) * advantage
    pull = -weight * torch.where(free <= bound, free, 0)  # where the bound is what counts, nothing pulls
    return -(weight * torch.minimum(free, bound)).sum(-1), pull


def value_loss(value: Tensor, before: Tensor, target: Tensor, clip: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Half the squared error of a value, or of the same kept near what it was if that is larger.

    Args:
        value: (K, B).
        before: (K, B).
        target: (K, B).
        clip: (K, 1).
        weight: (K, B).

    Returns:
        The loss (K,), and its gradient with respect to `value`.
    """
    error, moved = value - target, value - before
    kept = moved.clamp(-clip, clip)
    squares, bound = error.square(), (before + kept - target).square()
    # Within the clip both are the same error, but for rounding; beyond it the kept one does not move with the value.
    pull = weight * torch.where((squares >= bound) | (moved == kept), error, 0)
    return 0.5 * (weight * torch.maximum(squares, bound)).sum(-1), pull


class IPPO(Algorithm):
    """Independent policies and values; agents of a group share theirs unless that is switched off.

    Args:
        config: The run's.
        spaces: The environment's.
        members: The population. `Member.updates` counts learning phases, `Network.scale` moves with each; everything
            else in a member stays as it is until `unpack`.
        device: Where training happens.
    """

    name = "IPPO"

    def __init__(
        self, config: Config, spaces: EnvironmentSpaces, members: Sequence[Member], device: torch.device | str = "cpu"
    ) -> None:
        settings = config.algorithm
        assert isinstance(settings, OnPolicyAlgorithm)
        self._members = list(members)
        self._seed = config.training.seed
        self._device = torch.device(device)
        self._families = [_Family(f, config, members, self._device) for f in families_of(spaces, settings)]
        self.passes = 0
        self.member_updates = 0

    def update(self, due: Sequence[int], experience: Rollouts) -> None:
        """Learn from the rounds of the members in `due`, which are taken out of `experience`."""
        chosen = tuple(sorted(due))
        members = [self._members[m] for m in chosen]
        rounds = [experience.take(member.member_id) for member in members]
        ids, counts = [m.member_id for m in members], [m.updates for m in members]
        keys = counter_rng.keys(self._seed, ids, counts, self._device)
        for family in self._families:
            for live in family.learn(chosen, rounds, keys):
                self.passes += 1
                self.member_updates += live
        for member in members:
            member.updates += 1

    def snapshot(self) -> PolicySnapshot:
        """The policies as they are now; cheap, and safe to unpack on another thread."""
        return PolicySnapshot.of([family.networks for family in self._families], self._members)

    def unpack(self) -> None:
        """Write weights, moments and step counts back into the members."""
        for family in self._families:
            family.networks.unpack()

    def metrics(self) -> dict[int, dict[str, float]]:
        """METRICS, means over networks and minibatches since the last call, per member id; then reset."""
        told = [family.told() for family in self._families]
        sums, counts = (np.sum([t[i] for t in told], axis=0) for i in range(2))
        return {
            member.member_id: {name: float(sums[i, m] / counts[i, m]) for i, name in enumerate(METRICS) if counts[i, m]}
            for m, member in enumerate(self._members)
        }


class _Family:
    """The networks of a family of kinds, of all members: they learn in the same passes, each from its own decisions."""

    def __init__(self, kinds: Sequence[Kind], config: Config, members: Sequence[Member], device: torch.device) -> None:
        settings = config.algorithm
        assert isinstance(settings, OnPolicyAlgorithm)
        self._kinds, self._settings, self._device = kinds, settings, device
        self._pool = Pool(kinds, device)
        self._ids = [i for kind in kinds for i in kind.ids]
        keys = [f"{role}/{i}" for role in ("actor", "critic") for i in self._ids]
        self.networks = PackedNetworks(
            members,
            {key: (k,) for k, key in enumerate(keys)},
            device,
            widen=True,
            multiple=padding_of(config),
        )
        self._step = compiled(type(self)._gradients, config)  # unbound: it must not keep itself alive
        self._compiled = config.learner.compile
        self._recorder = Recorder()
        self._hyper = {name: np.array([m.hyperparameters[name] for m in members]) for name in settings.evolvable}
        self._sums = torch.zeros(len(METRICS), len(members), device=device)
        self._counts = np.zeros((len(METRICS), len(members)), np.int64)

    @torch.no_grad()
    def learn(self, due: tuple[int, ...], rounds: Sequence[Rollout], keys: Tensor) -> list[int]:
        """A learning phase of these members; for each batched pass, how many of them it updated."""
        agents = [a for kind in self._kinds for its in kind.ids.values() for a in its]
        if not any(len(round.agents[a].here) for round in rounds for a in agents):
            return []
        pooled = self._pool(rounds)
        whose = np.tile(due, len(self._ids))  # position in the population of the member of each of the R pairs
        hyper = {name: values[whose] for name, values in self._hyper.items()}
        before = estimates(
            pooled,
            hyper["gamma"],
            hyper["gae_lambda"],
            self._shares(due, due),
            rescale=self._settings.normalize_values,
        )
        dealer = Dealer(pooled, before, hyper["batch_size"])
        stopped = np.zeros(len(whose), bool)
        passes: list[int] = []
        for e in range(int(hyper["update_epochs"].max())):
            going = (hyper["update_epochs"] > e) & ~stopped
            members = tuple(m for m in due if going[whose == m].any())
            if not members:
                break
            epoch = dealer.deal(keys, [f"shuffle/{e}/{i}" for i in self._ids], going)
            for share in self._shares(members, due):
                live = epoch.live[:, [*share.policies, *share.values]]
                if not live.any():
                    continue
                passes += np.sum([live[:, np.equal(share.members, m)].any(1) for m in members], axis=0).tolist()
                divergence = self._improve(share, members, epoch, pooled.x)
                if self._settings.target_kl is not None:
                    stopped[share.policies] |= divergence.cpu().numpy() > self._settings.target_kl
        return passes

    def _improve(self, share: Share, members: tuple[int, ...], epoch: Epoch, x: Tensor) -> Tensor:
        """One pass through the round; returns the divergence in each policy's last minibatch, (A,)."""
        n = int(epoch.live[:, [*share.policies, *share.values]].any(1).sum())
        policies, values = epoch.of(share.policies, n), epoch.of(share.values, n)
        a = len(share.policies)
        clip = self._of("clip_coef", share).unsqueeze(1)
        ent_coef, vf_coef = self._of("ent_coef", share)[:a], self._of("vf_coef", share)[a:]
        lr = self._hyper["lr"][list(members)]
        bound = None
        if "max_grad_norm" in self._hyper:
            bound = torch.from_numpy(self._hyper["max_grad_norm"][list(members)].astype(np.float32)).to(self._device)
        live = np.concatenate([policies.policy_live, values.live], 1)
        view = torch.cat([policies.view, values.view], 1)
        log_ratios, losses = [], []
        for j in range(n):
            seen = x.index_select(0, view[j].flatten()).view(*view.shape[1:], -1)
            share.part.count_steps(live[j])
            going = None if live[j].all() else live[j]

            def change(*tensors: Tensor, going: NDArray[np.bool_] | None = going) -> Sequence[Tensor]:
                gradient, *told = self._step(self, share, *tensors)
                share.part.move(gradient, lr, bound, going)
                return told

            inputs = [seen, clip, ent_coef, vf_coef, *policies.judged(j), *values.valued(j)]
            if self._compiled:
                log_ratio, *losses_j = change(*inputs)
            else:
                moving = None if going is None else going.tobytes()
                key = share.part, share.part.equal_step_counts(going), moving, seen.shape, policies.mask is None
                log_ratio, *losses_j = (y.clone() for y in self._recorder(key, change, inputs))
            log_ratios.append(log_ratio)
            losses.append(losses_j)
        l_pi, h, l_v = (torch.stack(x) for x in zip(*losses, strict=True))
        log_ratio, weight = torch.stack(log_ratios), policies.policy_weight[:n]
        ratio = log_ratio.exp()
        divergence = (weight * (ratio - 1 - log_ratio)).sum(-1)
        clipped = (weight * ((ratio - 1).abs() > clip[:a])).sum(-1)
        self._tell(share.members[:a], 0, [l_pi, h, divergence, clipped], live[:, :a])
        self._tell(share.members[a:], 4, [l_v], live[:, a:])
        last = n - 1 - live[::-1, :a].argmax(0)
        return divergence[torch.from_numpy(last).to(self._device), torch.arange(a, device=self._device)]

    def _gradients(
        self,
        share: Share,
        seen: Tensor,
        clip: Tensor,
        ent_coef: Tensor,
        vf_coef: Tensor,
        action: Tensor,
        log_prob: Tensor,
        advantage: Tensor,
        policy_weight: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Of a share's networks (K, P); log r_t (A, B); L_pi and H of policies (A,), L_V of values (C,).

        `others` are the mask of actions, where there is one, and value, target and weight of what values learn from.
        """
        *mask, value, target, weight = others
        a = len(share.policies)
        said = share.part.outputs("learn", seen)
        judged = share.judge(said, share.log_std(), action, mask[0] if mask else None)
        log_ratio = judged.log_prob - log_prob
        l_pi, of_log_prob = policy_loss(log_ratio, advantage, clip[:a], policy_weight)
        h = (policy_weight * judged.entropy).sum(-1)
        l_v, of_value = value_loss(said[a:, :, 0], value, target, clip[a:], weight)
        pull, of_log_std = judged.back(of_log_prob, -ent_coef.unsqueeze(1) * policy_weight)
        pull[a:, :, 0] = vf_coef.unsqueeze(1) * of_value
        gradient = share.part.gradient(pull)
        if of_log_std is not None:
            own = share.part.log_std(gradient)
            assert own is not None
            own.copy_(of_log_std)
        return gradient, log_ratio, l_pi, h, l_v

    def _shares(self, members: tuple[int, ...], due: tuple[int, ...]) -> list[Share]:
        """The networks of some of the members due, pack by pack."""
        return [Share(part, self._kinds, due) for part in self.networks.select(members).rows]

    def _of(self, name: str, share: Share) -> Tensor:
        """A hyperparameter of a share's networks, (K,)."""
        return torch.from_numpy(self._hyper[name][share.members].astype(np.float32)).to(self._device)

    def _tell(self, members: list[int], first: int, values: list[Tensor], live: NDArray[np.bool_]) -> None:
        """Add (n, networks of these members) numbers, 0 where not live, to METRICS from `first` on."""
        at, names = np.array(members, np.int64), slice(first, first + len(values))
        sums = torch.stack([x.sum(0) for x in values])
        self._sums[names].index_add_(1, torch.from_numpy(at).to(self._device), sums)
        self._counts[names] += np.bincount(at, live.sum(0), len(self._counts[0])).astype(np.int64)

    def told(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Sums of METRICS by member, and of how many numbers; from now on they count anew."""
        sums, counts = self._sums.cpu().numpy().astype(np.float64), self._counts.copy()
        self._sums.zero_()
        self._counts[:] = 0
        return sums, counts
