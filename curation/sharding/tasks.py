"""What worker processes do for a release: render one file of samples, write one shard. Both take up what is already done."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curation.shard_format import SHARD_FOLDER, ShardEntry, shard_name
from curation.sharding.rendering import RENDERED, SourceFacts, rendered_row, rendered_rows, shown_turns, without_turns
from curation.sharding.writer import Pictures, write_shard
from curation.storage.store import replacing, write_json, write_table
from curation.token_counts import TokenizerFile


@dataclass(frozen=True, slots=True)
class RenderTask:
    """One file of samples; `assigned` lists the rows to render with their positions, the result goes to `target`."""

    samples: str
    assigned: str
    target: str
    source: SourceFacts
    tokenizer: TokenizerFile | None = None


@dataclass(frozen=True, slots=True)
class WriteTask:
    """Shard `number`: positions `start` to `stop` of the stream, from all `rendered` files (path, source)."""

    folder: str
    work: str
    mixture: str
    number: int
    start: int
    stop: int
    rendered: Sequence[tuple[str, str]]
    picture_folders: Mapping[str, str]


def render_samples(task: RenderTask) -> None:
    """Write the RENDERED rows of one file of samples, ordered by position."""
    target = Path(task.target)
    if target.exists():
        return
    assigned = pl.read_parquet(task.assigned).sort("position")
    samples = pq.read_table(task.samples).take(pa.array(assigned["row"].to_numpy())).to_pylist()
    trimmed = [
        without_turns(sample, removed) if removed else sample
        for sample, removed in zip(samples, assigned["removed"].to_list(), strict=True)
    ]
    if task.tokenizer is not None:
        counts = task.tokenizer.count([[turn["value"] for turn in shown_turns(sample, task.source)] for sample in trimmed])
        trimmed = [{**sample, "num_tokens": count} for sample, count in zip(trimmed, counts, strict=True)]
    placed = zip(trimmed, assigned["position"].to_list(), assigned["repeat"].to_list(), strict=True)
    rows = [rendered_row(sample, position, repeat, task.source) for sample, position, repeat in placed]
    with replacing(target) as temporary, pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, RENDERED) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=RENDERED), max_chunksize=8_192)


def write_one_shard(task: WriteTask) -> ShardEntry:
    """Write a shard and its part of the index."""
    path = Path(task.folder) / SHARD_FOLDER / shard_name(task.mixture, task.number)
    noted = Path(task.work) / f"shard-{task.number:06d}.json"
    if noted.exists() and path.exists():
        return ShardEntry(**json.loads(noted.read_bytes()))
    rows = sorted(
        ((source, row) for file, source in task.rendered for row in _rows_of(file, task.start, task.stop)),
        key=lambda pair: pair[1]["position"],
    )
    pictures = Pictures(task.picture_folders)
    try:
        with replacing(path) as temporary:
            written = write_shard(temporary, rows, pictures)
    finally:
        pictures.close()
    index = {
        "sample_id": [row["sample_id"] for _, row in rows],
        "source": [source for source, _ in rows],
        "repeat": pa.array([row["repeat"] for _, row in rows], pa.int32()),
        "shard": pa.array([task.number] * len(rows), pa.int32()),
        "offset_bytes": [offset for offset, _ in written.places],
        "num_bytes": [length for _, length in written.places],
        "num_images": pa.array([row["num_images"] for _, row in rows], pa.int32()),
        "num_tokens": pa.array([row["num_tokens"] for _, row in rows], pa.int32()),
    }
    write_table(index_part(Path(task.work), task.number), pa.table(index))
    entry = ShardEntry(name=path.name, num_samples=len(rows), num_bytes=written.num_bytes, sha256=written.sha256)
    write_json(noted, asdict(entry))
    return entry


def _rows_of(file: str, start: int, stop: int) -> list[dict[str, Any]]:
    """Rows of a rendered file with positions from `start` to before `stop`; only their pages are read."""
    with pa.memory_map(file) as mapped:
        table = pa.ipc.open_file(mapped).read_all()
        positions = table.column("position").to_numpy()
        first, last = np.searchsorted(positions, [start, stop])
        return rendered_rows(table.slice(first, last - first))


def index_part(work: Path, number: int) -> Path:
    """Where the part of the index lies that belongs to a shard."""
    return work / f"index-{number:06d}.parquet"
