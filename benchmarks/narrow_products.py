"""How long a CPU takes for batched products with few columns, in three ways; prints one JSON object.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/narrow_products.py [--samples 256 2400]

Two networks multiply (samples, 64) by (64, columns) and add a bias, as a policy's last layer does: as it stands, as the
transposed product, and with the weights padded to 16 columns, which is how updates do it. Microseconds are the least of
many runs; 64 columns are there to compare with.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch

NETWORKS, INPUTS, PADDED, RUNS = 2, 64, 16, 200


def least_us(action: Callable[[], object]) -> float:
    """Measure an action's shortest run, in microseconds."""
    shortest = float("inf")
    for _ in range(RUNS):
        began = time.perf_counter()
        action()
        shortest = min(shortest, time.perf_counter() - began)
    return round(1e6 * shortest, 1)


def measure(samples: int, columns: int) -> dict[str, float]:
    """Microseconds of one product in each way."""
    x, w = torch.randn(NETWORKS, samples, INPUTS), torch.randn(NETWORKS, INPUTS, columns)
    b, y = torch.randn(NETWORKS, 1, columns), torch.empty(NETWORKS, samples, columns)
    transposed = torch.empty(NETWORKS, columns, samples)
    wide, wide_y = torch.zeros(NETWORKS, INPUTS, PADDED), torch.empty(NETWORKS, samples, PADDED)

    def as_transposed() -> None:
        torch.baddbmm(b.mT, w.mT, x.mT, out=transposed)
        y.copy_(transposed.mT)

    def padded() -> None:
        wide[..., :columns] = w
        torch.bmm(x, wide, out=wide_y)
        torch.add(wide_y[..., :columns], b, out=y)

    found = {"plain": least_us(lambda: torch.baddbmm(b, x, w, out=y)), "transposed": least_us(as_transposed)}
    return found | ({"padded": least_us(padded)} if columns <= PADDED else {})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[32, 256, 2400])
    samples = parser.parse_args().samples
    torch.set_num_threads(1)
    figures = {str(n): {str(columns): measure(n, columns) for columns in (2, 5, 8, 11, 64)} for n in samples}
    print(json.dumps({"benchmark": "narrow_products", "microseconds": figures}))


if __name__ == "__main__":
    main()
