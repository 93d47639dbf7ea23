from itertools import combinations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.buckets import Capped, candidate_pairs, join_pairs, split_pairs

KEYS = st.lists(st.integers(0, 5), max_size=40)


def slow_pairs(keys: list[int], labels: list[int], cap: int) -> set[tuple[int, int]]:
    buckets: dict[int, list[int]] = {}
    for key, label in zip(keys, labels, strict=True):
        if key:
            buckets.setdefault(key, []).append(label)
    pairs = set()
    for members in buckets.values():
        members.sort()
        pairs |= {(worse, better) for place, worse in enumerate(members) for better in members[: min(place, cap)]}
    return pairs


@given(keys=KEYS, cap=st.integers(1, 8), order=st.randoms())
def test_pairs_are_those_of_slow_buckets(keys: list[int], cap: int, order):
    labels = list(range(len(keys)))
    order.shuffle(labels)
    found, capped = candidate_pairs(np.array(keys, np.uint64), np.array(labels, np.uint32), cap)
    pairs = list(zip(*(side.tolist() for side in split_pairs(found)), strict=True))
    assert pairs == sorted(slow_pairs(keys, labels, cap))
    everything = slow_pairs(keys, labels, len(keys) + 1)
    assert capped.pairs == len(everything) - len(pairs)
    assert (capped.buckets > 0) == (capped.pairs > 0)


def test_a_huge_bucket_costs_its_size_times_the_cap():
    keys = np.full(20_000, 7, np.uint64)
    found, capped = candidate_pairs(keys, np.arange(20_000, dtype=np.uint32), 10)
    assert len(found) < 200_000
    assert capped == Capped(1, 20_000, 20_000 * 19_999 // 2 - len(found))


def test_what_was_capped_adds_up():
    assert Capped(1, 50, 7) + Capped(2, 40, 5) == Capped(3, 50, 12)


def test_splitting_undoes_joining():
    worse, better = np.array([5, 0xFFFFFFFE], np.uint32), np.array([0, 7], np.uint32)
    assert [side.tolist() for side in split_pairs(join_pairs(worse, better))] == [worse.tolist(), better.tolist()]


def test_many_keys_that_are_alone_propose_nothing():
    keys = np.random.default_rng(0).permutation(50_000).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(1)
    assert len(candidate_pairs(keys, np.arange(50_000, dtype=np.uint32), 8)[0]) == 0
    assert len(list(combinations(range(3), 2))) == len(candidate_pairs(keys[[0, 0, 0]], np.arange(3, dtype=np.uint32), 8)[0])
