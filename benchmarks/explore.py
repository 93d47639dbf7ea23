"""Searching a million samples: what each kind of question takes, against the 200 ms a person does not notice.

`python -m benchmarks.explore [ROWS]`. Samples, verdicts and index are generated; making the index is stated apart.
"""

import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import polars as pl
import pyarrow as pa

from benchmarks.printing import show
from curation.explore.index import make_index
from curation.explore.search import Index, Query
from curation.runtime.progress import reporter_for
from curation.storage.store import Store, publish, write_table
from curation.tables import SAMPLES, VERDICTS, Int64s

LIMIT_SECONDS = 0.2
_ROWS_PER_FILE = 100_000
_WORDS_PER_TEXT = 40
_SOURCES = ("alpha", "beta", "gamma", "delta")


def main(num_rows: int = 1_000_000) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Store.open(folder)
        release = generate(store, num_rows)
        started = time.perf_counter()
        path = make_index(store, release, reporter_for(is_quiet=True))
        print(f"index of {num_rows:,} rows: {time.perf_counter() - started:.1f} s, {path.stat().st_size / 1e6:,.0f} MB")
        index = Index(path)
        row = index.find(Query(text="w7")).rows[0]
        text = " ".join(f"w{n}" for n in range(1, 4_000, 100))
        questions = {
            "all, first page": lambda: index.find(Query()),
            "all, page in the middle": lambda: index.find(Query(after=num_rows // 2)),
            "a common word": lambda: index.find(Query(text="w1")),
            "a rare word": lambda: index.find(Query(text="w4321")),
            "a common phrase": lambda: index.find(Query(text='"w1 w1"')),
            "common word, source and verdict": lambda: index.find(
                Query(text="w1", facets={"source": "gamma", "verdict": "drop"})
            ),
            "rare verdict alone": lambda: index.find(Query(facets={"verdict": "drop"})),
            "a beginning": lambda: index.find(Query(text="w12*")),
            "one sample": lambda: index.row(row["id"]),
            "its duplicates": lambda: index.duplicates(row),
            "more like this": lambda: index.alike(row, text),
        }
        worst = 0.0
        for name, ask in questions.items():
            taken: list[float] = []
            for _ in range(7):
                started = time.perf_counter()
                ask()
                taken.append(time.perf_counter() - started)
            worst = max(worst, median(taken))
            print(f"{name:<34} {median(taken) * 1e3:8.1f} ms (slowest {max(taken) * 1e3:.1f})")
        index.close()
        show("explore: slowest kind of question", worst * 1e3, LIMIT_SECONDS * 1e3, "ms", versus="limit")


def generate(store: Store, num_rows: int) -> Path:
    """A release of `num_rows` samples whose words are distributed as in a language: few common, many rare."""
    random = np.random.default_rng(5)
    vocabulary = pa.array([f"w{n}" for n in range(50_000)])
    fingerprints = {}
    verdicts: list[pa.Table] = []
    for source in _SOURCES:
        folder = store.source(source, "f")
        fingerprints[source] = "f"
        for number in range(-(-num_rows // len(_SOURCES) // _ROWS_PER_FILE)):
            size = min(_ROWS_PER_FILE, num_rows // len(_SOURCES) - number * _ROWS_PER_FILE)
            ids = [f"{source}-{number * _ROWS_PER_FILE + n:024x}" for n in range(size)]
            write_table(folder / f"samples-{number:05d}.parquet", _samples(source, ids, vocabulary, random))
            verdicts.append(_verdicts(source, ids))
        publish(folder, {"fingerprint": "f"})
    release = store.release("generated", "f")
    write_table(release / "verdicts.parquet", pa.concat_tables(verdicts))
    plan = {source: {"category": "language"} for source in _SOURCES}
    publish(release, {"name": "generated", "inputs": {"sources": fingerprints}, "plan": plan, "created": ""})
    return release


def _samples(source: str, ids: list[str], vocabulary: pa.Array, random: np.random.Generator) -> pa.Table:
    size = len(ids)
    words: Int64s = np.minimum(random.zipf(1.2, size * _WORDS_PER_TEXT * 2), len(vocabulary) - 1)
    ends = np.arange(0, len(words) + 1, _WORDS_PER_TEXT)
    texts = pl.Series(pa.ListArray.from_arrays(ends.astype(np.int32), vocabulary.take(pa.array(words)))).list.join(" ")
    turns = pa.StructArray.from_arrays(
        [pa.array(["human", "gpt"] * size), texts.to_arrow().cast(pa.string())], names=["from", "value"]
    )
    columns = {
        "sample_id": ids,
        "source": [source] * size,
        "conversations": pa.ListArray.from_arrays(np.arange(0, 2 * size + 1, 2).astype(np.int32), turns),
        "images": [[]] * size,
        "num_images": [0] * size,
        "num_turns": [2] * size,
        "num_tokens": [2 * _WORDS_PER_TEXT] * size,
        "num_text_bytes": [0] * size,
        "origin_file": ["file"] * size,
        "origin_position": list(range(size)),
        "origin_id": [None] * size,
        "annotation_file": [None] * size,
    }
    return pa.table(columns).cast(SAMPLES)


def _verdicts(source: str, ids: list[str]) -> pa.Table:
    dropped = [n % 200 == 199 for n in range(len(ids))]
    columns = {
        "sample_id": ids,
        "source": [source] * len(ids),
        "stage": ["deduplicate"] * len(ids),
        "verdict": ["drop" if is_dropped else "keep" for is_dropped in dropped],
        "reason": ["exact_duplicate" if is_dropped else None for is_dropped in dropped],
        "twin_id": [ids[n - 1] if is_dropped else None for n, is_dropped in enumerate(dropped)],
        "detail": [None] * len(ids),
    }
    return pa.table(columns).cast(VERDICTS)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
