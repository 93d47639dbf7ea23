"""Writing shards against plain writes of the same bytes: pictures are moved as byte ranges, never decoded.

What users run is *2 processes*: `curate build` writes shards in parallel, one a core. Ours ends with the shard on disk, as
publishing needs it. A *plain write* opens a file, writes the very bytes of a finished shard as read from a file, and syncs it;
*hashed* also computes the SHA-256 that a release's manifest holds for every shard. *Not synced* leaves the bytes in the page
cache, in ours and in the plain write: the disk has no part in it, and the hash is most of the work. What hashing alone allows
is told last.
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from benchmarks.printing import show
from curation.shard_format import padding_bytes, tar_header
from curation.sharding.rendering import RENDERED
from curation.sharding.tasks import WriteTask, write_one_shard

SAMPLES = 6_000
PICTURE_BYTES = 65_000
SAMPLES_A_SHARD = 1_500
ROUNDS = 5
_PROCESSES = 2
_BLOCK_BYTES = 1 << 20


def make_source(folder: Path) -> str:
    """A source with one tar of pictures, and its rendered rows."""
    rng = np.random.default_rng(0)
    block = rng.bytes(PICTURE_BYTES * 4)
    rows = []
    with (folder / "images-00000.tar").open("wb") as tar:
        for number in range(SAMPLES):
            start = int(rng.integers(PICTURE_BYTES * 3))
            tar.write(tar_header(f"{number:064d}.jpg", PICTURE_BYTES))
            picture = {"name": "jpg", "tar": 0, "offset": tar.tell(), "num_bytes": PICTURE_BYTES}
            tar.write(block[start : start + PICTURE_BYTES] + bytes(padding_bytes(PICTURE_BYTES)))
            row = {"position": number, "sample_id": f"bench-{number:024x}", "repeat": 0, "num_images": 1, "num_tokens": 60}
            rows.append({**row, "payload": b"x" * 500, "pictures": [picture]})
    order = rng.permutation(SAMPLES)  # shards draw their pictures from all over the tar
    for position, row in enumerate(rows[place] for place in order):
        row["position"] = position
    table = pa.Table.from_pylist(sorted(rows, key=lambda row: int(row["position"])), schema=RENDERED)
    path = folder / "rendered-000000.arrow"
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, RENDERED) as writer:
        writer.write_table(table, max_chunksize=8_192)
    return str(path)


def ours(task: WriteTask) -> int:
    """Write one shard to disk."""
    return write_one_shard(task).num_bytes


@dataclass(frozen=True, slots=True)
class PlainWrite:
    """The bytes of a finished shard, written again."""

    is_hashed: bool = False
    is_synced: bool = True

    def __call__(self, task: WriteTask) -> int:
        """Write one shard's bytes."""
        digest = hashlib.sha256()
        block = memoryview(bytearray(_BLOCK_BYTES))
        finished = Path(task.work).parent / "finished" / f"bench-{task.number:06d}.tar"
        with (
            finished.open("rb", buffering=0) as source,
            (Path(task.folder) / f"plain-{task.number}").open("wb", buffering=0) as target,
        ):
            while found := source.readinto(block):
                if self.is_hashed:
                    digest.update(block[:found])
                target.write(block[:found])
            if self.is_synced:
                os.fsync(target.fileno())
        return finished.stat().st_size


def ours_not_synced(task: WriteTask) -> int:
    """Write one shard to the page cache."""
    with (
        mock.patch("curation.sharding.writer.os.fsync", lambda _: None),
        mock.patch("curation.sharding.writer.start_writing_back", lambda *_: None),
    ):
        return write_one_shard(task).num_bytes


WORKS: dict[str, Callable[[WriteTask], int]] = {
    "ours": ours,
    "plain write": PlainWrite(),
    "plain write, hashed": PlainWrite(is_hashed=True),
    "ours, not synced": ours_not_synced,
    "plain write, not synced": PlainWrite(is_synced=False),
}
PAIRS = (("ours", "plain write"), ("ours", "plain write, hashed"), ("ours, not synced", "plain write, not synced"))


def hash_blocks(num_bytes: int) -> int:
    """SHA-256 of as many bytes from a block in the cache."""
    digest, block = hashlib.sha256(), bytes(_BLOCK_BYTES)
    for _ in range(num_bytes // _BLOCK_BYTES):
        digest.update(block)
    return num_bytes


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as temporary, ProcessPoolExecutor(_PROCESSES) as processes:
        folder = Path(temporary)
        rendered = make_source(folder)
        list(processes.map(ours, _tasks(folder, rendered)))
        (folder / "release" / "shards").rename(folder / "finished")
        for name, mapping in (("1 process", map), (f"{_PROCESSES} processes", processes.map)):
            compare(folder, rendered, name, mapping)


def compare(folder: Path, rendered: str, name: str, mapping: Callable[..., Iterable[int]]) -> None:
    """All ways of writing in turns, and what hashing alone allows."""
    rates: dict[str, list[float]] = {work: [] for work in (*WORKS, "hash")}
    for _ in range(ROUNDS):
        for work, function in WORKS.items():
            tasks = _tasks(folder, rendered)
            os.sync()  # what was left in the page cache is not for the next one to write
            rates[work].append(_rate(partial(mapping, function), tasks))
        rates["hash"].append(_rate(partial(mapping, hash_blocks), [256 << 20] * _PROCESSES))
    medians = {work: float(np.median(found)) for work, found in rates.items()}
    for work, peer in PAIRS:
        show(f"write shards, {name}{work.removeprefix('ours')}", medians[work], medians[peer], "MB/s", versus=peer)
    unsynced = medians["plain write, not synced"]
    print(f"  SHA-256 alone: {medians['hash']:,.0f} MB/s, {medians['hash'] / unsynced:.2f} of a plain write that is not synced")


def _tasks(folder: Path, rendered: str) -> list[WriteTask]:
    for old in ("release", "work"):
        shutil.rmtree(folder / old, ignore_errors=True)
    (folder / "release").mkdir()
    return [
        WriteTask(
            folder=str(folder / "release"),
            work=str(folder / "work"),
            mixture="bench",
            number=number,
            start=first,
            stop=first + SAMPLES_A_SHARD,
            rendered=((rendered, "bench"),),
            picture_folders={"bench": str(folder)},
        )
        for number, first in enumerate(range(0, SAMPLES, SAMPLES_A_SHARD))
    ]


def _rate(mapping: Callable[[Any], Iterable[int]], tasks: list[Any]) -> float:
    start = time.perf_counter()
    total: int = sum(mapping(tasks))
    return total / (time.perf_counter() - start) / 1e6


if __name__ == "__main__":
    main()
