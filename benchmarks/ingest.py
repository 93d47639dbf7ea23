"""Ingest of text records against reading and parsing the same files in one process, and memory as the input grows.

Ingest maps, checks, identifies and writes every record; the peers only read and parse. The start of Ray is stated apart.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

import orjson
import polars as pl

from benchmarks.memory import PeakMemory
from benchmarks.printing import show
from curation.catalog import load_catalog
from curation.runtime.pool import RayPool, start_ray
from curation.steps.ingest import Ingest
from curation.store import Store
from flows.environment import prepare_environment

RECORDS = 200_000
SMALL_RECORDS = 50_000
FILES = 4
_WORDS = ("take the red box from a table and say how many small circles are left " * 2).split()
_CATALOG = """sources:
  bench:
    category: language
    layout: instruction
    location: {{root: {root}, files: "*.jsonl"}}
    fields: {{instruction: instruction, input: input, output: output}}
"""


def write_records(folder: Path, number: int) -> list[Path]:
    """Alpaca-like records of some 430 bytes in JSON lines."""
    folder.mkdir()
    rng = random.Random(number)
    paths = [folder / f"part-{part}.jsonl" for part in range(FILES)]
    for part, path in enumerate(paths):
        with path.open("wb") as handle:
            for row in range(number // FILES):
                record = {
                    "id": f"{part}-{row}",
                    "instruction": " ".join(rng.choices(_WORDS, k=24)),
                    "input": " ".join(rng.choices(_WORDS, k=6)) if row % 2 else "",
                    "output": " ".join(rng.choices(_WORDS, k=48)),
                }
                handle.write(orjson.dumps(record) + b"\n")
    return paths


def parse_with_orjson(paths: list[Path]) -> int:
    """Every record parsed, line by line."""
    return sum(len([orjson.loads(line) for line in path.read_bytes().splitlines()]) for path in paths)


def parse_with_polars(paths: list[Path]) -> int:
    """Every record parsed into columns, on all cores."""
    return sum(len(pl.read_ndjson(path)) for path in paths)


def seconds(work: object, *arguments: object, rounds: int = 3) -> float:
    """The best of some rounds."""
    best = float("inf")
    for _ in range(rounds):
        start = time.perf_counter()
        work(*arguments)  # type: ignore[operator]
        best = min(best, time.perf_counter() - start)
    return best


def ingest(folder: Path, root: Path, pool: RayPool) -> None:
    """One ingest of all records into a new root."""
    catalog_path = root.with_suffix(".yaml")
    catalog_path.write_text(_CATALOG.format(root=folder))
    catalog = load_catalog(catalog_path)
    artefact = Ingest(catalog, catalog.sources["bench"]).run(Store.open(str(root)), pool)
    assert artefact.manifest["counts"]["rejected"] == {}


def main() -> None:
    """Print the figures."""
    prepare_environment()
    start = time.perf_counter()
    start_ray(None)
    pool = RayPool()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small, large = (folder / f"{number}" for number in (SMALL_RECORDS, RECORDS))
        write_records(small, SMALL_RECORDS)
        paths = write_records(large, RECORDS)
        ingest(small, folder / "warm", pool)
        print(f"start of Ray and its workers: {time.perf_counter() - start:.1f} s", file=sys.stderr)
        ours = min(_timed_ingest(large, folder / f"root-{attempt}", pool) for attempt in range(3))
        for name, parse in (("orjson", parse_with_orjson), ("polars", parse_with_polars)):
            theirs = seconds(parse, paths)
            show(
                f"ingest {RECORDS:,} text records",
                RECORDS / ours,
                RECORDS / theirs,
                "records/s",
                versus=f"{name} read and parse",
            )
        peaks = []
        for number, source in ((SMALL_RECORDS, small), (RECORDS, large)):
            with PeakMemory() as memory:
                ingest(source, folder / f"memory-{number}", pool)
            peaks.append(memory.peak_bytes / 1e6)
        show(f"peak memory at {RECORDS:,} records", peaks[1], peaks[0], "MB", versus=f"at {SMALL_RECORDS:,}")


def _timed_ingest(folder: Path, root: Path, pool: RayPool) -> float:
    start = time.perf_counter()
    ingest(folder, root, pool)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
