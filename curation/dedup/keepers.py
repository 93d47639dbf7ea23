"""Who stays: in the order of preference, an item is kept unless it matches one that is kept already.

So every dropped item matches its own keeper. Chains are split where they must be: of a - b - c with a and c unlike each other,
a and c stay and b goes with a. Components are never formed, so the sweep needs BYTES_PER_ITEM an item and BYTES_PER_MATCH for
each match of the range at hand, and nothing for all others, however many there are.
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled
from curation.dedup.buckets import Labels

NOBODY = np.uint32(0xFFFFFFFF)
NO_GROUP = np.uint32(0xFFFFFFFF)
KEPT, NEAR, CONFLICTING = 0, 1, 2

BYTES_PER_ITEM = 10
"""State, keeper and rivals, and a mask while groups are counted."""

BYTES_PER_MATCH = 17
"""Both items, whether it was used, and its number if it was."""


class Sweep:
    """The state of a sweep over items 0, 1, ... in order of preference.

    `state` says KEPT, NEAR or CONFLICTING for each item decided, and `keeper` which item it goes with (NOBODY when kept).
    """

    def __init__(self, rivals: Labels) -> None:
        """`rivals` gives each item a group of which one is kept at most: same question, other answer (NO_GROUP for none)."""
        num_groups = int(rivals[rivals != NO_GROUP].max(initial=0)) + 1
        self._rivals = rivals
        self._leaders = np.full(num_groups, NOBODY, np.uint32)
        self._num_decided = 0
        self.state = np.zeros(len(rivals), np.uint8)
        self.keeper = np.full(len(rivals), NOBODY, np.uint32)

    def advance(self, worse: Labels, better: Labels, until: int) -> npt.NDArray[np.int64]:
        """Decide on the items before `until`, given all matches of those not decided yet.

        Matches are sorted by their worse item, then by their better one. Returns the numbers of the matches for which items
        were dropped.
        """
        used = np.zeros(len(worse), np.bool_)
        arguments = (self._rivals, self._num_decided, until, self.state, self.keeper, self._leaders, used)
        _sweep(worse, better, *arguments)
        self._num_decided = until
        return np.flatnonzero(used)


@compiled
def _sweep(
    worse: Labels, better: Labels, rivals: Labels, start: int, until: int,
    state: npt.NDArray[np.uint8], keeper: Labels, leaders: Labels, used: npt.NDArray[np.bool_],
) -> None:  # fmt: skip
    place = 0
    for item in range(start, until):
        while place < len(worse) and worse[place] == item:
            if state[item] == KEPT and state[better[place]] == KEPT:
                state[item] = NEAR
                keeper[item] = better[place]
                used[place] = True
            place += 1
        group = rivals[item]
        if state[item] == KEPT and group != NO_GROUP:
            if leaders[group] == NOBODY:
                leaders[group] = item
            else:
                state[item] = CONFLICTING
                keeper[item] = leaders[group]
