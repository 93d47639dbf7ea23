"""`curate plan` and `curate diff` over ten million ingested samples: whole processes, start-up and imports included.

The root is generated: 65 sources of the shipped catalog, with manifests, facts and survivors as the steps write them, but no
samples. Held against a process that imports polars and reads the same columns, which no plan over them can beat. Limits that
are stated for this: 2 seconds and 1 GB.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.printing import show
from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog
from curation.facts import FACTS
from curation.steps.deduplicate import pool_fingerprint
from curation.steps.measure import facts_fingerprint
from curation.steps.survivors import KEPT, survivors_fingerprint
from curation.storage.store import Store, point_to_latest, publish, write_columns

NUM_SAMPLES = 10_000_000
ROUNDS = 3
KEPT_SHARE = 0.95
_REPOSITORY = Path(__file__).parents[1]
_MIXTURES = {
    "plain": "name: plain\n",
    "capped": "name: capped\ncap: 350000\n",
    "few": "name: few\ncap: 250000\n",
    "reseeded": "name: reseeded\ncap: 350000\nseed: 1\n",
    "by-file": "name: by-file\ncap: 150000\ncap_unit: annotation_file\n",
    "short": "name: short\nwhere: {num_tokens: {max: 300}, width: {min: 224}}\ncap: 350000\n",
}
_COMMANDS = (
    ("plan", "capped"),
    ("plan", "by-file"),
    ("plan", "short"),
    ("diff", "few", "capped"),
    ("diff", "capped", "reseeded"),
    ("diff", "capped", "short"),
)
_READS = """
import sys, polars as pl
from pathlib import Path
root = Path(sys.argv[1])
for folder in sorted((root / "facts").glob("*/*")):
    for path in folder.glob("facts-*.parquet"):
        pl.read_parquet(path, columns=["pick_bits"])
for path in root.glob("survivors/*/kept-*.parquet"):
    pl.read_parquet(path)
"""


def make_root(root: Path, catalog: Catalog, num_samples: int) -> None:
    """Manifests, facts and survivors for `num_samples` samples, shared among the sources as the catalog's counts are."""
    store = Store.open(str(root))
    rng = np.random.default_rng(0)
    expected = {name: source.expected.records or 1 for name, source in catalog.sources.items()}
    scale = num_samples / sum(expected.values())
    sources = {name: max(10, round(number * scale)) for name, number in expected.items()}
    signatures, facts, survivors = {}, {}, {}
    masks: dict[str, np.ndarray] = {}
    for name, number in sources.items():
        counts = {"records": number, "samples": number, "rejected": {}, "repaired": {}, "images": number, "tokens": 0}
        _publish(store.source(name, "ingested"), {"counts": counts})
        _publish(store.signatures(name, f"signed-{name}"), {"counts": {}})
        signatures[name], facts[name] = f"signed-{name}", facts_fingerprint("ingested")
        masks[name] = rng.random(number) < KEPT_SHARE
        folder = store.facts(name, facts[name])
        table = made_up_facts(rng, number)
        write_columns(folder / "facts-00000.parquet", table)
        _publish(folder, {"files": _totals(number)})
        survivors[name] = {"files": _totals(int(masks[name].sum()))}
    folder = store.survivors(survivors_fingerprint(pool_fingerprint(signatures), facts))
    for name, mask in masks.items():
        write_columns(folder / f"kept-{name}.parquet", pa.table({"kept": mask}, schema=KEPT))
    _publish(folder, {"sources": survivors})


def made_up_facts(rng: np.random.Generator, number: int) -> pa.Table:
    """FACTS of `number` samples of two annotation files."""
    files = pa.DictionaryArray.from_arrays(pa.array(rng.integers(0, 2, number, np.int32)), pa.array(["one.json", "two.json"]))
    sides = {name: rng.integers(64, 2_000, number, np.int32) for name in ("min_width", "min_height")}
    columns = {
        "pick_bits": rng.integers(0, 2**64, number, np.uint64),
        "annotation_file": files,
        "num_tokens": rng.integers(1, 600, number, np.int32),
        "num_images": np.ones(number, np.int32),
        "num_turns": np.full(number, 2, np.int32),
        "num_text_bytes": rng.integers(5, 3_000, number, np.int32),
        **sides,
        "max_width": sides["min_width"],
        "max_height": sides["min_height"],
        "about_bytes": rng.integers(10_000, 90_000, number, np.int64),
    }
    return pa.table({name: columns[name] for name in FACTS.names}, schema=FACTS)


def _totals(number: int) -> dict[str, dict[str, int]]:
    half = {"samples": number // 2, "num_tokens": number * 150, "num_images": number // 2, "num_bytes": number * 25_000}
    return {"one.json": half, "two.json": half | {"samples": number - number // 2}}


def _publish(folder: Path, manifest: dict[str, object]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    publish(folder, manifest)
    if folder.parent.name != "survivors":
        point_to_latest(folder)


def measured(command: Sequence[str]) -> tuple[float, float]:
    """Wall seconds and peak resident MB of a process."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, cwd=_REPOSITORY, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"{' '.join(command)} failed")
    if "--json" in command:
        json.loads(printed)
    return seconds, usage.ru_maxrss / 1024


def main() -> None:
    """Print the figures. The root is made by a process of its own: a child's peak counts what its parent held at the fork."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        subprocess.run([sys.executable, "-m", "benchmarks.planning", str(folder / "root")], check=True, cwd=_REPOSITORY)
        for name, text in _MIXTURES.items():
            (folder / f"{name}.yaml").write_text(text)
        for verb, *names in _COMMANDS:
            files = [str(folder / f"{name}.yaml") for name in names]
            ours, limits = [], []
            for _ in range(ROUNDS):
                ours.append(measured(["-m", "flows", "--root", str(folder / "root"), verb, *files, "--json"]))
                limits.append(measured(["-c", _READS, str(folder / "root")]))
            seconds, megabytes = np.median(ours, axis=0)
            what = f"{verb} {' '.join(names)}, 10M samples"
            show(what, float(seconds), float(np.median(limits, axis=0)[0]), "s", versus="reading the columns")
            show(what, float(megabytes), 1_000.0, "MB at peak", versus="limit")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make_root(Path(sys.argv[1]), load_catalog(_REPOSITORY / "catalog.yaml"), NUM_SAMPLES)
    else:
        main()
