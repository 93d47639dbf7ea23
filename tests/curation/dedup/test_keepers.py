import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.keepers import (
    BYTES_PER_ITEM,
    BYTES_PER_MATCH,
    CONFLICTING,
    KEPT,
    NEAR,
    NO_GROUP,
    NOBODY,
    Sweep,
)

NUM_ITEMS = 12
EDGES = st.sets(
    st.tuples(st.integers(0, NUM_ITEMS - 1), st.integers(0, NUM_ITEMS - 1)).filter(lambda pair: pair[0] > pair[1]), max_size=30
)
RIVALS = st.lists(st.sampled_from([0, 1, None]), min_size=NUM_ITEMS, max_size=NUM_ITEMS)


def swept(edges: set[tuple[int, int]], rivals: list[int | None], cuts: list[int]) -> tuple[Sweep, dict[int, int]]:
    sweep = Sweep(np.array([NO_GROUP if group is None else group for group in rivals], np.uint32))
    used: dict[int, int] = {}
    start = 0
    for stop in sorted({*cuts, len(rivals)}):
        part = sorted(pair for pair in edges if start <= pair[0] < stop)
        worse, better = (np.array([pair[side] for pair in part], np.uint32) for side in (0, 1))
        used |= {part[place][0]: part[place][1] for place in sweep.advance(worse, better, stop).tolist()}
        start = stop
    return sweep, used


@given(edges=EDGES, rivals=RIVALS, cuts=st.lists(st.integers(1, NUM_ITEMS), max_size=4))
def test_every_dropped_item_matches_its_own_kept_keeper(edges, rivals, cuts):
    sweep, used = swept(edges, rivals, cuts)
    for item, (state, keeper) in enumerate(zip(sweep.state.tolist(), sweep.keeper.tolist(), strict=True)):
        matched = [better for worse, better in edges if worse == item and sweep.state[better] == KEPT]
        if state == KEPT:
            assert keeper == NOBODY
            assert not matched
        else:
            assert sweep.state[keeper] == KEPT
            assert keeper < item
        if state == NEAR:
            assert keeper == min(matched) == used[item]
        if state == CONFLICTING:
            assert rivals[item] == rivals[keeper]
            assert rivals[item] is not None


@given(edges=EDGES, rivals=RIVALS, cuts=st.lists(st.integers(1, NUM_ITEMS), max_size=4))
def test_partitions_change_nothing(edges, rivals, cuts):
    whole, parts = swept(edges, rivals, [])[0], swept(edges, rivals, cuts)[0]
    assert whole.state.tolist() == parts.state.tolist()
    assert whole.keeper.tolist() == parts.keeper.tolist()


def test_a_chain_is_split():
    sweep, _ = swept({(1, 0), (2, 1), (3, 2)}, [None] * 4, [])
    assert sweep.state.tolist() == [KEPT, NEAR, KEPT, NEAR]
    assert sweep.keeper.tolist() == [NOBODY, 0, NOBODY, 2]


def test_nothing_is_decided_over_nothing():
    assert swept(set(), [], [])[0].state.tolist() == []


def random_matches(num_items: int, matches_each: int, items_at_once: int) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
    """Ranges of matches of every item with items before it."""
    rng = np.random.default_rng(0)
    for start in range(0, num_items, items_at_once):
        stop = min(start + items_at_once, num_items)
        items = np.arange(max(start, 1), stop, dtype=np.uint32)
        better = np.sort((rng.random((len(items), matches_each)) * items[:, None]).astype(np.uint32), axis=1)
        yield np.repeat(items, matches_each), better.reshape(-1), stop


@pytest.mark.parametrize("num_matches", [2_000_000, pytest.param(100_000_000, marks=pytest.mark.extra)])
def test_memory_does_not_grow_with_the_matches(num_matches: int):
    items_at_once, matches_each = 50_000, 10
    num_items = num_matches // matches_each
    swept(set(), [None], [])  # compiled code is loaded
    rivals = np.full(num_items, NO_GROUP, np.uint32)
    peak = seen = dropped = 0
    tracemalloc.start()
    sweep = Sweep(rivals)
    for worse, better, until in random_matches(num_items, matches_each, items_at_once):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0] - sweep.state.nbytes - sweep.keeper.nbytes - worse.nbytes - better.nbytes
        dropped += len(sweep.advance(worse, better, until))
        peak = max(peak, tracemalloc.get_traced_memory()[1] - before)
        seen += len(worse)
    tracemalloc.stop()
    assert seen == num_matches - matches_each
    assert peak + rivals.nbytes <= BYTES_PER_ITEM * num_items + BYTES_PER_MATCH * items_at_once * matches_each
    assert dropped == (sweep.state == NEAR).sum() > num_items // 2
    assert (sweep.state[sweep.keeper[sweep.state == NEAR]] == KEPT).all()
