from pathlib import Path

import numpy as np
import pytest

from curation.dedup.buckets import split_pairs
from curation.dedup.keepers import NOBODY
from curation.mixture.dedup import SemanticSpec
from curation.near.meanings import SemanticJoin, VectorFile
from curation.near.texts import ItemFacts
from curation.runtime.pool import InProcessPool
from tests.curation.dedup.test_meaning import sides, slow
from tests.support.upstream import BackwardsPool, Killed, StoppingPool

SPEC = SemanticSpec(model="none", threshold=0.9)
VECTORS = sides(400, seed=1, width=16)


def joined(
    folder: Path, edges: list[int], pool: InProcessPool, labels: np.ndarray | None = None, groups: np.ndarray | None = None
) -> set[tuple[int, int]]:
    """Pairs of labels among VECTORS cut into files at `edges`."""
    folder.mkdir(exist_ok=True)
    files = []
    for number, (start, stop) in enumerate(zip([0, *edges], [*edges, len(VECTORS)], strict=True)):
        np.save(folder / f"{number}.npy", VECTORS[start:stop])
        files.append(VectorFile(str(folder / f"{number}.npy"), start, stop - start))
    none = np.zeros(len(VECTORS), np.uint64)
    labels = np.arange(len(VECTORS), dtype=np.uint32) if labels is None else labels
    found, _ = SemanticJoin(files, SPEC, 1_000, folder).find(ItemFacts(labels, none if groups is None else groups, none), pool)
    assert (np.diff(found.pairs.astype(object)) > 0).all()
    return set(zip(*(side.tolist() for side in split_pairs(found.pairs)), strict=True))


@pytest.mark.parametrize("edges", [[], [100, 100, 399], list(range(40, 400, 40))])
def test_all_pairs_of_a_group_are_found_in_any_files(tmp_path: Path, edges: list[int]):
    assert joined(tmp_path, edges, BackwardsPool()) == slow(VECTORS, SPEC.threshold)


def test_other_groups_and_items_without_a_label_are_not_compared(tmp_path: Path):
    groups = np.arange(len(VECTORS), dtype=np.uint64) % np.uint64(3)
    labels = np.full(len(VECTORS), NOBODY, np.uint32)
    labels[::2] = np.arange(len(labels[::2]), dtype=np.uint32)[::-1]
    item_of = {int(label): item for item, label in enumerate(labels) if label != NOBODY}
    pairs = {(item_of[one], item_of[other]) for one, other in joined(tmp_path, [77], InProcessPool(), labels, groups)}
    expected = {
        (min(pair), max(pair)) for pair in slow(VECTORS, SPEC.threshold)
        if pair[0] % 2 == pair[1] % 2 == 0 and groups[pair[0]] == groups[pair[1]]
    }  # fmt: skip
    assert {(min(pair), max(pair)) for pair in pairs} == expected


def test_groups_that_are_cut_lose_little_and_nothing_to_chance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.near.meanings.ITEMS_PER_CELL", 300)
    monkeypatch.setattr("curation.near.meanings.ITEMS_PER_TASK", 64)
    whole = joined(tmp_path / "a", [], InProcessPool())
    assert whole == joined(tmp_path / "b", [7, 150, 260], BackwardsPool())
    true = slow(VECTORS, SPEC.threshold)
    assert whole <= true
    assert len(whole) > 0.95 * len(true) > 100
    for after in (1, 3):
        with pytest.raises(Killed):
            joined(tmp_path / "c", [150], StoppingPool(after))
    assert joined(tmp_path / "c", [150], InProcessPool()) == whole


def test_cells_over_the_limit_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.near.meanings.ITEMS_PER_CELL", 16)
    np.save(tmp_path / "0.npy", np.repeat(VECTORS[:1], 100, axis=0))
    join = SemanticJoin([VectorFile(str(tmp_path / "0.npy"), 0, 100)], SPEC, 1_000, tmp_path)
    none = np.zeros(100, np.uint64)
    _, capped = join.find(ItemFacts(np.arange(100, dtype=np.uint32), none, none), InProcessPool())
    assert capped.largest == 100
    assert capped.pairs > 0
