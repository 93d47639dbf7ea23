"""Near-duplicate texts: our rate, recall, precision and memory against peers on the same rows, and cost as rows grow.

Ours takes texts to keepers, verified pairs included. Peers are optional and run by the interpreter of their own environment:
`python -m venv FOLDER/datatrove; FOLDER/datatrove/bin/pip install "datatrove[processing]" spacy`, likewise rensa, datasketch,
text-dedup, data-juicer (py-data-juicer and aiohttp) and daft, then `--environments FOLDER`; rensa and datasketch may also be
installed beside us (extra `bench`). Those that are missing are named and left out.

`--scale 100000 1000000 10000000` runs the steps of `curate build` (clean, sign, de-duplicate) over generated samples on disk
instead, and prints time, memory and cost per sample; `--edges 100000000` runs the choice of keepers over so many matches.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.memory import PeakMemory
from benchmarks.printing import show
from curation.cleaning import normalised
from curation.dedup import keepers
from curation.dedup.keepers import NOBODY
from curation.dedup.near_text import near_texts
from curation.mixture.dedup import DedupSpec
from curation.near.texts import PAIRS_PER_COMPARISON
from curation.sources.columns import Said
from curation.sources.sample_rows import Origins, sample_table
from curation.steps.clean import Clean
from curation.steps.deduplicate import Deduplicate
from curation.steps.sign import Sign
from curation.steps.step import Artefact
from curation.storage.store import Store, publish, read_manifest, write_table
from flows.environment import prepare_environment
from flows.job import open_pool

ROWS = 200_000
SLOW_ROWS = 50_000
"""Given to peers that take minutes for more; they are held against ours on the same rows."""

ROWS_PER_FILE = 50_000
WORD_BYTES = 6
PLANTED_SHARE = 0.2
DEFAULTS = DedupSpec(same_numbers=False, boilerplate_share=0)
"""The product's own bands, 24 of 6 rows. Rows are judged by their text alone."""

BARE = DEFAULTS.model_copy(update={"bands": 14, "rows": 8})
"""As the peers are set."""

SPEC = BARE.model_copy(update={"probes": 4})
"""The same 14 x 8 MinHash values, of which a quarter of a band may differ."""

HARD, MILD = 6, 3
"""Most words in which planted copies differ."""


PACKAGES = {
    "rensa": "rensa", "rensa-flags": "rensa", "daft": "daft", "datasketch": "datasketch", "text-dedup": "text-dedup",
    "data-juicer": "data-juicer", "datatrove": "datatrove",
}  # fmt: skip
FAST = {"rensa", "rensa-flags", "daft"}


# --- Rows ---------------------------------------------------------------------------------------------------------------


def vocabulary() -> np.ndarray:
    """4,096 words of five letters and a space, as bytes."""
    rng = np.random.default_rng(1)
    letters = rng.integers(ord("a"), ord("z") + 1, (4_096, WORD_BYTES), np.uint8)
    letters[:, -1] = ord(" ")
    return letters


def word_rows(part: int, number: int, most: int = HARD) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words of `number` texts as places in the vocabulary, the edges of the texts, and for each the text of this part that it
    was copied from with one to `most` words replaced (-1 for none)."""
    rng = np.random.default_rng(part)
    lengths = rng.integers(20, 100, number)
    origin = np.full(number, -1)
    copies = np.flatnonzero(rng.random(number) < PLANTED_SHARE)[1:]
    origin[copies] = (copies * rng.random(len(copies))).astype(np.int64)
    is_copy_of_copy = origin[origin[copies]] >= 0
    origin[copies[is_copy_of_copy]] = -1  # families are stars, as families of real copies mostly are
    copies = np.flatnonzero(origin >= 0)
    lengths[copies] = lengths[origin[copies]]
    edges = np.concatenate([[0], np.cumsum(lengths)])
    words = rng.integers(0, 4_096, edges[-1])
    for copy in copies.tolist():
        start, size = edges[copy], lengths[copy]
        words[start : start + size] = words[edges[origin[copy]] : edges[origin[copy]] + size]
        changed = rng.integers(0, size, rng.integers(1, most + 1))
        words[start + changed] = rng.integers(0, 4_096, len(changed))
    return words, edges, origin


def texts_of(words: np.ndarray, edges: np.ndarray) -> pa.Array:
    """The texts of `word_rows` as an Arrow column."""
    data = vocabulary()[words].reshape(-1)
    offsets = (edges * WORD_BYTES).astype(np.int64)
    return pa.LargeStringArray.from_buffers(len(edges) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


# --- Quality ------------------------------------------------------------------------------------------------------------


def ngrams(words: np.ndarray) -> set[tuple[int, ...]]:
    return set(zip(words.tolist(), words[1:].tolist(), words[2:].tolist(), strict=False))


def judge(dropped: np.ndarray, words: np.ndarray, edges: np.ndarray, origin: np.ndarray) -> dict[str, float]:
    """Recall over planted pairs of true Jaccard >= .7, precision over dropped rows, and rows lost without a kept twin.

    Rows of different families share next to nothing, so only families are compared.
    """
    families: dict[int, list[int]] = {}
    for copy in np.flatnonzero(origin >= 0).tolist():
        families.setdefault(int(origin[copy]), [int(origin[copy])]).append(copy)
    found = alike = right = lost = 0
    judged: set[int] = set()
    for members in families.values():
        sets = {row: ngrams(words[edges[row] : edges[row + 1]]) for row in members}

        def near(one: int, other: int, sets: dict[int, set[tuple[int, ...]]] = sets) -> bool:
            return len(sets[one] & sets[other]) >= SPEC.threshold * len(sets[one] | sets[other])

        base = members[0]
        for copy in members[1:]:
            if near(base, copy):
                alike += 1
                found += bool(dropped[base] or dropped[copy])
        for row in members:
            if dropped[row]:
                judged.add(row)
                twins = [other for other in members if other != row and near(row, other)]
                right += bool(twins)
                lost += all(dropped[other] for other in twins)
    total = int(dropped.sum())
    lost += total - len(judged)
    return {"recall": found / alike, "precision": right / max(1, total), "lost": lost, "dropped": total}


# --- Ours and peers: texts to a flag for each row ----------------------------------------------------------------------------


def ours(texts: pa.Array, spec: DedupSpec = SPEC) -> np.ndarray:
    """Normalised, shingled, hashed, joined, verified, kept: on two threads."""
    return near_texts(texts, spec, normalise=_normal, num_threads=2).keeper != NOBODY


def _normal(texts: pa.Array) -> pa.Array:
    return normalised(pl.Series("text", texts)).to_arrow().cast(pa.large_string())


def exact(texts: pa.Array) -> np.ndarray:
    """polars: equal normalised texts, the first of which is kept."""
    return (~pl.Series("text", _normal(texts)).is_first_distinct()).to_numpy()


def told(name: str, rows: tuple[np.ndarray, ...], dropped: np.ndarray, seconds: float, used: float) -> float:
    """Judge and print; returns rows a second."""
    quality = judge(dropped, *rows)
    print(
        f"{name:<22} {len(dropped):>9,} rows {seconds:>7.2f} s {used / len(dropped):>7,.0f} B/row  "
        f"recall {quality['recall']:.3f}  precision {quality['precision']:.4f}  "
        f"lost {quality['lost']:,.0f}  dropped {quality['dropped']:,.0f}"
    )
    facts = {
        "name": f"dedup {name}",
        "rows": len(dropped),
        "seconds": round(seconds, 2),
        "bytes_per_row": round(used / len(dropped)),
    }
    print(json.dumps(facts | quality), flush=True)
    return len(dropped) / seconds


def measured(name: str, work: Callable[[pa.Array], np.ndarray], rows: tuple[np.ndarray, ...]) -> float:
    """Run in this process and judge; returns rows a second."""
    texts = texts_of(*rows[:2])
    with PeakMemory() as memory:
        start = time.perf_counter()
        dropped = work(texts)
        seconds = time.perf_counter() - start
    return told(name, rows, dropped, seconds, memory.peak_bytes - memory.start_bytes)


def measured_peer(name: str, interpreter: str, rows: tuple[np.ndarray, ...]) -> float | None:
    """Run a peer in a process of its own, whose imports do not count; returns rows a second."""
    with tempfile.TemporaryDirectory(prefix="dedup-") as folder:
        texts, flags = Path(folder, "texts.parquet"), Path(folder, "dropped.npy")
        pq.write_table(pa.table({"text": texts_of(*rows[:2])}), texts)
        with PeakMemory() as memory:
            command = [interpreter, str(Path(__file__).with_name("dedup_peers.py")), name, str(texts), str(flags)]
            done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
        if done.returncode:
            print(f"{name}: failed, left out: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
            return None
        facts = json.loads(done.stdout.strip().splitlines()[-1])
        used = memory.peak_bytes - memory.start_bytes - facts["start_bytes"]
        return told(name, rows, np.load(flags), facts["seconds"], used)


def interpreter_of(package: str, environments: Path | None) -> str | None:
    """The interpreter that has a peer: of an environment named after it, or our own."""
    own = environments / package / "bin" / "python" if environments else None
    if own is not None and own.exists():
        return str(own)
    return sys.executable if importlib.util.find_spec(package.replace("-", "_")) else None


def against_peers(num_rows: int, names: Sequence[str], environments: Path | None) -> None:
    """The table of ours and the peers that are installed."""
    start = time.perf_counter()
    for spec in (SPEC, DEFAULTS):
        ours(texts_of(*word_rows(0, 1_000)[:2]), spec)
    print(f"first call, compiled code loaded or compiled: {time.perf_counter() - start:.1f} s", file=sys.stderr)
    rows, few = word_rows(1, num_rows), word_rows(1, min(SLOW_ROWS, num_rows))
    measured("polars, exact only", exact, rows)
    rates = {len(rows[1]): measured("ours, 14 x 8, 4 probes", ours, rows)}
    measured("ours, 14 x 8 bare", partial(ours, spec=BARE), rows)
    measured("ours, default 24 x 6", partial(ours, spec=DEFAULTS), rows)
    mild = word_rows(1, num_rows, MILD)
    print(f"copies that differ in {MILD} words at most:")
    measured("ours, 14 x 8, 4 probes", ours, mild)
    measured("ours, 14 x 8 bare", partial(ours, spec=BARE), mild)
    print(f"peers, on the rows whose copies differ in {HARD} words at most:")
    for name in names:
        found = interpreter_of(PACKAGES[name], environments)
        if found is None:
            print(f"{name}: not installed, left out", file=sys.stderr)
            continue
        own = rows if name in FAST else few
        theirs = measured_peer(name, found, own)
        if theirs is not None:
            if len(own[1]) not in rates:
                rates[len(own[1])] = measured("ours, 14 x 8, 4 probes", ours, own)
            show("near-duplicate texts", rates[len(own[1])], theirs, "rows/s", versus=name)


# --- Scale --------------------------------------------------------------------------------------------------------------


def write_samples(store: Store, num_rows: int) -> Artefact:
    """Generated text samples as if ingested: question and answer are the halves of a text. A fifth of the planted copies are of
    texts of the first file, so that families reach over files."""
    folder = store.source("bench", f"{num_rows:016d}")
    for part, start in enumerate(range(0, num_rows, ROWS_PER_FILE)):
        size = min(ROWS_PER_FILE, num_rows - start)
        words, edges, _ = word_rows(part, size)
        if part:
            first_words, first_edges, _ = word_rows(0, ROWS_PER_FILE)
            rng = np.random.default_rng(part)
            for row in rng.integers(0, size, size // 20).tolist():
                other = int(rng.integers(0, ROWS_PER_FILE))
                shared = min(edges[row + 1] - edges[row], first_edges[other + 1] - first_edges[other])
                words[edges[row] : edges[row] + shared] = first_words[first_edges[other] : first_edges[other] + shared]
        middles = edges[:-1] + (edges[1:] - edges[:-1]) // 2
        halves = texts_of(words, np.append(np.stack([edges[:-1], middles], axis=1).reshape(-1), edges[-1])).to_pylist()
        said = Said(pa.array(halves, pa.string()), np.full(size, 2))
        origins = Origins(["generated"] * size, range(start, start + size), [None] * size)
        write_table(folder / f"samples-{part:05d}.parquet", sample_table("bench", said, None, origins))
    publish(folder, {"counts": {"samples": num_rows}})
    return Artefact(folder, read_manifest(folder))


def work_cpu_seconds(memory: PeakMemory) -> float:
    """Processor time of this process but for watching its memory, and of its Ray workers. Neighbours on the machine do not
    change it, nor do daemons, which take time for as long as there is something to wait for."""
    stats: dict[int, tuple[int, float]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                is_worker = (folder / "cmdline").read_bytes().startswith(b"ray::")
            except OSError:
                continue
            ticks = int(fields[11]) + int(fields[12]) if is_worker else 0
            stats[int(folder.name)] = int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")
    total = time.process_time() - memory.own_cpu_seconds
    for pid, (_, seconds) in stats.items():
        ancestor = pid
        while seconds and ancestor not in (os.getpid(), 0, 1) and ancestor in stats:
            ancestor = stats[ancestor][0]
        total += seconds if ancestor == os.getpid() else 0
    return total


def at_scale(num_rows: int, folder: Path) -> dict[str, Any]:
    """Clean, sign and de-duplicate `num_rows` generated samples; returns seconds of each and the peak of memory."""
    store = Store.open(str(folder))
    ingested = write_samples(store, num_rows)
    pool = open_pool(store.root)
    facts: dict[str, Any] = {"name": "dedup at scale", "rows": num_rows}
    with PeakMemory() as memory:
        begun = work_cpu_seconds(memory)
        start = time.perf_counter()
        cleaned = {"bench": Clean("bench").run(ingested, store, pool)}
        facts["clean_s"] = round(time.perf_counter() - start, 1)
        cleaned_at = work_cpu_seconds(memory)
        start = time.perf_counter()
        signed = {"bench": Sign("bench", (), DEFAULTS.signing()).run(ingested, store, pool)}
        facts["sign_s"] = round(time.perf_counter() - start, 1)
        start = time.perf_counter()
        pooled = Deduplicate(DEFAULTS).run(cleaned, store, signed, pool)
        facts["deduplicate_s"] = round(time.perf_counter() - start, 1)
        facts["cpu_s"] = round(work_cpu_seconds(memory) - begun, 1)
        facts["cpu_microseconds_per_sample"] = round((work_cpu_seconds(memory) - cleaned_at) / num_rows * 1e6, 2)
    facts["peak_mb"] = round(memory.peak_bytes / 1e6)
    facts["wall_microseconds_per_sample"] = round((facts["sign_s"] + facts["deduplicate_s"]) / num_rows * 1e6, 2)
    facts["dropped"] = pooled.manifest["counts"]["bench"]["dropped"]
    facts["capped"] = pooled.manifest["capped"]
    return facts


def at_edges(num_edges: int) -> dict[str, Any]:
    """Choose keepers over random matches, ten of every item, given in ranges as the comparison leaves them on disk."""
    per_item = 10
    num_items, items_at_once = num_edges // per_item, PAIRS_PER_COMPARISON // per_item
    rng = np.random.default_rng(0)
    declared = num_items * keepers.BYTES_PER_ITEM + PAIRS_PER_COMPARISON * keepers.BYTES_PER_MATCH
    seconds = 0.0
    keepers.Sweep(np.zeros(1, np.uint32)).advance(np.zeros(0, np.uint32), np.zeros(0, np.uint32), 1)
    with PeakMemory() as memory:
        sweep = keepers.Sweep(np.full(num_items, keepers.NO_GROUP, np.uint32))
        for begin in range(0, num_items, items_at_once):
            until = min(begin + items_at_once, num_items)
            items = np.arange(max(begin, 1), until, dtype=np.uint32)
            better = np.sort((rng.random((len(items), per_item)) * items[:, None]).astype(np.uint32), axis=1)
            worse = np.repeat(items, per_item)
            start = time.perf_counter()
            sweep.advance(worse, better.reshape(-1), until)
            seconds += time.perf_counter() - start
    used = memory.peak_bytes - memory.start_bytes
    facts = {"name": "keepers over matches", "edges": num_edges, "items": num_items, "seconds": round(seconds, 2)}
    told = {"declared_mb": round(declared / 1e6), "peak_mb_with_generation": round(used / 1e6)}
    return facts | told | {"bytes_per_edge": round(used / num_edges, 2), "dropped": int((sweep.state == keepers.NEAR).sum())}


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument(
        "--scale", type=int, nargs="+", metavar="ROWS", help="run the steps over so many samples on disk instead"
    )
    parser.add_argument("--peers", nargs="*", default=list(PACKAGES), choices=list(PACKAGES), help="these only")
    parser.add_argument("--environments", type=Path, help="folder of virtual environments named after their peers")
    parser.add_argument("--edges", type=int, metavar="MATCHES", help="choose keepers over so many matches instead")
    parser.add_argument("--folder", help="where the samples of --scale go (default: a temporary folder)")
    chosen = parser.parse_args()
    prepare_environment()
    if chosen.edges:
        print(json.dumps(at_edges(chosen.edges)))
        return
    if not chosen.scale:
        against_peers(chosen.rows, chosen.peers, chosen.environments)
        return
    start = time.perf_counter()
    for number, num_rows in enumerate((2 * ROWS_PER_FILE, *chosen.scale)):
        with tempfile.TemporaryDirectory(prefix="dedup-", dir=chosen.folder) as folder:
            facts = at_scale(num_rows, Path(folder))
        if number == 0:
            print(f"start of Ray and its workers, and a first run: {time.perf_counter() - start:.1f} s", file=sys.stderr)
        else:
            print(json.dumps(facts), flush=True)


if __name__ == "__main__":
    main()
