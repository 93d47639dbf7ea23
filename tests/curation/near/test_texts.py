from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from curation.dedup.buckets import Capped
from curation.dedup.keepers import NO_GROUP, NOBODY, Sweep
from curation.dedup.minhash import Boilerplate
from curation.dedup.near_text import near_texts
from curation.dedup.shingles import whole_texts
from curation.mixture.dedup import DedupSpec
from curation.near.shingle_files import write_shingles
from curation.near.texts import ItemFacts, ItemFile, NearJoin
from curation.runtime.pool import InProcessPool
from tests.curation.dedup.made_up import planted_texts
from tests.support.upstream import BackwardsPool, Killed, StoppingPool

SPEC = DedupSpec(same_numbers=False, bucket_cap=16)
TEXTS = planted_texts(500, seed=3)


def joined(folder: Path, edges: list[int], pool: InProcessPool, labels: np.ndarray | None = None) -> tuple[np.ndarray, Capped]:
    """Keepers by label, of TEXTS cut into files at `edges`."""
    files = []
    folder.mkdir(exist_ok=True)
    for number, (start, stop) in enumerate(zip([0, *edges], [*edges, len(TEXTS)], strict=True)):
        sets = whole_texts(pa.array(TEXTS[start:stop], pa.large_string()), ngram=3, sign_ngram=5)
        write_shingles(folder / f"{number}.arrow", sets)
        files.append(ItemFile(str(folder / f"{number}.arrow"), start, stop - start, len(sets.values)))
    none = np.zeros(len(TEXTS), np.uint64)
    labels = np.arange(len(TEXTS), dtype=np.uint32) if labels is None else labels
    num_labels = int((labels != NOBODY).sum())
    join = NearJoin(files, Boilerplate(np.zeros(0, np.uint32)), SPEC, folder)
    capped = join.propose(ItemFacts(labels, none, none), pool)
    sweep = Sweep(np.full(num_labels, NO_GROUP, np.uint32))
    for found in join.matches(num_labels, pool):
        sweep.advance(found.worse, found.better, found.until)
    return sweep.keeper, capped


@pytest.fixture(scope="module")
def in_memory() -> np.ndarray:
    return near_texts(pa.array(TEXTS, pa.large_string()), SPEC, normalise=lambda batch: batch).keeper


@pytest.mark.parametrize("edges", [[], [100, 100, 499], list(range(50, 500, 50))])
def test_files_say_what_memory_says(tmp_path: Path, in_memory: np.ndarray, edges: list[int]):
    assert joined(tmp_path, edges, InProcessPool())[0].tolist() == in_memory.tolist()
    assert (in_memory != NOBODY).sum() > 30


def test_small_partitions_in_any_order_change_nothing(tmp_path: Path, in_memory: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.near.texts.ITEMS_PER_JOIN", 120)
    monkeypatch.setattr("curation.near.texts.PAIRS_PER_COMPARISON", 40)
    assert joined(tmp_path, [250], BackwardsPool())[0].tolist() == in_memory.tolist()
    assert len(list(tmp_path.glob("pairs-*.npy"))) == SPEC.num_keys * 5
    assert len(list(tmp_path.glob("matches-*.npz"))) > 5


def test_a_join_that_was_killed_goes_on(tmp_path: Path, in_memory: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("curation.near.texts.PAIRS_PER_COMPARISON", 40)
    for after in (1, 4, 30):
        with pytest.raises(Killed):
            joined(tmp_path, [250], StoppingPool(after))
    assert joined(tmp_path, [250], InProcessPool())[0].tolist() == in_memory.tolist()


def test_items_without_a_label_take_no_part(tmp_path: Path, in_memory: np.ndarray):
    labels = np.full(len(TEXTS), NOBODY, np.uint32)
    labels[::2] = np.arange(len(labels[::2]), dtype=np.uint32)
    keeper, _ = joined(tmp_path, [250], InProcessPool(), labels)
    alone = near_texts(pa.array(TEXTS[::2], pa.large_string()), SPEC, normalise=lambda batch: batch).keeper
    assert keeper.tolist() == alone.tolist()


def test_declared_memory_grows_with_what_a_task_holds(tmp_path: Path):
    files = [ItemFile("a", 0, 1_000, 50_000), ItemFile("b", 1_000, 2_000, 100_000)]
    join = NearJoin(files, Boilerplate(np.zeros(0, np.uint32)), SPEC, tmp_path)
    assert join.declared_bytes(2) == 2 * join.declared_bytes(1)
    more = NearJoin([*files, ItemFile("c", 3_000, 9_000, 9_000_000)], join.boilerplate, SPEC, tmp_path)
    assert more.declared_bytes(1) > join.declared_bytes(1)
    assert NearJoin([], join.boilerplate, SPEC, tmp_path).declared_bytes(1) == 0
