"""What is left of an epoch when an iteration begins: nearly always everything from some position on."""

from dataclasses import dataclass, replace

import numpy as np

from training.order import Cursor, Int64s


@dataclass(frozen=True, kw_only=True)
class Start:
    """What is left of an epoch: `pending` positions (as range arguments), then all from `next` on but those in `holes`.

    `holes` are disjoint ascending (first, stop) pairs. `cursor` is one of the order's cursors, at or before every position
    that is left.
    """

    pending: tuple[tuple[int, int, int], ...] = ()
    next: int = 0
    cursor: Cursor = ()
    holes: tuple[tuple[int, int], ...] = ()

    def num_left(self, num_positions: int) -> int:
        """Positions left of an epoch of `num_positions`."""
        firsts, stops = self._holes_ahead()
        in_holes = int((np.minimum(stops, num_positions) - np.minimum(firsts, num_positions)).sum())
        return len(self.pending_positions()) + max(0, num_positions - self.next) - in_holes

    def positions(self, places: Int64s) -> Int64s:
        """The positions at some places of what is left."""
        pending = self.pending_positions()
        behind = places - len(pending)
        if self.holes:
            firsts, stops = self._holes_ahead()
            passed = np.concatenate([[0], np.cumsum(stops - firsts)])
            behind = behind + passed[np.searchsorted(firsts - self.next - passed[:-1], behind, side="right")]
        found = behind + self.next
        if len(pending):
            found = np.where(places < len(pending), pending[np.minimum(places, len(pending) - 1)], found)
        return found

    def _holes_ahead(self) -> tuple[Int64s, Int64s]:
        """First positions and ends of the holes at or behind `next`."""
        holes = np.array(self.holes, dtype=np.int64).reshape(-1, 2)
        holes = holes[holes[:, 1] > self.next]
        return np.maximum(holes[:, 0], self.next), holes[:, 1]

    def without_first(self, num_places: int, cursor: Cursor) -> "Start":
        """What is left behind the first places, of which there must be as many."""
        pending = self.pending_positions()
        following = self.next
        if num_places > len(pending):
            following = int(self.positions(np.array([num_places - 1]))[0]) + 1
        return replace(self, pending=as_ranges(pending[num_places:]), next=following, cursor=cursor)

    def without(self, positions: Int64s, num_positions: int) -> "Start":
        """What is left when some positions, ascending, are skipped."""
        pending = self.pending_positions()
        ahead = positions[(positions >= self.next) & (positions < num_positions)]
        known = np.concatenate([np.arange(*hole) for hole in self.holes] or [np.empty(0, np.int64)])
        holes = tuple((first, stop) for first, stop in _as_runs(np.union1d(known, ahead)))
        return replace(self, pending=as_ranges(np.setdiff1d(pending, positions)), holes=holes)

    def pending_positions(self) -> Int64s:
        """The pending positions, ascending."""
        if not self.pending:
            return np.empty(0, dtype=np.int64)
        return np.sort(np.concatenate([np.arange(*numbers, dtype=np.int64) for numbers in self.pending]))


def _as_runs(positions: Int64s) -> list[tuple[int, int]]:
    """Ascending positions as (first, stop) of their runs of neighbours."""
    if not len(positions):
        return []
    breaks = np.flatnonzero(np.diff(positions) > 1)
    firsts = positions[np.concatenate([[0], breaks + 1])]
    stops = positions[np.concatenate([breaks, [len(positions) - 1]])] + 1
    return list(zip(firsts.tolist(), stops.tolist(), strict=True))


def as_ranges(positions: Int64s) -> tuple[tuple[int, int, int], ...]:
    """Ascending positions as few (start, stop, step) as a greedy pass finds."""
    ranges: list[tuple[int, int, int]] = []
    values = positions.tolist()
    first = 0
    while first < len(values):
        step = values[first + 1] - values[first] if first + 1 < len(values) else 1
        last = first
        while last + 1 < len(values) and values[last + 1] - values[last] == step:
            last += 1
        ranges.append((values[first], values[last] + 1, step))
        first = last + 1
    return tuple(ranges)
