"""A pack: networks of one structure stacked as rows of matrices, whatever population member and agent they belong to.

Parameters, targets and Adam moments are rows of (K, P) matrices, so that a layer is one batched product and an
optimiser step a handful of operations. A pass works on some of the rows: see `pack_rows`.

Dims: K networks, one row each; P numbers of a row: those of the padded network, in whole cache lines.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from covey.networks import NetworkSpec, Params
from covey.networks.pack import PackLayout
from covey_server.member import Network


class Pack:
    """K networks of one structure stacked as matrices; the networks themselves change only at `unpack`.

    Args:
        rows: Whose network each row is: (position of its key, position of its member in the population).
        networks: The networks, one a row.
        agents: How many agents each of them plays or scores; more than 1 where parameters are shared.
        device: Where the matrices live.
        room: The architecture that they are padded to, and the layers that count as padded, as `PackLayout` has them.
            None: those that follow from these networks alone.
        samples: How many samples any of the members learns from at most; None: all that there are.

    Attributes:
        params: (K, P), P numbers of a row.
        target: (K, P) target parameters, or None where the networks have none.
        first_moment, second_moment: (K, P), Adam's.
        adam_steps: (K,) int64 steps that Adam has made, kept on the CPU for what Python decides by them.
        steps: (K,) float32, the same on the device, for Adam's arithmetic.
        lr: (K,) float64 learning rates, on the CPU.
        rates: (K,), the same on the device, at a fixed place: recorded updates read them there.
        mask: (K, P), 1 for numbers of the network and 0 for padding; None where only lines are filled up.
        valid: For each layer's units, (K, units): 1 for a unit of the network and 0 for padding.
    """

    def __init__(
        self,
        rows: Sequence[tuple[int, int]],
        networks: Sequence[Network],
        agents: int,
        device: torch.device,
        room: tuple[NetworkSpec, frozenset[str]] | None = None,
        samples: int | None = None,
    ) -> None:
        self.rows = list(rows)
        self.agents = agents
        self.networks = list(networks)
        self.samples = samples
        wide, uneven = room or (None, None)
        self.layout = PackLayout(tuple(network.spec for network in networks), wide, uneven)
        self.spec = self.layout.padded

        def matrix(params: Sequence[Params], *, moments: bool = False) -> Tensor:
            return torch.from_numpy(self.layout.pack(params, moments=moments)).to(device)

        self.params = matrix([network.params for network in networks])
        targets = [network.target for network in networks if network.target is not None]
        self.target = matrix(targets) if targets else None
        self.first_moment = matrix([network.first_moment for network in networks], moments=True)
        self.second_moment = matrix([network.second_moment for network in networks], moments=True)
        self.adam_steps = np.array([network.adam_steps for network in networks], np.int64)
        self.steps = torch.from_numpy(self.adam_steps.astype(np.float32)).to(device)
        self.lr = np.zeros(len(networks))
        self.rates = torch.zeros(len(networks), dtype=torch.float64 if device.type == "cpu" else torch.float32).to(
            device
        )
        # Beyond the padded network's numbers gradients are zeros anyway.
        self.mask = torch.from_numpy(self.layout.mask).to(device) if self.layout.is_padded else None
        self.valid = {label: torch.from_numpy(v).to(device) for label, v in self.layout.valid().items()}

    def release(self) -> None:
        """Let the networks forget their own numbers, which are out of date once the matrices have changed."""
        for network in self.networks:
            network.release()

    def unpack(self) -> None:
        """Copy parameters, targets, Adam moments and step counts from the matrices into the unpadded networks."""
        params, first, second = (m.cpu().numpy() for m in (self.params, self.first_moment, self.second_moment))
        target = None if self.target is None else self.target.cpu().numpy()
        for k, network in enumerate(self.networks):
            network.params = self.layout.unpack_row(k, params[k])
            network.first_moment = self.layout.unpack_row(k, first[k])
            network.second_moment = self.layout.unpack_row(k, second[k])
            network.target = None if target is None else self.layout.unpack_row(k, target[k])
            network.adam_steps = int(self.adam_steps[k])
