"""Which place of a round goes to which rank, so that every rank of a mixture has its shares, and not only all ranks together.

A round is one place for every rank. Which parts its places hold is settled by the order; who takes which is open. Places are
dealt round by round: the rank that is furthest behind in a part takes a place of that part, then the next furthest. A deal is a
function of the weights, the slot at which it begins and the number of ranks, so it needs no state; it spans a period of the
weights, or as many rounds as MAX_PLACES allow. In the next one the ranks change roles, so that what one was left behind by is
not added to.

Weights that are not tabulated, and worlds too large to deal for, take places in turns that spread over the round like
multiples of an irrational number. That keeps step with no pattern, but wanders more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from training.order import Int64s
from training.shares import MAX_PERIOD, tabulate

MAX_PLACES = 1 << 17
"""Places of a deal: a quarter of a second, once in a process where the weights repeat within it."""
MAX_DEALT_RANKS = 64
"""Where weights repeat later, deals are made on the way, at two microseconds a place, for up to so many ranks."""
_TURN = 0x6A09E667F3BCC909
"""The fraction of the square root of 2, times 2**64."""


@dataclass(frozen=True, slots=True)
class Turns:
    """Turns along a mixture's segments: the slot at which each begins, and its weights as shares, None where not tabulated."""

    segments: tuple[tuple[int, tuple[int, ...] | None], ...]

    @classmethod
    def of_order(cls, about: Mapping[str, Any]) -> "Turns":
        """The turns of a mixture's order, as it describes itself in states."""
        return cls(tuple((segment["start"], _shares_of(segment["pieces"])) for segment in about["segments"]))

    def places(self, rounds: Int64s, *, rank: int, world_size: int, epoch_slot: int, first: int) -> Int64s:
        """The places inside some rounds, ascending, that a rank takes.

        Round 0 begins `first` slots behind the epoch's beginning, which is at `epoch_slot`. Where that is a whole number of
        rounds, ranks take what they would have taken without the interruption.
        """
        begins = [max(0, -(-(start - epoch_slot - first) // world_size)) for start, _ in self.segments]
        begins[0] = 0
        numbers = np.searchsorted(begins, rounds, side="right") - 1
        since = rounds + first // world_size
        found = np.empty_like(rounds)
        for number in np.unique(numbers).tolist():
            start, shares = self.segments[number]
            chosen = numbers == number
            found[chosen] = _in_segment(shares, epoch_slot + first % world_size - start, since[chosen], rank, world_size)
        return found


def _shares_of(pieces: Sequence[Sequence[Any]]) -> tuple[int, ...] | None:
    before = pieces[0][2]
    return tuple(before) if len(pieces) == 1 and sum(before) <= MAX_PERIOD else None


def _in_segment(shares: tuple[int, ...] | None, slot: int, rounds: Int64s, rank: int, world_size: int) -> Int64s:
    """A rank's places in rounds of one segment; round 0 would begin at slot `slot` of it, which may be before its beginning."""
    if shares is None or (sum(shares) * world_size > MAX_PLACES and world_size > MAX_DEALT_RANKS):
        fractions = (rounds.astype(np.uint64) * np.uint64(_TURN)) >> np.uint64(32)
        turns = (fractions * np.uint64(world_size)) >> np.uint64(32)
        return (rank + turns.astype(np.int64)) % world_size
    period = sum(shares)
    length = min(period, max(1, MAX_PLACES // world_size))
    deals, inside = np.divmod(rounds, length)
    roles = (rank + deals) % world_size
    phases = (slot + deals * (length * world_size)) % period
    found = np.empty_like(rounds)
    for phase in np.unique(phases).tolist():  # one, where a deal spans the period
        chosen = phases == phase
        found[chosen] = _deal(shares, phase, length, world_size)[inside[chosen], roles[chosen]]
    return found


@lru_cache(maxsize=8)
def _deal(shares: tuple[int, ...], phase: int, num_rounds: int, world_size: int) -> npt.NDArray[np.int32]:
    """Places by round and rank, from slot `phase` of the period on."""
    slots = np.arange(phase, phase + num_rounds * world_size, dtype=np.int64)
    parts = tabulate(shares).at(slots)[0].reshape(num_rounds, world_size)
    due, period = np.array(shares, dtype=np.int64), sum(shares)
    behind = np.zeros((world_size, len(shares)), dtype=np.int64)  # times the period, so that numbers stay whole
    dealt = np.empty((num_rounds, world_size), dtype=np.int32)
    ranks = np.arange(world_size)
    for number, row in enumerate(parts):
        behind += due
        places: dict[int, list[int]] = {}
        for place, part in enumerate(row.tolist()):
            places.setdefault(part, []).append(place)
        given = _neediest_first(behind, places)
        dealt[number] = given
        behind[ranks, row[given]] -= period
    return dealt


def _neediest_first(behind: Int64s, places: dict[int, list[int]]) -> list[int]:
    """A place for each rank: of all pairs of rank and part that are still open, the one furthest behind is served first."""
    parts, left = list(places), len(behind)
    given = [-1] * left
    for pair in np.argsort(-behind[:, parts], axis=None, kind="stable").tolist():
        rank, column = divmod(pair, len(parts))
        open_places = places[parts[column]]
        if open_places and given[rank] < 0:
            given[rank] = open_places.pop()
            left -= 1
            if not left:
                break
    return given
