"""Several releases in given shares: positions of a mixture's epoch as rows of its parts laid end to end.

A *segment* is a stretch of the run with one schedule of weights; a change of weights at a named step begins another, whose
shares count from there. Inside a segment, `training/shares.py` says which part takes which slot. What happens when a part
has been passed through is the mixture's `AtEnd`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise
from typing import Any

import numpy as np

from training.errors import ConfigError, StreamError
from training.order import Cursor, Int64s, ShardOrder
from training.shares import Piece, SharePlan, Walk, line, walk_slots


class AtEnd(StrEnum):
    """What happens when a part has been passed through: begin it again, stop the epoch, or go on without it."""

    REPEAT = "repeat"
    STOP = "stop"
    REWEIGHT = "reweight"


@dataclass(frozen=True, kw_only=True)
class Segment:
    """From slot `start` on, `plan`; `base` counts the earlier draws from every part. `version` names the weights."""

    start: int
    base: tuple[int, ...]
    plan: SharePlan
    version: str = ""

    def to_state(self) -> dict[str, Any]:
        """Plain numbers and lists."""
        pieces = [[piece.start, piece.num_slots, list(piece.before), list(piece.after)] for piece in self.plan.pieces]
        return {"start": self.start, "base": list(self.base), "pieces": pieces, "version": self.version}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "Segment":
        """The inverse of `to_state`. Raises StreamError for anything else."""
        try:
            pieces = tuple(Piece(start, length, tuple(a), tuple(b)) for start, length, a, b in state["pieces"])
            return cls(start=state["start"], base=tuple(state["base"]), plan=SharePlan(pieces), version=state["version"])
        except (KeyError, TypeError, ValueError) as error:
            raise StreamError(
                f"a stream state names weights that cannot be read ({error}); give one of state_dict()"
            ) from error

    def find(self, slots: Int64s, cursor: Cursor) -> tuple[Int64s, Int64s, Cursor]:
        """Parts and draws at ascending slots of this segment, and the cursor behind them."""
        table = self.plan.table
        if table is not None:
            parts, draws = table.at(slots - self.start)
            return parts, draws + np.array(self.base, dtype=np.int64)[parts], ()
        known = cursor[1:] if cursor and cursor[0] >= self.start else self.base
        walk = Walk(self.plan, [count - before for count, before in zip(known, self.base, strict=True)])
        parts, draws = np.empty(len(slots), dtype=np.int64), np.empty(len(slots), dtype=np.int64)
        for place, slot in enumerate((slots - self.start).tolist()):
            while walk.slot < slot:
                walk.take()
            parts[place], draws[place] = walk.take()
        counts = tuple(count + before for count, before in zip(walk.counts, self.base, strict=True))
        return parts, draws + np.array(self.base, dtype=np.int64)[parts], (self.start + walk.slot, *counts)

    def counts_at(self, slot: int, cursor: Cursor = ()) -> tuple[int, ...]:
        """Draws from every part in all slots before `slot`, which lies in this segment."""
        table = self.plan.table
        if table is not None:
            inside = table.counts_after(slot - self.start)
            return tuple(before + count for before, count in zip(self.base, inside, strict=True))
        if slot == self.start:
            return self.base
        return self.find(np.array([slot - 1], dtype=np.int64), cursor)[2][1:]


@dataclass(frozen=True, kw_only=True)
class MixtureOrder:
    """The order of a mixture.

    With AtEnd.REPEAT slots are counted over the whole run: slot `epoch * num_positions + position`, every part passed
    through in its own shuffled order, epoch after epoch of its own. Otherwise every epoch begins all parts anew.
    A cursor is (slot, draws from every part before it), or empty where a table tells.
    """

    num_positions: int
    parts: tuple[ShardOrder, ...]
    at_end: AtEnd
    segments: tuple[Segment, ...]

    def describe(self) -> dict[str, object]:
        """What the order depends on besides the epoch."""
        parts = [part.describe() for part in self.parts]
        segments = [segment.to_state() for segment in self.segments]
        return {"num_samples": self.num_positions, "at_end": str(self.at_end), "parts": parts, "segments": segments}

    def taking_up(self, about: Mapping[str, Any]) -> "MixtureOrder":
        """This order with the changes of weights that a state has seen. Raises StreamError where they began otherwise."""
        given = tuple(Segment.from_state(state) for state in about.get("segments", ()))
        if given[:1] != self.segments[:1]:
            found = given[0].to_state() if given else None
            raise StreamError(f"the state was saved with the weights {found}, this stream has {self.segments[0].to_state()}")
        return replace(self, segments=given)

    def start(self) -> Cursor:
        """Nothing to remember at the beginning."""
        return ()

    def slot(self, epoch: int, position: int) -> int:
        """The slot of a position."""
        return epoch * self.num_positions + position if self.at_end is AtEnd.REPEAT else position

    def segment_at(self, slot: int) -> Segment:
        """The segment that a slot belongs to."""
        return next(segment for segment in reversed(self.segments) if segment.start <= slot)

    def changed(self, knots: Sequence[tuple[int, Sequence[float]]], *, at_slot: int, version: str) -> "MixtureOrder":
        """This order with another schedule of weights from a slot on; draws from every part go on where they are."""
        if self.at_end is not AtEnd.REPEAT:
            raise ConfigError(f"weights can change during a run with at_end='repeat' only; this mixture has '{self.at_end}'")
        last = self.segments[-1]
        if at_slot < last.start:
            raise ConfigError(f"weights already change at sample {last.start:,}; the next change must come behind it")
        changed = Segment(start=at_slot, base=last.counts_at(at_slot), plan=SharePlan(line(knots)), version=version)
        return replace(self, segments=(*self.segments, changed))

    def rows(self, epoch: int, positions: Int64s, cursor: Cursor) -> tuple[Int64s, Cursor]:
        """Rows at ascending positions; where no table tells, a few microseconds for each slot from the cursor on."""
        slots = positions + self.slot(epoch, 0)
        parts, draws = np.empty_like(slots), np.empty_like(slots)
        edges = [0, *np.searchsorted(slots, [segment.start for segment in self.segments[1:]]).tolist(), len(slots)]
        for segment, (first, last) in zip(self.segments, pairwise(edges), strict=True):
            if first < last:
                parts[first:last], draws[first:last], cursor = segment.find(slots[first:last], cursor)
        rows = np.empty_like(draws)
        first_row = 0
        for number, part in enumerate(self.parts):
            chosen = parts == number
            if chosen.any():
                rows[chosen] = first_row + self._part_rows(part, draws[chosen], epoch)
            first_row += part.num_positions
        return rows, cursor

    def _part_rows(self, part: ShardOrder, draws: Int64s, epoch: int) -> Int64s:
        if self.at_end is not AtEnd.REPEAT:
            return part.rows(epoch, draws)[0]
        rows = np.empty_like(draws)
        epochs = draws // part.num_positions
        for own_epoch in np.unique(epochs).tolist():
            chosen = epochs == own_epoch
            rows[chosen] = part.rows(own_epoch, draws[chosen] % part.num_positions)[0]
        return rows


def mixture_order(
    parts: Sequence[ShardOrder],
    knots: Sequence[tuple[int, Sequence[float]]],
    *,
    at_end: AtEnd,
    num_positions: int | None,
    version: str = "",
) -> MixtureOrder:
    """The order of a mixture with a schedule of weights; by default an epoch is as long as all parts together.

    Raises ConfigError for weights or lengths that cannot be.
    """
    sizes = [part.num_positions for part in parts]
    if num_positions is not None and num_positions < 1:
        raise ConfigError(f"num_samples is {num_positions}; expected at least 1")
    first = Segment(start=0, base=(0,) * len(parts), plan=SharePlan(line(knots)), version=version)
    if at_end is AtEnd.REPEAT:
        return MixtureOrder(num_positions=num_positions or sum(sizes), parts=tuple(parts), at_end=at_end, segments=(first,))
    if len(knots) > 1:
        raise ConfigError(f"a schedule of weights needs at_end='repeat'; '{at_end}' takes one set of weights")
    segments, end = _segments_to_end(first, list(knots[0][1]), sizes, is_stopping=at_end is AtEnd.STOP)
    length = min(num_positions or end, end)
    return MixtureOrder(num_positions=length, parts=tuple(parts), at_end=at_end, segments=tuple(segments))


def _segments_to_end(
    first: Segment, weights: list[float], sizes: Sequence[int], *, is_stopping: bool
) -> tuple[list[Segment], int]:
    """Segments until every part that has a weight is used up, or the first is; and the slot at which that is."""
    segments = [first]
    while True:
        segment = segments[-1]
        left = [size - drawn if weight else 0 for size, drawn, weight in zip(sizes, segment.base, weights, strict=True)]
        used_up, slot = _first_used_up(segment.plan, left, weights)
        end = segment.start + slot + 1
        if is_stopping:
            return segments, end
        base = segment.counts_at(end)
        weights[used_up] = 0
        if not any(weights):
            return segments, end
        segments.append(Segment(start=end, base=base, plan=SharePlan(line([(0, weights)])), version=segment.version))


def _first_used_up(plan: SharePlan, left: Sequence[int], weights: Sequence[float]) -> tuple[int, int]:
    """The part whose last sample comes first, and the slot of it."""
    if plan.table is not None:
        ends = {part: plan.table.slot_of(part, left[part] - 1) for part, weight in enumerate(weights) if weight}
        used_up = min(ends, key=lambda part: ends[part])
        return used_up, ends[used_up]
    for slot, (part, draw) in enumerate(walk_slots(plan)):
        if draw == left[part] - 1:
            return part, slot
    raise AssertionError("unreachable: a plan has no end")
