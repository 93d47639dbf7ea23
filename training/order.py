"""The order of an epoch as a function, not as a list: position -> row, in constant memory, the same on every machine.

A keyed permutation (a Feistel network over the next even number of bits, walked until it falls inside the range)
stands in for a shuffled array: 7M samples would cost 56 MB a worker and a pass over the past on resume. It is written
out here rather than taken from numpy's generators, whose streams may change between versions.

- `full`: every row may follow every other; reads are random over the whole release.
- `block` (what `shuffle=True` means): windows of consecutive rows come in random order, rows inside a window in random
  order. Shards are shuffled when they are built, so this loses nothing in mixing and keeps reads inside a few shards.
- `file`: row i at position i.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Uint64s: TypeAlias = npt.NDArray[np.uint64]
Int64s: TypeAlias = npt.NDArray[np.int64]
Cursor: TypeAlias = tuple[int, ...]

_MASK = (1 << 64) - 1
_SALTS = tuple(number * 0xD1342543DE82EF95 & _MASK for number in range(1, 7))  # one a round
_MOST_ONE_BY_ONE = 32


class Shuffle(StrEnum):
    """How an epoch is ordered."""

    BLOCK = "block"
    FULL = "full"
    FILE = "file"


class Order(Protocol):
    """Which row stands at a position of an epoch.

    A cursor holds what an order must remember to go on from a position; an order that can compute any position directly
    uses the empty one. `rows` takes ascending positions at or behind the cursor and returns the cursor behind them.
    """

    @property
    def num_positions(self) -> int:
        """Positions of an epoch."""
        ...

    def describe(self) -> dict[str, object]:
        """What the order depends on besides the epoch; two orders that describe themselves alike are equal."""
        ...

    def start(self) -> Cursor:
        """The cursor of position 0."""
        ...

    def rows(self, epoch: int, positions: Int64s, cursor: Cursor) -> tuple[Int64s, Cursor]:
        """Rows at ascending `positions`, and the cursor behind the last of them."""
        ...


def mix_bits(values: Uint64s) -> Uint64s:
    """The splitmix64 finaliser: a bijection of 64 bits in which every input bit moves every output bit."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def derive_key(*parts: int) -> int:
    """A 64-bit key from whole numbers; the order of the parts counts."""
    key = np.zeros(1, dtype=np.uint64)
    for part in parts:
        key = mix_bits(key * np.uint64(0x9E3779B97F4A7C15) + np.uint64((part + 0x632BE59BD9B4E019) & _MASK))
    return int(key[0])


def permute(values: Int64s, size: int, key: int | Uint64s) -> Int64s:
    """Where a keyed bijection of range(size) sends each value; `key` may be an array of one key a value."""
    if size <= 1:
        return values
    half = np.uint64(max(1, ((size - 1).bit_length() + 1) // 2))
    keys = np.broadcast_to(np.asarray(key, dtype=np.uint64), values.shape)
    out = _feistel(values.astype(np.uint64), half, keys)
    outside = out >= np.uint64(size)
    while outside.any():  # walking the cycle: at most 4 rounds are expected, since the network's range is under 4 * size
        out[outside] = _feistel(out[outside], half, keys[outside])
        outside = out >= np.uint64(size)
    return out.astype(np.int64)


def _permute_near(values: Int64s, size: int, key: int) -> Int64s:
    """As `permute`, for values of which many are equal: each of a short range of them is permuted once."""
    first, last = (int(values.min()), int(values.max())) if len(values) else (0, 0)
    if last - first >= _MOST_ONE_BY_ONE:
        return permute(values, size, key)
    return np.array([_permute_one(value, size, key) for value in range(first, last + 1)], dtype=np.int64)[values - first]


def _permute_one(value: int, size: int, key: int) -> int:
    """What `permute` does, for one value: array operations cost more than all of it."""
    if size <= 1:
        return value
    half = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half) - 1
    while True:
        left, right = value >> half, value & mask
        for salt in _SALTS:
            bits = (right + (key ^ salt)) & _MASK
            bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
            bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
            left, right = right, left ^ ((bits ^ (bits >> 31)) & mask)
        value = (left << half) | right
        if value < size:
            return value


def _feistel(values: Uint64s, half: np.uint64, keys: Uint64s) -> Uint64s:
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = values >> half, values & mask
    for salt in _SALTS:
        left, right = right, left ^ (mix_bits(right + (keys ^ np.uint64(salt))) & mask)
    return (left << half) | right


@dataclass(frozen=True, kw_only=True)
class ShardOrder:
    """The order of one pass over `num_positions` rows; `window` is the number of rows of a block."""

    num_positions: int
    seed: int
    shuffle: Shuffle
    window: int

    def describe(self) -> dict[str, object]:
        """What the order depends on besides the epoch."""
        about: dict[str, object] = {"seed": self.seed, "shuffle": str(self.shuffle), "num_samples": self.num_positions}
        return about | ({"window": self.window} if self.shuffle is Shuffle.BLOCK else {})

    def start(self) -> Cursor:
        """Nothing to remember: any position is computed directly."""
        return ()

    def rows(self, epoch: int, positions: Int64s, cursor: Cursor = ()) -> tuple[Int64s, Cursor]:
        """Rows at any `positions` of an epoch."""
        key = derive_key(self.seed, epoch)
        if self.shuffle is Shuffle.FULL:
            return permute(positions, self.num_positions, key), cursor
        if self.shuffle is Shuffle.BLOCK:
            return self._block_rows(positions, key), cursor
        return positions, cursor

    def _block_rows(self, positions: Int64s, key: int) -> Int64s:
        """Full blocks are permuted; the short one at the end of the release, if any, is put between two of them."""
        num_full, num_short = divmod(self.num_positions, self.window)
        short_start = derive_key(key, 1) % (num_full + 1) * self.window
        in_short = (positions >= short_start) & (positions < short_start + num_short)
        behind = positions >= short_start + num_short
        among_full = positions - np.where(behind, num_short, 0)
        blocks = np.where(in_short, num_full, _permute_near(np.where(in_short, 0, among_full // self.window), num_full, key))
        keys = mix_bits(blocks.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(derive_key(key, 2)))
        inside = np.where(in_short, positions - short_start, among_full % self.window)
        if in_short.any():
            inside[~in_short] = permute(inside[~in_short], self.window, keys[~in_short])
            inside[in_short] = permute(inside[in_short], num_short, keys[in_short])
        else:
            inside = permute(inside, self.window, keys)
        return blocks * self.window + inside
