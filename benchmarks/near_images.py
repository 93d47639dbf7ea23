"""Proposing look-alikes among many pictures: time and memory of the exact join of hashes, by the number of pictures.

Hashes are made up: a random one for each picture's whole and each of its windows, and for one picture in ten a copy with up to
8 bits flipped. A second run gives three pictures in four one hash, as pages of one layout have. Each size runs in a process of
its own, so that its peak is its own; `python -m benchmarks.near_images 1000000` goes up to that many.
"""

import multiprocessing
import resource
import sys
import time

import numpy as np

from benchmarks.printing import show
from curation.dedup.hamming_join import HashTable
from curation.dedup.picture_hashes import WINDOWS

BITS = 8
SIZES = (10_000, 100_000, 1_000_000)
DEFAULT_LARGEST = 100_000


def made_up(number: int, *, crowded: bool) -> np.ndarray:
    """[number, windows] hashes, of which a tenth are near to others."""
    rng = np.random.default_rng(number)
    hashes = rng.integers(0, 2**64, (number, len(WINDOWS)), dtype=np.uint64)
    copies = rng.permutation(number)[: number // 10]
    for copy, original in zip(copies, rng.integers(0, number, len(copies)), strict=True):
        flips = rng.permutation(64)[: rng.integers(0, BITS + 1)]
        hashes[copy, 0] = hashes[original, 0] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64), initial=0)
    if crowded:
        hashes[: 3 * number // 4] = hashes[0, 0]
    return hashes


def measure(number: int, crowded: bool) -> tuple[float, float, int, int]:
    """Seconds, peak megabytes, hashes asked about and near pairs of distinct hashes."""
    join(made_up(2_000, crowded=False))
    hashes = made_up(number, crowded=crowded)
    start = time.perf_counter()
    asked, near = join(hashes)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, asked, near


def join(hashes: np.ndarray) -> tuple[int, int]:
    """Look all whole pictures up among all windows; returns how many were asked about, and how many hashes were near."""
    table = HashTable.of(hashes.ravel(), np.arange(hashes.size, dtype=np.uint32), num_asked=len(hashes))
    asked = np.unique(hashes[:, 0])
    edges, places = table.near(asked, BITS)
    if (np.diff(edges) < 1).any():
        raise AssertionError("every hash is near to itself")
    return len(asked), len(places)


def main() -> None:
    """Print the figures."""
    largest = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_LARGEST
    rates: dict[int, float] = {}
    for number in (size for size in SIZES if size <= largest):
        for crowded in (False, True):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, peak, asked, near = pool.apply(measure, (number, crowded))
            kind = "three in four alike" if crowded else "all unlike"
            print(
                f"{number:>9,} pictures x {len(WINDOWS)} hashes, {kind:<19} {seconds:7.2f} s, peak {peak:6,.0f} MB, "
                f"{asked:,} asked, {near:,} near"
            )
            if not crowded:
                rates[number] = number / seconds
    first, last = min(rates), max(rates)
    show(f"join of hashes at {last:,}", rates[last], rates[first], "pictures/s", versus=f"at {first:,}")


if __name__ == "__main__":
    main()
