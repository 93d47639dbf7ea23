"""Several releases in given shares, at every prefix: which release comes next is scheduled, not drawn.

Draw x of a release with share w may come no earlier than slot floor(x / w) and no later than slot ceil((x + 1) / w) -
1; among the releases that may come, the one whose time runs out first is taken. Earliest deadline first meets all
such deadlines when the shares sum to one, so after n slots every release has been taken within one sample of n * w
(the Pfair bound). All of it is integer arithmetic on the exact value of the weights: no drift, whatever n. A draw at
random would be off by about sqrt(n).
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from training.errors import ConfigError
from training.order import Cursor, Int64s, ShardOrder


def integer_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """The weights as the smallest whole numbers of the same ratio.

    A float is read as the simplest fraction that a person would have written for it (0.1 is 1/10). Raises ConfigError
    for a weight that is not a positive number.
    """
    for weight in weights:
        if not (math.isfinite(weight) and weight > 0):
            raise ConfigError(f"a mixture weight is {weight}; expected a positive number (leave the release out instead of 0)")
    fractions = [_simplest(weight) for weight in weights]
    common = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * common) for fraction in fractions]
    divisor = math.gcd(*whole)
    return tuple(number // divisor for number in whole)


def _simplest(weight: float) -> Fraction:
    exact = Fraction(weight)
    simple = exact.limit_denominator(1_000_000)
    return simple if float(simple) == weight else exact


class Schedule:
    """Which of several sources takes slot n, n + 1, ...; starts behind `counts` earlier draws."""

    def __init__(self, shares: Sequence[int], counts: Sequence[int]) -> None:
        self._shares = tuple(shares)
        self._total = sum(shares)
        self.counts = list(counts)
        self.slot = sum(counts)
        self._ready: list[tuple[int, int]] = []
        self._waiting: list[tuple[int, int]] = []
        for source in range(len(shares)):
            self._await(source)

    def _await(self, source: int) -> None:
        release = self.counts[source] * self._total // self._shares[source]
        heapq.heappush(self._waiting, (release, source))

    def take(self) -> tuple[int, int]:
        """Source of the next slot, and which of its draws this is (from 0)."""
        while self._waiting and self._waiting[0][0] <= self.slot:
            source = heapq.heappop(self._waiting)[1]
            deadline = -(-(self.counts[source] + 1) * self._total // self._shares[source])
            heapq.heappush(self._ready, (deadline, source))
        source = heapq.heappop(self._ready)[1]
        draw = self.counts[source]
        self.counts[source] += 1
        self.slot += 1
        self._await(source)
        return source, draw


@lru_cache(maxsize=32)
def counts_after(shares: tuple[int, ...], num_slots: int) -> tuple[int, ...]:
    """How often each source is taken in the first `num_slots` slots. The schedule repeats every sum(shares) slots."""
    periods, rest = divmod(num_slots, sum(shares))
    schedule = Schedule(shares, [0] * len(shares))
    for _ in range(rest):
        schedule.take()
    return tuple(periods * share + count for share, count in zip(shares, schedule.counts, strict=True))


@dataclass(frozen=True, kw_only=True)
class MixtureOrder:
    """Positions of a mixture's epoch as rows of its releases laid end to end.

    Each release is passed through in its own shuffled order, epoch after epoch of its own; epoch e of the mixture
    goes on where epoch e - 1 left every release, with a schedule that begins anew. The cursor is the number of draws
    from each release so far in this epoch.
    """

    num_positions: int
    parts: tuple[ShardOrder, ...]
    shares: tuple[int, ...]

    def describe(self) -> dict[str, object]:
        """What the order depends on besides the epoch."""
        parts = [part.describe() for part in self.parts]
        return {"num_samples": self.num_positions, "shares": list(self.shares), "parts": parts}

    def start(self) -> Cursor:
        """No draws yet."""
        return (0,) * len(self.parts)

    def rows(self, epoch: int, positions: Int64s, cursor: Cursor) -> tuple[Int64s, Cursor]:
        """Rows at ascending positions.

        Costs a few microseconds for each slot between the cursor and the last position.
        """
        schedule = Schedule(self.shares, cursor)
        sources = np.empty(len(positions), dtype=np.int64)
        draws = np.empty(len(positions), dtype=np.int64)
        for place, position in enumerate(positions.tolist()):
            while schedule.slot < position:
                schedule.take()
            sources[place], draws[place] = schedule.take()
        past = [epoch * count for count in counts_after(self.shares, self.num_positions)] if epoch else self.start()
        rows = np.empty_like(draws)
        first_row = 0
        for source, part in enumerate(self.parts):
            chosen = sources == source
            rows[chosen] = first_row + self._part_rows(part, draws[chosen] + past[source])
            first_row += part.num_positions
        return rows, tuple(schedule.counts)

    @staticmethod
    def _part_rows(part: ShardOrder, draws: Int64s) -> Int64s:
        rows = np.empty_like(draws)
        epochs = draws // part.num_positions
        for epoch in np.unique(epochs).tolist():
            chosen = epochs == epoch
            rows[chosen] = part.rows(epoch, draws[chosen] % part.num_positions)[0]
        return rows
