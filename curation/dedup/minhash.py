"""MinHash signatures and their bands: a key for each band of a set, equal for similar sets with known odds.

Two sets of Jaccard similarity s agree in a band of r hashes with odds s^r, and in one of b bands at least with odds
1 - (1 - s^r)^b (Broder 1997; Leskovec, Rajaraman, Ullman, Mining of Massive Datasets, ch. 3). Keys only propose pairs.

With probes a band is cut into that many parts, and has a key for each way of leaving one part out. Sets then meet where they
differ in one part of a band at most, which is far likelier: with p parts of r/p hashes the odds of a band are
s^r + p * s^(r - r/p) * (1 - s^(r/p)). The hashes are those of the bands; only keys are added, and those cost next to nothing.
"""

import numpy as np
import numpy.typing as npt

from curation.compiled import compiled, folded
from curation.dedup.shingles import Hashes, Places, ShingleSets, Values
from curation.tables import mix_bits

NO_KEY = np.uint64(0)
"""The key of a set with nothing left in it: it is in no bucket."""

_BITMAP_BITS = 1 << 16
Keys = npt.NDArray[np.uint64]


class Boilerplate:
    """N-grams that count for nothing, in a form that can be asked quickly: most values are settled by one bit."""

    __slots__ = ("bitmap", "values")

    def __init__(self, values: Values) -> None:
        """`values` are hashed n-grams as in ShingleSets, in any order."""
        self.values = np.unique(values).astype(np.uint32)
        self.bitmap = np.zeros(_BITMAP_BITS, np.bool_)
        self.bitmap[self.values >> np.uint32(16)] = True


@compiled
def is_boilerplate(value: np.uint32, bitmap: npt.NDArray[np.bool_], listed: Values) -> bool:
    """Whether `value` is listed."""
    if not bitmap[value >> np.uint32(16)]:
        return False
    place = np.searchsorted(listed, value)
    return bool(place < len(listed) and listed[place] == value)


def band_keys(sets: ShingleSets, groups: Hashes, boilerplate: Boilerplate, *, bands: int, rows: int, probes: int = 1) -> Keys:
    """Keys (sets, bands * probes) of which two are equal where sets of the same group agree in a whole band, or in all parts
    of it but one where there are more probes than one.

    `groups` (one a set) parts sets that are no duplicates whatever they say, such as those of other pictures.
    """
    seeds = mix_bits(np.arange(1, 2 * bands * rows + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    factors = (seeds[::2] >> np.uint64(32)).astype(np.uint32) | np.uint32(1)
    offsets = (seeds[1::2] >> np.uint64(32)).astype(np.uint32)
    keys = np.zeros((len(sets), bands * probes), np.uint64)
    _fill(sets.edges, sets.values, groups, boilerplate.bitmap, boilerplate.values, factors, offsets, rows, probes, keys)
    return keys


@compiled
def _fill(
    edges: Places, values: Values, groups: Hashes, bitmap: npt.NDArray[np.bool_], listed: Values,
    factors: Values, offsets: Values, rows: int, probes: int, keys: Keys,
) -> None:  # fmt: skip
    smallest = np.empty(len(factors), np.uint32)
    for item in range(len(edges) - 1):
        smallest[:] = np.uint32(0xFFFFFFFF)
        has_any = False
        for place in range(edges[item], edges[item + 1]):
            value = values[place]
            if not is_boilerplate(value, bitmap, listed):
                has_any = True
                _lower(value, factors, offsets, smallest)
        if has_any:
            for column in range(keys.shape[1]):
                band, probe = column // probes, column % probes
                state = groups[item] + np.uint64(column)
                for row in range(rows):
                    if probes == 1 or row * probes // rows != probe:
                        state = folded(state, np.uint64(smallest[band * rows + row]))
                keys[item, column] = max(state, np.uint64(1))


@compiled
def _lower(value: np.uint32, factors: Values, offsets: Values, smallest: Values) -> None:
    for number in range(len(factors)):
        mixed = np.uint32((value ^ offsets[number]) * factors[number])
        mixed = np.uint32((mixed ^ (mixed >> np.uint32(15))) * np.uint32(0x2C1B3C6D))
        mixed = np.uint32(mixed ^ (mixed >> np.uint32(12)))
        smallest[number] = min(smallest[number], mixed)
