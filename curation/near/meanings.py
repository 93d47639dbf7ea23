"""Texts that mean the same, over many files of vectors with bounded memory: items are put into cells and compared cell by cell.

A cell is a group (texts on the same pictures, stating the same numbers); one too large for comparing all with all is cut by
k-means, and each of its items put into the cells of its nearest centres. Centres are made from items chosen by their labels,
which depend on the samples alone, so files and their order change nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from curation.dedup.buckets import Capped, Labels, Pairs
from curation.dedup.keepers import NOBODY
from curation.dedup.meaning import Halves, centroids, flattened, near_within, nearest, side_by_side
from curation.dedup.similarity import Similarities
from curation.mixture.dedup import SemanticSpec
from curation.near.texts import ItemFacts
from curation.runtime.pool import Pool
from curation.storage.store import replacing
from curation.tables import Int64s, mix_bits

ITEMS_PER_CELL = 16_384
"""Items that are compared all with all; above, a group is cut, and cells aim at an eighth of it."""

CENTRES_PER_ITEM = 2
ITEMS_PER_TASK = 65_536
SAMPLED_ITEMS = 40_000
_MAX_CENTRES = 4_096


@dataclass(frozen=True, slots=True)
class VectorFile:
    """A file of vectors [items, sides, width] whose items are number `start` and following of all."""

    path: str
    start: int
    num_items: int


@dataclass(frozen=True, slots=True)
class SemanticMatches:
    """All verified pairs of labels, sorted, and their similarities as `cosines` gives them."""

    pairs: Pairs
    similarities: Similarities


@dataclass(frozen=True, slots=True)
class AssignTask:
    """Items of one file (`items`, numbers among all) whose nearest centres go to `target`."""

    file: VectorFile
    items: str
    centres: str
    target: str


@dataclass(frozen=True, slots=True)
class CellTask:
    """Cells from `start` to before `stop` of those in `work`; the pairs that match go to `target`."""

    files: Sequence[VectorFile]
    work: str
    start: int
    stop: int
    spec: SemanticSpec
    cap: int
    target: str


@dataclass(frozen=True, slots=True)
class SemanticJoin:
    """A join of `files` under `spec`; no item has more than `cap` partners in a cell; `work` is for what lies between."""

    files: Sequence[VectorFile]
    spec: SemanticSpec
    cap: int
    work: Path

    def declared_bytes(self, num_workers: int) -> int:
        """The memory that tasks may take together beside the facts of all items and the matches."""
        if not self.files:
            return 0
        shapes = [np.load(file.path, mmap_mode="r").shape[1:] for file in self.files]
        sides, width = (max(int(shape[axis]) for shape in shapes) for axis in (0, 1))
        num_items = sum(file.num_items for file in self.files)
        held = min(num_items, ITEMS_PER_TASK + ITEMS_PER_CELL) * sides * width * 10
        return num_workers * held + min(num_items, SAMPLED_ITEMS) * sides * width * 8

    def find(self, facts: ItemFacts, pool: Pool) -> tuple[SemanticMatches, Capped]:
        """The matches among all items that take part, and what was not compared."""
        items = np.flatnonzero(facts.labels != NOBODY)
        rows = np.zeros(len(items), np.int64)
        rows[facts.labels[items]] = items
        _save(self.work / "semantic-rows.npy", rows)
        cells, capped = self._cells(rows, facts.groups[rows], pool)
        edges = np.cumsum([0, *(len(cell) for cell in cells)])
        _save(self.work / "semantic-cells.npy", np.concatenate([np.zeros(0, np.uint32), *cells]))
        _save(self.work / "semantic-edges.npy", edges)
        cuts = [*np.unique(np.searchsorted(edges[:-1], np.arange(0, edges[-1], ITEMS_PER_TASK))).tolist(), len(cells)]
        tasks = [
            CellTask(
                self.files, str(self.work), start, stop, self.spec, self.cap, str(self.work / f"semantic-{number:06d}.npz")
            )
            for number, (start, stop) in enumerate(pairwise(cuts))
            if stop > start
        ]
        capped += sum(pool.map(compare_cells, tasks, label="compare meanings"), Capped())
        pairs, measured = [np.zeros(0, np.uint64)], [np.zeros((0, 4), np.float32)]
        for task in tasks:
            with np.load(task.target) as found:
                pairs.append(found["pairs"])
                measured.append(found["similarities"])
        distinct, firsts = np.unique(np.concatenate(pairs), return_index=True)
        return SemanticMatches(distinct, np.concatenate(measured)[firsts]), capped

    def _cells(self, rows: Int64s, groups: npt.NDArray[np.uint64], pool: Pool) -> tuple[list[Labels], Capped]:
        """Labels of each cell, ascending; `rows` and `groups` are by label."""
        order = np.argsort(groups, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(groups[order]) != 0]) if len(order) else np.zeros(0, np.int64)
        cells: list[Labels] = []
        capped = Capped()
        sizes = np.diff(starts, append=len(order))
        for start, size in zip(starts[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
            members = order[start : start + size].astype(np.uint32)
            if len(members) > ITEMS_PER_CELL:
                for cell in self._cut(members, rows, pool):
                    pieces = [cell[first : first + ITEMS_PER_CELL] for first in range(0, len(cell), ITEMS_PER_CELL)]
                    within = sum(len(piece) * (len(piece) - 1) // 2 for piece in pieces)
                    if len(pieces) > 1:
                        capped += Capped(1, len(cell), len(cell) * (len(cell) - 1) // 2 - within)
                    cells += pieces
            else:
                cells.append(members)
        return cells, capped

    def _cut(self, members: Labels, rows: Int64s, pool: Pool) -> list[Labels]:
        """The cells of a group that is too large for one."""
        number = min(_MAX_CENTRES, -(-len(members) * 8 // ITEMS_PER_CELL))
        chosen = np.sort(members[np.argsort(mix_bits(members.astype(np.uint64)), kind="stable")[:SAMPLED_ITEMS]])
        by_row = np.argsort(rows[chosen], kind="stable")
        read = flattened(gathered(self.files, rows[chosen][by_row]))
        sample = np.empty_like(read)
        sample[by_row] = read
        name = f"semantic-{int(members[0]):010d}"
        _save(self.work / f"{name}-centres.npy", centroids(sample, number))
        items = np.sort(rows[members])
        _save(self.work / f"{name}-items.npy", items)
        paths = [str(self.work / f"{name}-{part}.npy") for part in ("items", "centres")]
        tasks = [
            AssignTask(file, paths[0], paths[1], str(self.work / f"{name}-nearest-{place:06d}.npy"))
            for place, file in enumerate(self.files)
        ]
        pool.map(assign_items, tasks, label="cut texts by meaning")
        near = np.concatenate([np.load(task.target) for task in tasks])
        labels = members[np.argsort(rows[members], kind="stable")]
        flat, own = near.reshape(-1), np.repeat(labels, near.shape[1])
        order = np.lexsort((own, flat))
        edges = np.searchsorted(flat[order], np.arange(number + 1))
        return [own[order[first:last]] for first, last in pairwise(edges.tolist()) if last - first > 1]


def assign_items(task: AssignTask) -> None:
    """Write the nearest centres of one file's items that are in a group."""
    target = Path(task.target)
    if target.exists():
        return
    items, centres = np.load(task.items, mmap_mode="r"), np.load(task.centres)
    first, last = np.searchsorted(items, [task.file.start, task.file.start + task.file.num_items])
    own = np.load(task.file.path, mmap_mode="r")[np.array(items[first:last]) - task.file.start]
    own = side_by_side([own], width=centres.shape[1] // own.shape[1])
    _save(target, nearest(flattened(own), centres, min(CENTRES_PER_ITEM, len(centres))))


def compare_cells(task: CellTask) -> Capped:
    """Write the matches of some cells; returns what was not compared."""
    target = Path(task.target)
    edges = np.load(f"{task.work}/semantic-edges.npy", mmap_mode="r")[task.start : task.stop + 1]
    labels = np.array(np.load(f"{task.work}/semantic-cells.npy", mmap_mode="r")[edges[0] : edges[-1]])
    rows = np.load(f"{task.work}/semantic-rows.npy", mmap_mode="r")[labels]
    distinct, places = np.unique(rows, return_inverse=True)
    vectors = gathered(task.files, distinct)
    pairs, measured, capped = [np.zeros(0, np.uint64)], [np.zeros((0, 4), np.float32)], Capped()
    for start, stop in pairwise((edges - edges[0]).tolist()):
        own, found, left_out = near_within(vectors[places[start:stop]], labels[start:stop], task.spec.threshold, task.cap)
        pairs.append(own)
        measured.append(found)
        capped += left_out
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.savez(handle, pairs=np.concatenate(pairs), similarities=np.concatenate(measured))
    return capped


def gathered(files: Sequence[VectorFile], rows: Int64s) -> Halves:
    """The vectors of ascending item numbers, from whatever files they are in."""
    parts: list[Halves] = []
    width = 1
    for file in files:
        first, last = np.searchsorted(rows, [file.start, file.start + file.num_items])
        stored = np.load(file.path, mmap_mode="r")
        width = max(width, stored.shape[2])
        if last > first:
            parts.append(stored[rows[first:last] - file.start])
    return side_by_side(parts, width=width) if parts else np.zeros((0, 1, 1), np.float16)


def _save(path: Path, values: npt.NDArray[Any]) -> None:
    with replacing(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, values)
