"""Ingest of text records against reading and parsing the same files in one process, and memory as the input grows.

Ingest maps, checks, identifies, writes and syncs every record; the peers only read and parse. All take turns, and the best of
some rounds counts for each, since what else a machine does can only slow them down; how much it did is stated, because
ingest needs every core and the peers one. Python's collection of cycles, which nested records set off again and again, is
paused for the peers as ingest pauses it for itself. The start of Ray is stated apart.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from benchmarks.memory import PeakMemory
from benchmarks.printing import show
from curation.catalog.file import load_catalog
from curation.runtime.cluster import start_ray
from curation.runtime.pool import RayPool
from curation.runtime.settings import RuntimeSettings
from curation.sources.mapping import collection_paused
from curation.steps.ingest import Ingest
from curation.storage.store import Store
from flows.environment import prepare_environment

RECORDS = 200_000
SMALL_RECORDS = 50_000
FILES = 4
ROUNDS = 5
_WORDS = ("take the red box from a table and say how many small circles are left " * 2).split()
_CATALOG = "sources: {{bench: {{category: language, location: {{root: '{root}', files: '*.jsonl'}}, {layout}}}}}\n"
_LAYOUTS = {
    "instruction": "layout: instruction, fields: {instruction: instruction, input: input, output: output}",
    "conversations": "layout: conversations, fields: {turns: conversations}",
}


def instruction(rng: random.Random, number: int) -> dict[str, Any]:
    """An Alpaca-like record of some 430 bytes."""
    return {
        "id": f"{number}",
        "instruction": _text(rng, 24),
        "input": _text(rng, 6) if number % 2 else "",
        "output": _text(rng, 48),
    }


def conversation(rng: random.Random, number: int) -> dict[str, Any]:
    """A LLaVA-like record of four turns."""
    said = [("human", _text(rng, 24)), ("gpt", _text(rng, 30)), ("human", _text(rng, 6)), ("gpt", _text(rng, 18))]
    return {"id": f"{number}", "conversations": [{"from": role, "value": text} for role, text in said]}


def _text(rng: random.Random, num_words: int) -> str:
    return " ".join(rng.choices(_WORDS, k=num_words))


RECORD_OF = {"instruction": instruction, "conversations": conversation}


def write_records(folder: Path, number: int, layout: str = "instruction") -> list[Path]:
    """Records of a layout in JSON lines."""
    folder.mkdir()
    rng = random.Random(number)
    paths = [folder / f"part-{part}.jsonl" for part in range(FILES)]
    for part, path in enumerate(paths):
        with path.open("wb") as handle:
            for row in range(part, number, FILES):
                handle.write(orjson.dumps(RECORD_OF[layout](rng, row)) + b"\n")
    return paths


def parse_with_orjson(paths: list[Path]) -> int:
    """Every record parsed, line by line."""
    return sum(len([orjson.loads(line) for line in path.read_bytes().splitlines()]) for path in paths)


def parse_with_polars(paths: list[Path]) -> int:
    """Every record parsed into columns, on all cores."""
    return sum(len(pl.read_ndjson(path)) for path in paths)


def ingest(folder: Path, root: Path, pool: RayPool, layout: str = "instruction") -> None:
    """One ingest of all records into a new root."""
    catalog_path = root.with_suffix(".yaml")
    catalog_path.write_text(_CATALOG.format(root=folder, layout=_LAYOUTS[layout]))
    catalog = load_catalog(catalog_path)
    artefact = Ingest(catalog, catalog.sources["bench"]).run(Store.open(str(root)), pool)
    assert artefact.manifest["counts"]["rejected"] == {}


def main() -> None:
    """Print the figures."""
    prepare_environment()
    start = time.perf_counter()
    start_ray(RuntimeSettings())
    pool = RayPool()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        small = folder / f"{SMALL_RECORDS}"
        write_records(small, SMALL_RECORDS)
        ingest(small, folder / "warm", pool)
        print(f"start of Ray and its workers: {time.perf_counter() - start:.1f} s", file=sys.stderr)
        for layout in _LAYOUTS:
            compare(folder / layout, write_records(folder / layout, RECORDS, layout), pool, layout)
        peaks = []
        for number, source in ((SMALL_RECORDS, small), (RECORDS, folder / "instruction")):
            with PeakMemory() as memory:
                ingest(source, folder / f"memory-{number}", pool)
            peaks.append(memory.peak_bytes / 1e6)
        show(f"peak memory at {RECORDS:,} records", peaks[1], peaks[0], "MB", versus=f"at {SMALL_RECORDS:,}")


def compare(folder: Path, paths: list[Path], pool: RayPool, layout: str) -> None:
    """Ingest and its peers in turns, on the same files."""
    best: dict[str, float] = {}
    others, watched = 0.0, 0.0
    for attempt in range(ROUNDS):
        works: dict[str, Callable[[], object]] = {
            "ours": lambda number=attempt: ingest(folder, folder.with_name(f"{layout}-root-{number}"), pool, layout),
            "orjson": lambda: parse_with_orjson(paths),
            "polars": lambda: parse_with_polars(paths),
        }
        for name, work in works.items():
            before, start = _cpu_seconds(), time.perf_counter()
            with collection_paused():
                work()
            seconds = time.perf_counter() - start
            best[name] = min(best.get(name, seconds), seconds)
            if name == "orjson":  # which keeps one core busy itself
                others, watched = others + _cpu_seconds() - before - seconds, watched + seconds
    for peer in ("orjson", "polars"):
        name, versus = f"ingest {RECORDS:,} records ({layout})", f"{peer} read and parse"
        show(name, RECORDS / best["ours"], RECORDS / best[peer], "records/s", versus=versus)
    print(f"  other processes kept {others / watched:.1f} cores busy meanwhile", file=sys.stderr)


def _cpu_seconds() -> float:
    """Seconds for which the machine's cores have been busy, all together (Linux)."""
    user, nice, system = Path("/proc/stat").read_text().split(maxsplit=4)[1:4]
    return (int(user) + int(nice) + int(system)) / 100


if __name__ == "__main__":
    main()
