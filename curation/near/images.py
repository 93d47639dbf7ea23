"""Look-alikes among all pictures of a pool, with bounded memory, over a pool of workers.

    thumbnails --looks--> one file a block: hashes of every picture, its windows and halves
               --tables-> one folder a range of pictures: where hashes are looked up (`hamming_join`)
               --compare-> one block of pictures against one range's tables: proposals, each verified at once

Blocks follow the order of the pixel hashes, which depends on nothing but the pictures, so files and their order change nothing.
Pictures meet only those whose hashes are near, so time grows little faster than their number (benchmarks/near_images.py).
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from curation.dedup.buckets import join_pairs
from curation.dedup.look_alike_rule import LookAlikeRule
from curation.dedup.look_alikes import LookAlikes
from curation.dedup.near_image import Block, Looks, Tables, Thumbnails, alike_in, distinct
from curation.runtime.pool import Pool
from curation.storage.store import replacing
from curation.thumbnail import THUMBNAIL_BYTES

PICTURES_PER_BLOCK = 4_096
PICTURES_PER_TABLE = 262_144

BYTES_PER_BLOCK_PICTURE = 90_000
"""Of a block that is compared: its thumbnails (twice where mirror images count) and all that `max_alike` lets be proposed."""

BYTES_PER_TABLE_PICTURE = 1_800
"""While a table of hashes is made: 24 windows, of which each takes BYTES_PER_ENTRY, and what is read for it."""

BYTES_PER_PICTURE = 400
"""Pixel hashes of all pictures, while numbers are given."""

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class LooksTask:
    """Pictures in `span`, whose looks go to `target`."""

    work: str
    span: Span
    target: str


@dataclass(frozen=True, slots=True)
class TableTask:
    """Pictures in `span`, whose hashes can be looked up in the folder `target` among all `num_pictures`."""

    work: str
    span: Span
    num_pictures: int
    rule: LookAlikeRule
    target: str


@dataclass(frozen=True, slots=True)
class BlockTask:
    """Pictures in `asked`, compared with those in `held`, which are looked up in the folder `tables`; pairs go to `target`."""

    work: str
    asked: Span
    held: Span
    tables: str
    rule: LookAlikeRule
    target: str


@dataclass(frozen=True, slots=True)
class NearImages:
    """The files of thumbnails and samples of a pool's sources, in the order of its samples; `work` is for what lies between."""

    thumbnails: Sequence[Path]
    samples: Sequence[Path]
    work: Path
    rule: LookAlikeRule

    def declared_bytes(self, num_workers: int) -> int:
        """The memory that finding look-alikes may take: all pixel hashes, and a block or a table a worker."""
        num_pictures: int = sum(pq.read_metadata(path).num_rows for path in self.thumbnails)
        block = min(num_pictures, PICTURES_PER_BLOCK) * BYTES_PER_BLOCK_PICTURE
        table = min(num_pictures, PICTURES_PER_TABLE) * BYTES_PER_TABLE_PICTURE
        return num_pictures * BYTES_PER_PICTURE + num_workers * max(block, table)

    def find(self, pool: Pool) -> tuple[LookAlikes, Mapping[str, int]]:
        """What looks alike, and what of it the manifest tells: pictures, pairs, and proposals that were not compared."""
        pixels = self._gathered()
        blocks, ranges = _spans(len(pixels), PICTURES_PER_BLOCK), _spans(len(pixels), PICTURES_PER_TABLE)
        work = str(self.work)
        looks = [LooksTask(work, span, str(_looks_path(work, span))) for span in blocks]
        pool.map(find_looks, looks, label="hash pictures")
        tables = [
            TableTask(work, span, len(pixels), self.rule, str(self.work / f"tables-{n:05d}")) for n, span in enumerate(ranges)
        ]
        pool.map(make_tables, tables, label="order hashes of pictures")
        meetings = [(asked, table) for table in tables for asked in blocks]
        tasks = [
            BlockTask(work, asked, table.span, table.target, self.rule, str(self.work / f"alike-{n:08d}.npy"))
            for n, (asked, table) in enumerate(meetings)
        ]
        unseen = sum(pool.map(compare_blocks, tasks, label="compare pictures"))
        parts = [np.load(task.target)[:-1].astype(np.int64) for task in tasks]
        rows = np.concatenate([np.zeros((0, 3), np.int64), *parts])
        found = distinct((rows[:, 0], rows[:, 1], rows[:, 2], unseen))
        for table in tables:
            shutil.rmtree(table.target, ignore_errors=True)
        pairs = join_pairs(found.right.astype(np.uint32), found.left.astype(np.uint32))
        order = np.argsort(pairs)
        edges_of, numbers = self._shown(pixels, np.unique(rows[:, :2]).astype(np.uint32))
        alike = LookAlikes(edges_of, numbers, pairs[order], found.bits[order].astype(np.uint8))
        return alike, {"pictures": len(pixels), "pairs": len(pairs), "not_compared": unseen}

    def _gathered(self) -> pl.Series:
        """The distinct pixel hashes in order; their thumbnails and aspects are written to `work` in the same order."""
        empty = pl.Series("pixels", [], pl.String)
        pixels = pl.concat([empty, *(pl.read_parquet(path, columns=["pixels"])["pixels"] for path in self.thumbnails)])
        pixels = pixels.unique().sort()
        aspects = np.zeros(len(pixels), np.float32)
        if len(pixels):
            shape = (len(pixels), THUMBNAIL_BYTES)
            packed = np.lib.format.open_memmap(self.work / "thumbnails.npy", "w+", np.uint8, shape)
            for path in self.thumbnails:
                rows = pl.read_parquet(path)
                places = pixels.search_sorted(rows["pixels"]).to_numpy()
                packed[places] = np.frombuffer(b"".join(rows["thumbnail"].to_list()), np.uint8).reshape(-1, THUMBNAIL_BYTES)
                aspects[places] = rows["aspect"].to_numpy()
            packed.flush()
        with replacing(self.work / "aspects.npy") as temporary, temporary.open("wb") as handle:
            np.save(handle, aspects)
        return pixels

    def _shown(self, pixels: pl.Series, alike: npt.NDArray[np.uint32]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint32]]:
        """Edges and numbers of `LookAlikes`, given the numbers of pictures that have look-alikes."""
        known = pl.DataFrame({"pixels": pixels[alike.astype(np.int64)], "number": alike})
        found = [pl.DataFrame(schema={"sample": pl.Int64, "pixels": pl.String, "number": pl.UInt32})]
        num_samples = 0
        for path in self.samples:
            images = pl.read_parquet(path, columns=["images"]).select(
                sample=pl.int_range(pl.len()) + num_samples,
                pixels=pl.col("images").list.eval(pl.element().struct.field("pixels")),
            )
            num_samples += len(images)
            shown = images.explode("pixels").drop_nulls().join(known, on="pixels", how="left", maintain_order="left")
            found.append(shown.filter(pl.col("number").is_not_null().any().over("sample")))
        listed = pl.concat(found)
        # Pictures without look-alikes get numbers of their own behind all others, so that the same pixels stay the same.
        others = listed.filter(pl.col("number").is_null())["pixels"].unique().sort()
        own = pl.Series(others.search_sorted(listed["pixels"])).cast(pl.UInt32) + len(pixels)
        numbers = listed["number"].fill_null(own).to_numpy().astype(np.uint32)
        sizes = np.bincount(listed["sample"].to_numpy(), minlength=num_samples)
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)]), numbers


def _spans(number: int, size: int) -> list[Span]:
    return list(pairwise([*range(0, number, size), number]))


def _looks_path(work: str, span: Span) -> Path:
    return Path(work) / f"looks-{span[0]:010d}.npz"


def find_looks(task: LooksTask) -> None:
    """Write what a block's pictures are found by."""
    target = Path(task.target)
    if not target.exists():
        looks = _thumbnails(task.work, task.span).looks
        with replacing(target) as temporary, temporary.open("wb") as handle:
            np.savez(handle, hashes=looks.hashes, halves=looks.halves, has_half=looks.has_half, traits=looks.traits)


def make_tables(task: TableTask) -> None:
    """Write where a range's hashes are looked up, and what its pictures are found by."""
    target = Path(task.target)
    if (target / "traits.npy").exists():  # written last
        return
    held = _joined([_read_looks(_looks_path(task.work, span)) for span in _blocks_of(task.span)])
    Tables.of(held, task.rule, num_asked=task.num_pictures).save(target)
    np.save(target / "hashes.npy", held.hashes)
    with replacing(target / "traits.npy") as temporary, temporary.open("wb") as handle:
        np.save(handle, held.traits)


def compare_blocks(task: BlockTask) -> int:
    """Write the pairs of a block's pictures and a range's that look alike (columns: numbers of both, differing bits), and in a
    last row how many proposals were not compared, which is returned."""
    target = Path(task.target)
    if target.exists():
        return int(np.load(target)[-1, 0])
    folder = Path(task.tables)
    hashes, traits = (np.asarray(np.load(folder / f"{name}.npy", mmap_mode="c")) for name in ("hashes", "traits"))
    nothing = np.zeros((len(hashes), 0))
    held = Looks(hashes, nothing.astype(np.uint64), nothing.astype(np.bool_), traits)
    asked, looks = _thumbnails(task.work, task.asked), _read_looks(_looks_path(task.work, task.asked))
    block = Block(task.asked[0], task.held[0], is_within=True)
    left, right, bits, unseen = alike_in(
        asked, looks, _thumbnails(task.work, task.held), held, Tables.load(folder), task.rule, block
    )
    rows = np.stack([left + task.asked[0], right + task.held[0], bits], axis=1)
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.save(handle, np.concatenate([rows, [[unseen, 0, 0]]]).astype(np.uint32))
    return unseen


def _blocks_of(span: Span) -> list[Span]:
    """The blocks of a range."""
    return [(span[0] + first, span[0] + last) for first, last in _spans(span[1] - span[0], PICTURES_PER_BLOCK)]


def _read_looks(path: Path) -> Looks:
    with np.load(path) as parts:
        return Looks(parts["hashes"], parts["halves"], parts["has_half"], parts["traits"])


def _joined(parts: Sequence[Looks]) -> Looks:
    return Looks(*(np.concatenate([getattr(part, name) for part in parts]) for name in Looks.__slots__))


def _thumbnails(work: str, span: Span) -> Thumbnails:
    """Mapped, not read: of the thumbnails that are held only the proposed are looked at."""
    packed = np.asarray(np.load(f"{work}/thumbnails.npy", mmap_mode="c"))[slice(*span)]
    return Thumbnails(packed, np.array(np.load(f"{work}/aspects.npy", mmap_mode="r")[slice(*span)]))
