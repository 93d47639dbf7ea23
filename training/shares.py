"""Which of several sources takes slot n of a stream, so that at every prefix each has its share: scheduled, not drawn.

Draw x of a source whose share adds up to W(n) after n slots may come no earlier than the slot in which W passes x, and no
later than the one in which it reaches x + 1; among the sources that may come, the one whose time runs out first is taken.
Earliest deadline first meets all such deadlines when the shares sum to one, so after n slots every source has been taken
within one sample of W(n) (the Pfair bound), also where shares move. All of it is integer arithmetic on the exact value of
the weights: no drift, whatever n. A draw at random would be off by about sqrt(n).
"""

import heapq
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from training.errors import ConfigError
from training.order import Int64s

MAX_PERIOD = 1 << 16
"""Constant shares that repeat after at most so many slots are tabulated; any slot is then found at once."""

_NEVER = 1 << 62


def integer_shares(weights: Sequence[float]) -> tuple[int, ...]:
    """The weights as the smallest whole numbers of the same ratio.

    A float is read as the simplest fraction that a person would have written for it (0.1 is 1/10). Raises ConfigError
    for a weight that is no number or negative, or when all are 0.
    """
    for weight in weights:
        if not (math.isfinite(weight) and weight >= 0):
            raise ConfigError(f"a mixture weight is {weight}; expected a number of at least 0")
    fractions = [_simplest(weight) for weight in weights]
    if not any(fractions):
        raise ConfigError("all mixture weights are 0; at least one must be positive")
    common = math.lcm(*(fraction.denominator for fraction in fractions))
    whole = [int(fraction * common) for fraction in fractions]
    divisor = math.gcd(*whole)
    return tuple(number // divisor for number in whole)


def _simplest(weight: float) -> Fraction:
    exact = Fraction(weight)
    simple = exact.limit_denominator(1_000_000)
    return simple if float(simple) == weight else exact


@dataclass(frozen=True, slots=True)
class Piece:
    """From slot `start` on, shares of `before` / sum(before), moving linearly to those of `after` over `num_slots` slots.

    Both have the same sum. The last piece of a line has no end: `num_slots` is 0 and its shares stay.
    """

    start: int
    num_slots: int
    before: tuple[int, ...]
    after: tuple[int, ...]


def line(knots: Sequence[tuple[int, Sequence[float]]]) -> tuple[Piece, ...]:
    """Pieces of a schedule of weights: at each knot (slots, weights), linear in between, constant behind the last.

    Raises ConfigError unless the first knot is at 0 and knots ascend.
    """
    slots = [slot for slot, _ in knots]
    if not slots or slots[0] != 0 or sorted(set(slots)) != slots:
        raise ConfigError(f"a schedule of weights has knots at {slots} samples; expected ascending numbers from 0 on")
    shares = [integer_shares(list(weights)) for _, weights in knots]
    pieces = []
    for number, slot in enumerate(slots):
        following = min(number + 1, len(slots) - 1)
        total = math.lcm(sum(shares[number]), sum(shares[following]))
        before, after = (tuple(s * (total // sum(shares[at])) for s in shares[at]) for at in (number, following))
        pieces.append(Piece(slot, slots[following] - slot, before, after))
    return tuple(pieces)


@dataclass(frozen=True)
class SharePlan:
    """Sources taken by shares along `pieces`, from slot 0 on."""

    pieces: tuple[Piece, ...]
    _scale: int = field(init=False, repr=False, compare=False)
    _begun: tuple[tuple[int, ...], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scale", math.lcm(*(2 * max(1, p.num_slots) * sum(p.before) for p in self.pieces)))
        begun = [(0,) * self.num_sources]
        for piece in self.pieces[:-1]:
            added = (self._added(piece, source, piece.num_slots) for source in range(self.num_sources))
            begun.append(tuple(map(sum, zip(begun[-1], added, strict=True))))
        object.__setattr__(self, "_begun", tuple(begun))

    @property
    def num_sources(self) -> int:
        """Sources, those without a share included."""
        return len(self.pieces[0].before)

    def _added(self, piece: Piece, source: int, num_slots: int) -> int:
        """What a source's share adds up to in the first slots of a piece, times `_scale`."""
        length, total = max(1, piece.num_slots), sum(piece.before)
        twice = 2 * length * piece.before[source] * num_slots
        if piece.num_slots:
            twice += (piece.after[source] - piece.before[source]) * num_slots * num_slots
        return twice * (self._scale // (2 * length * total))

    def due(self, source: int, slot: int) -> Fraction:
        """Draws that a source's share adds up to in the first `slot` slots."""
        number = max(at for at, piece in enumerate(self.pieces) if piece.start <= slot)
        piece = self.pieces[number]
        return Fraction(self._begun[number][source] + self._added(piece, source, slot - piece.start), self._scale)

    def reach(self, source: int, target: int) -> int:
        """The first number of slots in which a source's share adds up to target / _scale."""
        for number, piece in enumerate(self.pieces):
            needed = target - self._begun[number][source]
            if needed <= 0:
                return piece.start
            is_last = number == len(self.pieces) - 1
            if not is_last and self._added(piece, source, piece.num_slots) < needed:
                continue
            if is_last:
                each = self._added(piece, source, 1)
                return piece.start - (-needed // each) if each else _NEVER
            return piece.start + self._solve(piece, source, needed)
        raise AssertionError("unreachable: the last piece has no end")

    def _solve(self, piece: Piece, source: int, needed: int) -> int:
        """The first number of slots in a moving piece that add `needed`: a guess in floats, put right in integers."""
        unit = self._scale // (2 * piece.num_slots * sum(piece.before))
        level = 2 * piece.num_slots * piece.before[source]
        slope = piece.after[source] - piece.before[source]
        wanted = needed / unit
        root = math.sqrt(max(0.0, level * level + 4.0 * slope * wanted))
        slots = min(piece.num_slots, math.ceil(2 * wanted / (level + root)) if level + root else piece.num_slots)
        while slots > 0 and self._added(piece, source, slots - 1) >= needed:
            slots -= 1
        while self._added(piece, source, slots) < needed:
            slots += 1
        return slots

    def earliest(self, source: int, draw: int) -> int:
        """The first slot that a source's draw may take."""
        reached = self.reach(source, draw * self._scale + 1)
        return reached if reached == _NEVER else reached - 1

    def deadline(self, source: int, draw: int) -> int:
        """The number of slots by which a source's draw must have come."""
        return self.reach(source, (draw + 1) * self._scale)

    @cached_property
    def table(self) -> "Table | None":
        """The schedule tabulated, where it repeats soon."""
        before = self.pieces[0].before
        if len(self.pieces) > 1 or sum(before) > MAX_PERIOD:
            return None
        return tabulate(before)


class Walk:
    """The slots of a plan one after the other; starts behind `counts` earlier draws."""

    def __init__(self, plan: SharePlan, counts: Sequence[int]) -> None:
        self._plan = plan
        self.counts = list(counts)
        self.slot = sum(counts)
        self._ready: list[tuple[int, int]] = []
        self._waiting: list[tuple[int, int]] = []
        for source in range(len(self.counts)):
            self._await(source)

    def _await(self, source: int) -> None:
        heapq.heappush(self._waiting, (self._plan.earliest(source, self.counts[source]), source))

    def take(self) -> tuple[int, int]:
        """Source of the next slot, and which of its draws this is (from 0)."""
        while self._waiting and self._waiting[0][0] <= self.slot:
            source = heapq.heappop(self._waiting)[1]
            heapq.heappush(self._ready, (self._plan.deadline(source, self.counts[source]), source))
        source = heapq.heappop(self._ready)[1]
        draw = self.counts[source]
        self.counts[source] += 1
        self.slot += 1
        self._await(source)
        return source, draw


@dataclass(frozen=True, slots=True)
class Table:
    """One period of constant shares: the source of each slot, and which of that source's draws in the period it is."""

    shares: tuple[int, ...]
    sources: npt.NDArray[np.int32]
    draws: npt.NDArray[np.int32]

    def at(self, slots: Int64s) -> tuple[Int64s, Int64s]:
        """Sources of any slots, and their draws."""
        periods, rest = np.divmod(slots, len(self.sources))
        sources = self.sources[rest].astype(np.int64)
        return sources, periods * np.array(self.shares, dtype=np.int64)[sources] + self.draws[rest]

    def counts_after(self, num_slots: int) -> tuple[int, ...]:
        """How often each source is taken in the first `num_slots` slots."""
        periods, rest = divmod(num_slots, len(self.sources))
        inside = np.bincount(self.sources[:rest], minlength=len(self.shares)).tolist()
        return tuple(periods * share + count for share, count in zip(self.shares, inside, strict=True))

    def slot_of(self, source: int, draw: int) -> int:
        """The slot of a source's draw; the source has a share."""
        period, rest = divmod(draw, self.shares[source])
        return period * len(self.sources) + int(np.flatnonzero(self.sources == source)[rest])


@lru_cache(maxsize=64)
def tabulate(shares: tuple[int, ...]) -> Table:
    """One period of constant shares, given as whole numbers without a common divisor."""
    walk = Walk(SharePlan((Piece(0, 0, shares, shares),)), [0] * len(shares))
    taken = np.array([walk.take() for _ in range(sum(shares))], dtype=np.int32).reshape(-1, 2)
    return Table(shares, np.ascontiguousarray(taken[:, 0]), np.ascontiguousarray(taken[:, 1]))


def walk_slots(plan: SharePlan) -> Iterator[tuple[int, int]]:
    """Sources and draws of slot 0, 1, ... without end."""
    if plan.table is not None:
        table, first = plan.table, 0
        while True:
            sources, draws = table.at(np.arange(first, first + 4096, dtype=np.int64))
            yield from zip(sources.tolist(), draws.tolist(), strict=True)
            first += 4096
    walk = Walk(plan, [0] * plan.num_sources)
    while True:
        yield walk.take()
