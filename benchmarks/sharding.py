"""Writing shards against plain writes of the same bytes: pictures are moved as byte ranges, never decoded.

Four plain writes, each in one process and in two: *copy and hash* (the same pictures read, written and hashed, in order),
*to disk* (as many bytes from memory, then fsync; ours is synced too), *copy* (read and written), and *to cache* (bytes from
one block of memory, never synced: the speed of the page cache, which nothing that reads its input and hashes its output can
reach).
"""

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.printing import show
from curation.rendering import RENDERED
from curation.shard_format import padding_bytes, tar_header
from curation.steps.shard import WriteTask, write_one_shard

SAMPLES = 6_000
PICTURE_BYTES = 65_000
SAMPLES_A_SHARD = 1_500
ROUNDS = 5
_PROCESSES = 2
_BLOCK_BYTES = 4 << 20


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


def plain_write(target: str, num_bytes: int) -> int:
    """Write bytes from memory."""
    block = memoryview(bytes(_BLOCK_BYTES))
    with open(target, "wb", buffering=0) as handle:  # noqa: PTH123
        remaining = num_bytes
        while remaining:
            remaining -= os.write(handle.fileno(), block[: min(remaining, _BLOCK_BYTES)])
    return num_bytes


def synced(path: Path, num_bytes: int) -> int:
    """Flush a written file to disk, as publishing does."""
    with path.open("rb") as handle:
        os.fsync(handle.fileno())
    return num_bytes


def ours(task: WriteTask) -> int:
    """Write one shard."""
    return write_one_shard(task).num_bytes


def ours_synced(task: WriteTask) -> int:
    """Write one shard to disk."""
    entry = write_one_shard(task)
    return synced(Path(task.folder) / "shards" / entry.name, entry.num_bytes)


def plain_to_disk(task: WriteTask) -> int:
    """Write as many bytes as the shard has to disk."""
    target = Path(task.folder) / f"plain-{task.number}"
    return synced(target, plain_write(str(target), _shard_bytes(task)))


def plain_to_cache(task: WriteTask) -> int:
    """Write as many bytes as the shard has, unsynced."""
    return plain_write(str(Path(task.folder) / f"plain-{task.number}"), _shard_bytes(task))


def plain_copy(task: WriteTask) -> int:
    """Copy as many bytes of the source's pictures as the shard has."""
    return _copy(task, len)


def _copy(task: WriteTask, look: Callable[[memoryview], object]) -> int:
    offset, num_bytes = task.start * PICTURE_BYTES, (task.stop - task.start) * (PICTURE_BYTES + 600)
    block = memoryview(bytearray(_BLOCK_BYTES))
    origin = Path(task.picture_folders["bench"]) / "images-00000.tar"
    with (
        origin.open("rb", buffering=0) as source,
        (Path(task.folder) / f"copy-{task.number}").open("wb", buffering=0) as target,
    ):
        for start in range(offset, offset + num_bytes, _BLOCK_BYTES):
            found = os.preadv(source.fileno(), [block[: min(_BLOCK_BYTES, offset + num_bytes - start)]], start)
            look(block[:found])
            target.write(block[:found])
    return num_bytes


def _shard_bytes(task: WriteTask) -> int:
    return (task.stop - task.start) * (PICTURE_BYTES + 2_000)


def plain_hashed(task: WriteTask) -> int:
    """The same copy, hashed on the way."""
    return _copy(task, hashlib.sha256().update)


PAIRS = (
    (ours, plain_hashed, "copy and hash"),
    (ours_synced, plain_to_disk, "to disk"),
    (ours, plain_copy, "copy"),
    (ours, plain_to_cache, "to cache"),
)


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as temporary, ProcessPoolExecutor(_PROCESSES) as processes:
        folder = Path(temporary)
        rendered = make_source(folder)
        for name, mapping in (("one process", map), ("two processes", processes.map)):
            for work, plain, versus in PAIRS:
                rates = [
                    [_rate(mapping, function, _tasks(folder, rendered)) for function in (work, plain)] for _ in range(ROUNDS)
                ]
                left, right = np.median(rates, axis=0)
                show(f"write shards, {name}", float(left), float(right), "MB/s", versus=f"plain write {versus}")


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


def _rate(mapping: Any, function: Any, tasks: list[WriteTask]) -> float:
    start = time.perf_counter()
    total: int = sum(mapping(function, tasks))
    return total / (time.perf_counter() - start) / 1e6


if __name__ == "__main__":
    main()
