"""Random orders of what networks learn from, cut into minibatches of equal size, for many networks at once.

Dims: R networks; n minibatches (of the network that has most), S items of each (padded); M members due.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covey_server.packing import counter_rng


class Shuffle:
    """Shuffles the items of R networks, decisions or sequences of them, into minibatches, again for each epoch.

    A network with D items has n = ceil(D / size) minibatches, equal but for one item: not a last one of a few, which
    would move the network as far as a whole one. Minibatch j is the items from j D // n up to (j + 1) D // n of a
    random order. Example: 5 items and size 2 make n = 3, from 0, 1 and 3: sizes 1, 2 and 2.

    Args:
        counts: (R,) items of each network, which stand one network after another.
        sizes: (R,) largest minibatch of each.
        places: S, at least the items of any minibatch.
        device: Where the orders are used.

    Attributes:
        own: (n, R, S), which places of minibatches have an item; what is in others is padding.
        length: (n, R) items of each minibatch.
    """

    def __init__(self, counts: NDArray[np.int64], sizes: NDArray[np.int64], places: int, device: torch.device) -> None:
        number = -(-counts // sizes)
        j = np.arange(number.max())[:, None]
        divisor = np.maximum(number, 1)  # a network without items has no minibatch
        first = np.minimum(j, number) * counts // divisor
        self.length = np.minimum(j + 1, number) * counts // divisor - first
        place = np.arange(places)
        self.own = place < self.length[..., None]
        # By network, (R, n * S); padding repeats the network's first item.
        at = np.where(self.own, first[..., None] + place, 0).transpose(1, 0, 2).reshape(len(counts), -1)
        self._at = torch.from_numpy(at).to(device, non_blocking=True)
        self._widest = int(counts.max())
        self._starts = torch.from_numpy(np.minimum(np.cumsum(counts) - counts, counts.sum() - 1)).to(
            device, non_blocking=True
        )
        self._beyond = torch.from_numpy(np.arange(self._widest) >= counts[:, None]).to(device, non_blocking=True)

    def order(self, keys: Tensor, streams: Sequence[str]) -> Tensor:
        """Draw an order: which items each of n minibatches of R networks has in its S places, (n, R, S).

        Args:
            keys: Random keys, one for each of M members that learn now; networks are ordered by stream, then member.
            streams: Names of the random streams that the networks of each id draw from, R / M of them.
        """
        # A random permutation of each network's items: the order of as many random numbers.
        bits = torch.cat([counter_rng.bits(keys, stream, self._widest) for stream in streams])
        # Draws have 32 bits: padding, with a number above them, sorts behind all items of the network.
        order = ascending(bits.masked_fill_(self._beyond, 1 << 32))
        n, r, s = self.own.shape
        index = order.gather(1, self._at) + self._starts.unsqueeze(1)
        return index.view(r, n, s).transpose(0, 1).contiguous()


def ascending(numbers: Tensor) -> Tensor:
    """Return the places of int64 numbers below 2**33 in ascending order, each row by itself; equal ones as they stand.

    Example: (30, 10, 20, 10) gives (1, 3, 2, 0).
    """
    if numbers.device.type != "cpu":
        return numbers.argsort(stable=True, dim=1)
    # Numbers with their places in the lowest bits are sorted many times as fast as what has to keep track of places.
    bits = numbers.shape[1].bit_length()
    places = np.arange(numbers.shape[1])
    both = np.sort((numbers.numpy() << bits) | places, axis=1)
    return torch.from_numpy(both & ((1 << bits) - 1))
