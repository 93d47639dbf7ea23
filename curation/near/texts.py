"""Near duplicates over many files of signatures, with bounded memory: every pass reads and writes partitions on disk.

    signatures --keys--> one file a partition of items, a column a band
               --join--> one band (and range of keys) at a time: candidate pairs
               --compare--> one range of items at a time: pairs of all bands, each verified once by its true similarity

Passes are maps over a pool; their order and number change nothing in the result. Matches come back range by range in the
order of preference, as `Sweep` takes them, so no graph is ever held as a whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from curation.dedup.buckets import Capped, Labels, Pairs, candidate_pairs, split_pairs
from curation.dedup.keepers import NOBODY
from curation.dedup.minhash import NO_KEY, Boilerplate
from curation.dedup.near_text import item_keys
from curation.dedup.shingles import Hashes, ShingleSets, concatenated
from curation.dedup.similarity import Similarities, are_near, similarities
from curation.mixture.dedup import DedupSpec
from curation.near.shingle_files import read_shingles
from curation.runtime.pool import Pool
from curation.storage.store import replacing

ITEMS_PER_JOIN = 12_000_000
"""Items of one band that are joined at once; larger pools are joined by ranges of keys."""

PAIRS_PER_COMPARISON = 250_000
"""Candidate pairs of all bands, repeats counted, that are compared at once."""

BYTES_PER_JOINED_ITEM = 60
BYTES_PER_COMPARED_PAIR = 64
BYTES_PER_SHINGLE = 24
"""While n-grams of compared items are gathered; they are 4 bytes each at rest."""


@dataclass(frozen=True, slots=True)
class ItemFile:
    """A file of n-grams whose items are number `start` and following of all; `num_shingles` over its `num_items`."""

    path: str
    start: int
    num_items: int
    num_shingles: int


@dataclass(frozen=True, slots=True)
class ItemFacts:
    """What is known of all items besides their n-grams, by item number.

    `labels` are their places in the order of preference (NOBODY for items that take no part), `groups` part items that are no
    duplicates whatever they say, `answers` are keys of their answers.
    """

    labels: Labels
    groups: Hashes
    answers: Hashes


@dataclass(frozen=True, slots=True)
class Matches:
    """All verified matches whose worse label is before `until` and not in earlier ones, sorted by (worse, better)."""

    worse: Labels
    better: Labels
    similarities: Similarities
    until: int

    def taken(self, chosen: npt.NDArray[np.bool_]) -> "Matches":
        """The chosen ones."""
        return Matches(self.worse[chosen], self.better[chosen], self.similarities[chosen], self.until)


@dataclass(frozen=True, slots=True)
class NearJoin:
    """A join of `files` under `spec`; `work` is a folder for what lies between the passes."""

    files: Sequence[ItemFile]
    boilerplate: Boilerplate
    spec: DedupSpec
    work: Path

    def declared_bytes(self, num_workers: int) -> int:
        """The memory that the passes' tasks may take together beside the facts of all items."""
        num_items = sum(file.num_items for file in self.files)
        largest = max((file.num_shingles for file in self.files), default=0) * 8 + 200 * max(
            (file.num_items for file in self.files), default=0
        )
        per_item = -(-sum(file.num_shingles for file in self.files) // max(1, num_items))
        join = min(num_items, ITEMS_PER_JOIN) * BYTES_PER_JOINED_ITEM
        compare = min(PAIRS_PER_COMPARISON, num_items) * (BYTES_PER_COMPARED_PAIR + 2 * per_item * BYTES_PER_SHINGLE)
        return num_workers * max(largest, join, compare)

    def propose(self, facts: ItemFacts, pool: Pool) -> Capped:
        """Write candidate pairs to `work`; returns what the cap on buckets left out."""
        for name in ("labels", "groups", "answers"):
            _save(self.work / f"{name}.npy", getattr(facts, name))
        _save(self.work / "boilerplate.npy", self.boilerplate.values)
        num_labels = int((facts.labels != NOBODY).sum())
        rows = np.zeros(num_labels, np.uint32)
        taking_part = np.flatnonzero(facts.labels != NOBODY)
        rows[facts.labels[taking_part]] = taking_part
        _save(self.work / "rows.npy", rows)
        pool.map(write_keys, [KeyTask(file, self._keys(n), str(self.work), self.spec) for n, file in enumerate(self.files)],
                 label="hash texts")  # fmt: skip
        parts = -(-num_labels // ITEMS_PER_JOIN) or 1
        keys = [self._keys(number) for number in range(len(self.files))]
        bands = range(self.spec.num_keys)
        joins = [
            JoinTask(keys, band, part, parts, self._pairs(band, part), self.spec) for band in bands for part in range(parts)
        ]
        return sum(pool.map(join_band, joins, label="join bands"), Capped())

    def matches(self, num_labels: int, pool: Pool) -> Iterator[Matches]:
        """The verified matches among the candidate pairs, range by range."""
        pairs = [np.load(path, mmap_mode="r") for path in sorted(self.work.glob("pairs-*.npy"))]
        edges = _range_edges(pairs, num_labels)
        paths = [str(path) for path in sorted(self.work.glob("pairs-*.npy"))]
        tasks = [
            CompareTask(
                paths, list(self.files), start, stop, str(self.work / f"matches-{number:06d}.npz"), str(self.work), self.spec
            )
            for number, (start, stop) in enumerate(pairwise(edges))
        ]
        pool.map(compare_range, tasks, label="compare texts")
        for task in tasks:
            with np.load(task.target) as found:
                worse, better = split_pairs(found["pairs"])
                yield Matches(worse, better, found["similarities"], task.stop)

    def _keys(self, number: int) -> str:
        return str(self.work / f"keys-{number:06d}.parquet")

    def _pairs(self, band: int, part: int) -> str:
        return str(self.work / f"pairs-{band:03d}-{part:04d}.npy")


@dataclass(frozen=True, slots=True)
class KeyTask:
    """The items of one file, whose keys go to `target`."""

    file: ItemFile
    target: str
    work: str
    spec: DedupSpec


@dataclass(frozen=True, slots=True)
class JoinTask:
    """Part `part` of `parts` of one band's keys, whose candidate pairs go to `target`."""

    keys: Sequence[str]
    band: int
    part: int
    parts: int
    target: str
    spec: DedupSpec


@dataclass(frozen=True, slots=True)
class CompareTask:
    """Candidate pairs whose worse label is from `start` to before `stop`; those that match go to `target`."""

    pairs: Sequence[str]
    files: Sequence[ItemFile]
    start: int
    stop: int
    target: str
    work: str
    spec: DedupSpec


def write_keys(task: KeyTask) -> None:
    """Write the labels and band keys of one file's items that take part."""
    target, file = Path(task.target), task.file
    if target.exists():
        return
    span = slice(file.start, file.start + file.num_items)
    labels = np.load(f"{task.work}/labels.npy", mmap_mode="r")[span]
    items = np.flatnonzero(labels != NOBODY)
    sets = read_shingles(Path(file.path)).taken(items)
    groups = np.load(f"{task.work}/groups.npy", mmap_mode="r")[span][items]
    keys = item_keys(sets, groups, _boilerplate(task.work), task.spec)
    columns = {"label": labels[items]} | {f"band_{band}": keys[:, band] for band in range(keys.shape[1])}
    table = pa.table({name: pa.array(np.ascontiguousarray(column)) for name, column in columns.items()})
    with replacing(target) as temporary:
        pq.write_table(table, temporary, compression="none", use_dictionary=False, write_statistics=False)


def join_band(task: JoinTask) -> Capped:
    """Write the candidate pairs of one band, sorted; returns what the cap on buckets left out."""
    keys, labels = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint32)]
    for path in task.keys:
        table = pq.read_table(path, columns=["label", f"band_{task.band}"], memory_map=True)
        own = table.column(1).to_numpy()
        chosen = own != NO_KEY
        if task.parts > 1:
            chosen &= own % np.uint64(task.parts) == np.uint64(task.part)
        keys.append(own[chosen])
        labels.append(table.column(0).to_numpy()[chosen])
    pairs, capped = candidate_pairs(np.concatenate(keys), np.concatenate(labels), task.spec.bucket_cap)
    _save(Path(task.target), pairs)
    return capped


def compare_range(task: CompareTask) -> None:
    """Verify the candidate pairs of one range of labels."""
    target = Path(task.target)
    if target.exists():
        return
    pairs = np.unique(np.concatenate([_slice(path, task.start, task.stop) for path in task.pairs]))
    worse, better = split_pairs(pairs)
    labels, places = np.unique(np.concatenate([worse, better]), return_inverse=True)
    rows = np.load(f"{task.work}/rows.npy", mmap_mode="r")[labels]
    # Files are read in their order, each item once; `order` leads from there back to the labels.
    order = np.argsort(rows, kind="stable")
    positions = np.empty(len(rows), np.uint32)
    positions[order] = np.arange(len(rows), dtype=np.uint32)
    sets = _gathered(task.files, rows[order])
    first, second = positions[places[: len(pairs)]], positions[places[len(pairs) :]]
    found = similarities(sets, first, second, _boilerplate(task.work))
    answers = np.load(f"{task.work}/answers.npy", mmap_mode="r")[rows[order]]
    near = are_near(found, task.spec, answers[first] == answers[second])
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez(handle, pairs=pairs[near], similarities=found[near])


def _gathered(files: Sequence[ItemFile], rows: npt.NDArray[np.integer[Any]]) -> ShingleSets:
    """The sets of ascending item numbers, from whatever files they are in."""
    pieces: list[ShingleSets] = []
    for file in files:
        first, last = np.searchsorted(rows, [file.start, file.start + file.num_items])
        if last > first:
            pieces.append(read_shingles(Path(file.path)).taken(rows[first:last].astype(np.int64) - file.start))
    return concatenated(pieces)


def _slice(path: str, start: int, stop: int) -> Pairs:
    pairs = np.load(path, mmap_mode="r")
    first, last = np.searchsorted(pairs, _first_pairs([start, stop]))
    return np.array(pairs[first:last])


def _first_pairs(labels: Sequence[int]) -> Pairs:
    """The smallest possible pair of each worse label."""
    return np.array(labels, np.uint64) << np.uint64(32)


def _range_edges(pairs: Sequence[Pairs], num_labels: int) -> list[int]:
    """Labels that cut the candidate pairs, by their worse label, into ranges of PAIRS_PER_COMPARISON at most.

    A label has few enough pairs for one range: those of one bucket in each band.
    """

    def before(label: int) -> int:
        return sum(int(np.searchsorted(part, _first_pairs([label])[0])) for part in pairs)

    edges = [0]
    while edges[-1] < num_labels:
        allowed = before(edges[-1]) + PAIRS_PER_COMPARISON
        low, high = edges[-1] + 1, num_labels
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if before(middle) <= allowed else (low, middle - 1)
        edges.append(low)
    return edges


def _boilerplate(work: str) -> Boilerplate:
    return Boilerplate(np.load(f"{work}/boilerplate.npy"))


def _save(path: Path, values: npt.NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, values)
