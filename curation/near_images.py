"""Look-alikes among all pictures of a pool, with bounded memory: thumbnails are gathered once, and compared block by block.

Blocks follow the order of the pixel hashes, which depends on nothing but the pictures, so files and their order change nothing.
Every block meets every other: time grows with the square of the number of blocks, which is why mixtures ask for this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow.parquet as pq

from curation.dedup.buckets import join_pairs
from curation.dedup.look_alikes import LookAlikes
from curation.dedup.near_image import LookAlikeRule, Thumbnails, alike_between, alike_within
from curation.imaging import THUMBNAIL_BYTES
from curation.runtime.pool import Pool
from curation.store import replacing

PICTURES_PER_BLOCK = 4_096
BYTES_PER_BLOCK_PICTURE = 160_000
"""While two blocks are compared, measured on pages of formulas, most of which are proposed for one another; photographs take a
fraction of it."""

BYTES_PER_PICTURE = 400
"""Pixel hashes of all pictures, while numbers are given."""


@dataclass(frozen=True, slots=True)
class BlockTask:
    """Pictures from `first[0]` to before `first[1]`, compared with those of `second`; pairs go to `target`."""

    work: str
    first: tuple[int, int]
    second: tuple[int, int]
    target: str


@dataclass(frozen=True, slots=True)
class NearImages:
    """The files of thumbnails and samples of a pool's sources, in the order of its samples; `work` is for what lies between."""

    thumbnails: Sequence[Path]
    samples: Sequence[Path]
    work: Path

    def declared_bytes(self, num_workers: int) -> int:
        """The memory that finding look-alikes may take: all pixel hashes, and two blocks a worker."""
        num_pictures: int = sum(pq.read_metadata(path).num_rows for path in self.thumbnails)
        block = 2 * min(num_pictures, PICTURES_PER_BLOCK) * BYTES_PER_BLOCK_PICTURE
        return num_pictures * BYTES_PER_PICTURE + num_workers * block

    def find(self, pool: Pool) -> tuple[LookAlikes, Mapping[str, int]]:
        """What looks alike, and what of it the manifest tells: pictures, pairs, and proposals that were not compared."""
        pixels = self._gathered()
        edges = [*range(0, len(pixels), PICTURES_PER_BLOCK), len(pixels)]
        blocks = list(pairwise(edges))
        tasks = [
            BlockTask(str(self.work), first, second, str(self.work / f"alike-{number:08d}.npy"))
            for number, (first, second) in enumerate(combinations_with_replacement(blocks, 2))
        ]
        unseen = sum(pool.map(compare_blocks, tasks, label="compare pictures"))
        parts = [np.load(task.target)[:-1] for task in tasks]
        rows = np.concatenate([np.zeros((0, 3), np.uint32), *parts])
        pairs = join_pairs(rows[:, 0], rows[:, 1])
        order = np.argsort(pairs)
        edges_of, numbers = self._shown(pixels, np.unique(rows[:, :2]))
        looks = LookAlikes(edges_of, numbers, pairs[order], rows[order, 2].astype(np.uint8))
        return looks, {"pictures": len(pixels), "pairs": len(pairs), "not_compared": unseen}

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


def compare_blocks(task: BlockTask) -> int:
    """Write the pairs of one block of pictures and another that look alike (columns: larger number, smaller number, differing
    bits), and in a last row how many proposals were not compared, which is returned."""
    target = Path(task.target)
    if target.exists():
        return int(np.load(target)[-1, 0])
    first = _block(task.work, task.first)
    if task.first == task.second:
        found = alike_within(first, LookAlikeRule())
    else:
        found = alike_between(first, _block(task.work, task.second), LookAlikeRule())
    one, other = found.left + task.first[0], found.right + task.second[0]
    rows = np.stack([np.maximum(one, other), np.minimum(one, other), found.bits], axis=1)
    with replacing(target) as temporary, temporary.open("wb") as handle:
        np.save(handle, np.concatenate([rows, [[found.unseen, 0, 0]]]).astype(np.uint32))
    return found.unseen


def _block(work: str, span: tuple[int, int]) -> Thumbnails:
    packed = np.load(f"{work}/thumbnails.npy", mmap_mode="r")[slice(*span)]
    return Thumbnails.of(np.array(packed), np.load(f"{work}/aspects.npy", mmap_mode="r")[slice(*span)])
