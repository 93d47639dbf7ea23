"""Which place of a round goes to which rank, so that every rank of a mixture has its shares, and not only all ranks together.

A round is one place for every rank. Which parts its places hold is settled by the order; who takes which is open. Places are
dealt round by round: each rank takes a place of the part that it is furthest behind in, those first that have most to choose,
and then pairs change places while that brings both together nearer to their shares. A deal is a function of the weights, the
slot at which it begins and the number of ranks, so it needs no state; it spans a period of the weights, or a piece of a long
one. At its end every rank has exactly its share of all places so far, in whole numbers, so that what deals leave over does not
add up.

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
"""Places of a deal that spans a period; it is made once in a process, at 2 to 9 microseconds a place."""
PIECE_PLACES = 1 << 15
"""Places of a deal where a period is longer."""
MAX_DEALT_RANKS = 256
"""Where weights repeat later, deals are made on the way for up to so many ranks; pairs change places for as many."""
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
    if period * world_size <= MAX_PLACES:  # every deal is the same one, and leaves nothing over
        whole = _deal(shares, slot % period, period, world_size, (0,) * len(shares))
        return np.asarray(whole[rounds % period, rank], dtype=np.int64)
    deals, inside = np.divmod(rounds, max(1, PIECE_PLACES // world_size))
    found = np.empty_like(rounds)
    for deal in np.unique(deals).tolist():
        chosen = deals == deal
        found[chosen] = _piece(shares, slot, deal, world_size)[inside[chosen], rank]
    return found


def _piece(shares: tuple[int, ...], slot: int, deal: int, world_size: int) -> npt.NDArray[np.int32]:
    """One of the deals of weights that repeat late, where the first begins at slot `slot`."""
    num_rounds = max(1, PIECE_PLACES // world_size)
    begin = slot + deal * num_rounds * world_size
    table = tabulate(shares)
    counts = zip(table.counts_after(slot), table.counts_after(begin), strict=True)
    rests = tuple((after - before) % world_size for before, after in counts)
    return _deal(shares, begin % sum(shares), num_rounds, world_size, rests)


@lru_cache(maxsize=8)
def _deal(
    shares: tuple[int, ...], phase: int, num_rounds: int, world_size: int, rests: tuple[int, ...]
) -> npt.NDArray[np.int32]:
    """Places by round and rank, from slot `phase` of the period on.

    `rests` are the places of every part so far that were too few for one more on every rank.
    """
    slots = np.arange(phase, phase + num_rounds * world_size, dtype=np.int64)
    parts = tabulate(shares).at(slots)[0].reshape(num_rounds, world_size)
    counts = np.bincount(parts.ravel(), minlength=len(shares))
    due = _whole_shares(np.array(rests) + counts, world_size) - _whole_shares(np.array(rests), world_size)
    behind = np.zeros((world_size, len(shares)), dtype=np.int64)  # times the rounds, so that numbers stay whole
    dealt = np.empty((num_rounds, world_size), dtype=np.int32)
    ranks = np.arange(world_size)
    for number, row in enumerate(parts):
        behind += due
        given = _fairest(behind, row)
        dealt[number] = given
        behind[ranks, row[given]] -= num_rounds
    _settle(dealt, parts, behind // num_rounds)
    return dealt


def _whole_shares(counts: Int64s, world_size: int) -> Int64s:
    """Places of every part for every rank, as even as whole numbers can be; ranks have equally many in all."""
    extras = counts % world_size
    begins = np.cumsum(extras) - extras
    has_one_more = (np.arange(world_size)[:, None] - begins) % world_size < extras
    return counts // world_size + has_one_more


def _fairest(behind: Int64s, row: Int64s) -> Int64s:
    """A place of a round for each rank."""
    places: dict[int, list[int]] = {}
    for place, part in enumerate(row.tolist()):
        places.setdefault(part, []).append(place)
    parts = list(places)
    open_to = behind[:, parts]
    given = np.empty(len(row), dtype=np.int64)
    wishes = np.argsort(-open_to, axis=1, kind="stable").tolist()
    for rank in np.argsort(open_to.min(axis=1) - open_to.max(axis=1), kind="stable").tolist():
        given[rank] = next(places[parts[wish]].pop() for wish in wishes[rank] if places[parts[wish]])
    ranks = np.arange(len(row))
    for _ in ranks if len(ranks) <= MAX_DEALT_RANKS else ():
        wanted = behind[:, row[given]]  # by rank, and the rank whose part it is
        own = wanted[ranks, ranks]
        gain = wanted + wanted.T - own[:, None] - own
        one, other = divmod(int(gain.argmax()), len(row))
        if gain[one, other] <= 0:
            break
        given[[one, other]] = given[[other, one]]
    return given


def _settle(dealt: npt.NDArray[np.int32], parts: Int64s, lacking: Int64s) -> None:
    """Let ranks change places in the last rounds until none lacks a part that another has too much of."""
    taken = np.take_along_axis(parts, dealt.astype(np.int64), axis=1)
    for _ in range(int(np.abs(lacking).sum())):
        over = np.argwhere(lacking < 0)
        if not len(over):
            return
        rank, part = over[0].tolist()
        best: tuple[int, int, int] = (-1, 0, 0)
        for other in np.flatnonzero(lacking[:, part] > 0).tolist():
            rounds = np.flatnonzero((taken[:, rank] == part) & (taken[:, other] != part))
            theirs = taken[rounds, other]
            score = (lacking[rank, theirs] > 0).astype(int) + (lacking[other, theirs] < 0)
            if len(rounds) and (found := int(score.max())) > best[0]:
                best = (found, int(rounds[np.flatnonzero(score == found)[-1]]), other)
        if best[0] < 0:
            return
        _, number, other = best
        theirs = int(taken[number, other])
        dealt[number, [rank, other]] = dealt[number, [other, rank]]
        taken[number, [rank, other]] = taken[number, [other, rank]]
        lacking[rank, part] += 1
        lacking[other, part] -= 1
        lacking[rank, theirs] -= 1
        lacking[other, theirs] += 1
