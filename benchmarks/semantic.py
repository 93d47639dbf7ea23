"""Neighbours in meaning: our join of vectors against faiss, by time and by the pairs found.

`python -m benchmarks.semantic [ITEMS]`. Vectors are made up: texts about topics, each with a vector for its question and one
for its answer, and for one text in ten a copy whose cosines lie around the threshold. All items are in one group, which is
the worst case: real ones are parted by their pictures first. faiss searches the concatenated vectors, as our proposals do;
its exact search finds all pairs, and so says what share of them the others find. `pip install faiss-cpu` to see it.
"""

import importlib.util
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.printing import show
from curation.dedup.buckets import join_pairs
from curation.dedup.meaning import Halves, flattened
from curation.mixture.dedup import SemanticSpec
from curation.near.meanings import SemanticJoin, VectorFile
from curation.near.texts import ItemFacts
from curation.runtime.pool import InProcessPool

DEFAULT_ITEMS = 50_000
WIDTH = 128
NUM_TOPICS = 500
SPEC = SemanticSpec(model="made up", threshold=0.95)
CAP = 1_000
_ITEMS_PER_FILE = 25_000
_PROBES = 8


def made_up(num_items: int) -> Halves:
    """[items, 2, WIDTH] vectors of length 1, one in ten a copy of another with noise."""
    rng = np.random.default_rng(4)
    topics = rng.normal(size=(NUM_TOPICS, 2, WIDTH))
    vectors = topics[rng.integers(0, NUM_TOPICS, num_items)] + 0.8 * rng.normal(size=(num_items, 2, WIDTH))
    copies = rng.permutation(num_items)[: num_items // 10]
    noise = rng.uniform(0, 0.5, (len(copies), 1, 1))
    vectors[copies] = vectors[rng.integers(0, num_items, len(copies))] + noise * rng.normal(size=(len(copies), 2, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float16)


def ours(vectors: Halves) -> np.ndarray:
    """The pairs that our join finds and verifies, through files as in a build, in one process."""
    with tempfile.TemporaryDirectory(prefix="semantic-") as folder:
        files = []
        for start in range(0, len(vectors), _ITEMS_PER_FILE):
            part = vectors[start : start + _ITEMS_PER_FILE]
            files.append(VectorFile(f"{folder}/vectors-{start:08d}.npy", start, len(part)))
            np.save(files[-1].path, part)
        labels = np.arange(len(vectors), dtype=np.uint32)
        nothing = np.zeros(len(vectors), np.uint64)
        found, _ = SemanticJoin(files, SPEC, CAP, Path(folder)).find(ItemFacts(labels, nothing, nothing), InProcessPool())
        return np.asarray(found.pairs)


def by_faiss(vectors: Halves, *, is_exact: bool) -> np.ndarray:
    """The pairs of which all sides reach the threshold, of those that faiss proposes by their mean."""
    import faiss

    flat = flattened(vectors)
    if is_exact:
        index = faiss.IndexFlatIP(flat.shape[1])
    else:
        number = len(flat) * 8 // 16_384
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(flat.shape[1]), flat.shape[1], number, faiss.METRIC_INNER_PRODUCT)
        index.train(flat)
        index.nprobe = _PROBES
    index.add(flat)
    edges, _, second = index.range_search(flat, SPEC.threshold - 1e-3)
    first = np.repeat(np.arange(len(flat)), np.diff(edges.astype(np.int64)))
    is_once = second < first
    first, second = first[is_once], second[is_once]
    sides = vectors.astype(np.float32)
    is_near = (np.einsum("nsw,nsw->ns", sides[first], sides[second]) >= SPEC.threshold).all(axis=1)
    return np.sort(join_pairs(first[is_near].astype(np.uint32), second[is_near].astype(np.uint32)))


def timed(work: Callable[[], np.ndarray]) -> tuple[float, np.ndarray]:
    """Seconds, and what came out."""
    start = time.perf_counter()
    found = work()
    return time.perf_counter() - start, found


def main() -> None:
    """Print the figures."""
    num_items = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_ITEMS
    vectors = made_up(num_items)
    ours(vectors[:1_000])
    seconds, found = timed(lambda: ours(vectors))
    print(f"{num_items:,} items of 2 x {WIDTH}: {seconds:.1f} s, {len(found):,} pairs")
    if importlib.util.find_spec("faiss") is None:
        print("faiss is not installed, so nothing to compare with: pip install faiss-cpu")
        return
    for name, is_exact in (("faiss, exact", True), (f"faiss, cells of which {_PROBES} are looked at", False)):
        taken, pairs = timed(lambda is_exact=is_exact: by_faiss(vectors, is_exact=is_exact))  # type: ignore[misc]
        if is_exact:
            every = pairs
            print(f"ours finds {np.isin(found, every).sum() / len(every):.4f} of all {len(every):,} pairs")
        print(f"{name}: {taken:.1f} s, finds {np.isin(pairs, every).sum() / len(every):.4f}")
        show(
            f"items a second against {name.partition(',')[2].strip()}",
            num_items / seconds,
            num_items / taken,
            "items/s",
            versus="faiss",
        )


if __name__ == "__main__":
    main()
