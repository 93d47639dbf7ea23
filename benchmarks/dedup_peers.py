"""One peer of benchmarks/dedup.py, run by an interpreter that has it: `python dedup_peers.py NAME TEXTS.parquet DROPPED.npy`.

Peers do not agree on versions, with us or each other, so each may live in an environment of its own; this file imports nothing
of the project. `TEXTS.parquet` has a column `text`. Writes a flag a row (dropped or not) and prints one JSON line with the
seconds that the peer took and the memory it had before, imports and reading of settings left out.
All are set to word 3-grams and 14 bands of 8 rows, on 2 processes where they take a number.
"""

import json
import os
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

BANDS, ROWS, NGRAM, THRESHOLD, WORKERS = 14, 8, 3, 0.7, 2
Flags = np.ndarray


def _kept(rows: object, num_rows: int) -> Flags:
    dropped = np.ones(num_rows, np.bool_)
    dropped[np.asarray(rows, np.int64)] = False
    return dropped


def rensa(path: str, folder: Path) -> Callable[[], Flags]:
    """rensa's LSH de-duplicator: a row is dropped when an earlier kept one is a candidate."""
    from rensa import RMinHash, RMinHashDeduplicator

    def run() -> Flags:
        texts = pq.read_table(path)["text"].to_pylist()
        index = RMinHashDeduplicator(THRESHOLD, BANDS * ROWS, True, BANDS)
        dropped = np.zeros(len(texts), np.bool_)
        for start in range(0, len(texts), 10_000):
            batch = [_tokens(text) for text in texts[start : start + 10_000]]
            for row, signature in enumerate(RMinHash.from_token_sets(batch, BANDS * ROWS, 42), start):
                dropped[row] = not index.add(str(row), signature)
        return dropped

    return run


def rensa_flags(path: str, folder: Path) -> Callable[[], Flags]:
    """rensa's fastest way: every row that shares a band with another one is flagged, so both of a pair are."""
    from rensa import RMinHash, RMinHashLSH

    def run() -> Flags:
        index = RMinHashLSH(THRESHOLD, BANDS * ROWS, BANDS)
        batches = [_tokens(text) for text in pq.read_table(path)["text"].to_pylist()]
        matrix = RMinHash.digest_matrix_from_token_sets(batches, BANDS * ROWS, 42)
        return np.array(index.insert_matrix_and_query_duplicate_flags(matrix), np.bool_)

    return run


def datasketch(path: str, folder: Path) -> Callable[[], Flags]:
    """datasketch's MinHash and LSH: a row is dropped when an earlier kept one is a candidate."""
    from datasketch import MinHash, MinHashLSH

    def run() -> Flags:
        texts = pq.read_table(path)["text"].to_pylist()
        index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
        dropped = np.zeros(len(texts), np.bool_)
        for row, text in enumerate(texts):
            signature = MinHash(num_perm=BANDS * ROWS)
            signature.update_batch([token.encode() for token in _tokens(text)])
            if index.query(signature):
                dropped[row] = True
            else:
                index.insert(row, signature)
        return dropped

    return run


def _tokens(text: str) -> list[str]:
    words = text.lower().split()
    return [" ".join(words[place : place + NGRAM]) for place in range(len(words) - NGRAM + 1)]


def datatrove(path: str, folder: Path) -> Callable[[], Flags]:
    """datatrove's four MinHash steps up to the list of documents to remove, with its local executor on two workers."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup import MinhashDedupCluster, MinhashDedupSignature
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupBuckets
    from datatrove.pipeline.readers import ParquetReader
    from loguru import logger

    logger.remove()
    table = pq.read_table(path)
    parts = -(-len(table) // WORKERS)
    (folder / "in").mkdir()
    for part in range(WORKERS):
        rows = table.slice(part * parts, parts)
        pq.write_table(rows.append_column("id", [[str(row) for row in range(len(rows))]]), folder / "in" / f"{part}.parquet")
    config = MinhashConfig(n_grams=NGRAM, num_buckets=BANDS, hashes_per_bucket=ROWS)

    def step(name: str, tasks: int, *steps: object) -> None:
        LocalPipelineExecutor(
            pipeline=list(steps), tasks=tasks, workers=min(tasks, WORKERS), logging_dir=str(folder / name)
        ).run()

    def run() -> Flags:
        step("l1", WORKERS, ParquetReader(str(folder / "in")), MinhashDedupSignature(str(folder / "sig"), config))
        step("l2", BANDS, MinhashDedupBuckets(str(folder / "sig"), str(folder / "dups"), config=config))
        step("l3", 1, MinhashDedupCluster(str(folder / "dups"), str(folder / "gone"), config=config))
        dropped = np.zeros(len(table), np.bool_)
        for part in range(WORKERS):
            listed = folder / "gone" / f"{part:06d}.remove"
            if listed.exists():
                dropped[part * parts + np.array([number for (number,) in struct.iter_unpack("<I", listed.read_bytes())])] = True
        return dropped

    return run


def text_dedup(path: str, folder: Path) -> Callable[[], Flags]:
    """text-dedup's MinHash command, read to written data set."""
    os.environ["HF_HOME"] = os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
    from datasets import load_from_disk
    from text_dedup.minhash import main

    table = pq.read_table(path)
    pq.write_table(table.append_column("row", [np.arange(len(table))]), folder / "in.parquet")
    arguments = {
        "path": "parquet", "data_files": str(folder / "in.parquet"), "split": "train", "cache_dir": str(folder / "cache"),
        "output": str(folder / "out"), "column": "text", "ngram": NGRAM, "num_perm": BANDS * ROWS, "threshold": THRESHOLD,
        "b": BANDS, "r": ROWS, "num_proc": WORKERS,
    }  # fmt: skip

    def run() -> Flags:
        main([part for name, value in arguments.items() for part in (f"--{name}", str(value))], standalone_mode=False)
        return _kept(load_from_disk(str(folder / "out"))["row"], len(table))

    return run


def data_juicer(path: str, folder: Path) -> Callable[[], Flags]:
    """data-juicer's document_minhash_deduplicator: hashes by two processes, then its clustering."""
    os.environ["HF_HOME"] = os.environ["HF_DATASETS_CACHE"] = str(folder / "cache")
    from data_juicer.core.data import NestedDataset
    from data_juicer.ops.deduplicator.document_minhash_deduplicator import DocumentMinhashDeduplicator
    from loguru import logger

    logger.remove()
    texts = pq.read_table(path)["text"].to_pylist()
    rows = NestedDataset.from_dict({"text": texts, "row": list(range(len(texts)))})
    settings = {"num_permutations": BANDS * ROWS, "num_bands": BANDS, "num_rows_per_band": ROWS, "window_size": NGRAM}
    operator = DocumentMinhashDeduplicator(jaccard_threshold=THRESHOLD, **settings)

    def run() -> Flags:
        hashed = rows.map(operator.compute_hash, num_proc=WORKERS)
        return _kept(operator.process(hashed)[0]["row"], len(texts))

    return run


def daft(path: str, folder: Path) -> Callable[[], Flags]:
    """daft's minhash expression, and its group-by for each band: a row goes with the first of any of its buckets."""
    import daft as engine
    from daft import col
    from daft.functions import minhash

    num_rows = pq.read_metadata(path).num_rows

    def run() -> Flags:
        frame = engine.from_arrow(pq.read_table(path).append_column("row", [np.arange(num_rows)]))
        hashed = frame.select(col("row"), minhash(col("text").lower(), num_hashes=BANDS * ROWS, ngram_size=NGRAM, seed=1))
        found = hashed.to_arrow()
        signature = found.column(1).combine_chunks()
        values = np.asarray(signature.flatten()).reshape(len(found), BANDS, ROWS)
        dropped = np.zeros(num_rows, np.bool_)
        order = np.asarray(found.column(0))
        for band in range(BANDS):
            keys = engine.from_pydict({"row": order, "key": [value.tobytes() for value in values[:, band]]})
            buckets = keys.groupby("key").agg(col("row").list_agg()).to_arrow().column("row").combine_chunks()
            sizes = np.diff(np.asarray(buckets.offsets))
            members = np.asarray(buckets.flatten())
            firsts = np.minimum.reduceat(members, np.cumsum(sizes) - sizes)
            dropped[members[members != np.repeat(firsts, sizes)]] = True
        return dropped

    return run


PEERS = {
    "rensa": rensa, "rensa-flags": rensa_flags, "datasketch": datasketch, "datatrove": datatrove, "text-dedup": text_dedup,
    "data-juicer": data_juicer, "daft": daft,
}  # fmt: skip


def main() -> None:
    """Run one peer."""
    name, path, target = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="peer-") as work:
        run = PEERS[name](path, Path(work))
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        start = time.perf_counter()
        dropped = run()
        seconds = time.perf_counter() - start
    np.save(target, dropped)
    print(json.dumps({"seconds": seconds, "start_bytes": pages * os.sysconf("SC_PAGE_SIZE")}))


if __name__ == "__main__":
    main()
