import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.buckets import join_pairs
from curation.dedup.look_alikes import NOT_ALIKE, LookAlikes, chained

PICTURES = 9

pictures = st.lists(st.integers(0, PICTURES - 1), max_size=3)
alike = st.dictionaries(
    st.tuples(st.integers(0, PICTURES - 1), st.integers(0, PICTURES - 1)).filter(lambda pair: pair[0] > pair[1]),
    st.integers(0, 10),
    max_size=12,
)


def looks_of(shown: list[list[int]], bits: dict[tuple[int, int], int]) -> LookAlikes:
    sizes = [len(own) for own in shown]
    numbers = np.array([number for own in shown for number in own], np.uint32)
    ends = np.array(sorted(bits), np.uint32).reshape(-1, 2)
    differing = np.array([bits[pair] for pair in sorted(bits)], np.uint8)
    return LookAlikes(np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]), numbers, join_pairs(*ends.T), differing)


def slow_bits(one: list[int], other: list[int], bits: dict[tuple[int, int], int]) -> int:
    if not one or len(one) != len(other):
        return NOT_ALIKE
    found = [0 if a == b else bits.get((max(a, b), min(a, b)), NOT_ALIKE) for a, b in zip(one, other, strict=True)]
    return NOT_ALIKE if NOT_ALIKE in found else max(found)


@given(st.lists(pictures, min_size=1, max_size=8), alike)
def test_samples_are_alike_where_their_own_pictures_are_place_by_place(shown: list[list[int]], bits: dict):
    looks = looks_of(shown, bits)
    first, second = (part.ravel() for part in np.indices((len(shown), len(shown))))
    expected = [slow_bits(shown[one], shown[other], bits) for one, other in zip(first, second, strict=True)]
    assert looks.differing_bits(first, second).tolist() == expected


@given(st.lists(pictures, min_size=1, max_size=8), alike)
def test_what_is_alike_is_in_one_group(shown: list[list[int]], bits: dict):
    looks = looks_of(shown, bits)
    pixels = np.array([hash((*own, "pictures")) & 0xFFFF_FFFF if own else 0 for own in shown], np.uint64)
    groups = looks.groups(pixels)
    for one, own in enumerate(shown):
        for other, theirs in enumerate(shown):
            if own == theirs or slow_bits(own, theirs, bits) != NOT_ALIKE:
                assert groups[one] == groups[other]
            if len(own) != len(theirs):
                assert groups[one] != groups[other]


def test_order_counts_and_chains_propose_but_do_not_decide():
    looks = looks_of([[0, 1], [1, 0], [0], [3], [4], [5]], {(4, 3): 2, (5, 4): 7})
    groups = looks.groups(np.arange(1, 7, dtype=np.uint64))
    assert groups[0] != groups[1]
    assert groups[3] == groups[4] == groups[5]
    assert looks.differing_bits(np.array([3, 4, 3]), np.array([4, 5, 5])).tolist() == [2, 7, NOT_ALIKE]


def test_chains_of_any_length_are_followed():
    number = 1_000
    order = np.random.default_rng(0).permutation(number).astype(np.uint32)
    pairs = np.sort(join_pairs(np.maximum(order[1:], order[:-1]), np.minimum(order[1:], order[:-1])))
    assert set(chained(order, pairs).tolist()) == {0}
    assert chained(np.array([7], np.uint32), np.zeros(0, np.uint64)).tolist() == [7]
