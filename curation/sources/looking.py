"""The second pass of ingestion: each distinct picture is read, decoded in full once, and stored once as published."""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from curation.catalog import Images
from curation.imaging import EXTENSIONS, ImageFacts, examine
from curation.shard_format import END_OF_ARCHIVE, padding_bytes, tar_header
from curation.sources.pictures import fetch
from curation.store import replacing, write_table
from curation.tables import IMAGE
from curation.template import Unusable

FACTS = pa.schema(
    [
        pa.field("ref", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        *IMAGE,
        pa.field("is_misnamed", pa.bool_()),
    ]
)
_SAME_ENCODING = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif"}
_COPY_BYTES = 4 << 20


@dataclass(frozen=True, slots=True)
class LookTask:
    """Some of a part's pictures; results go to `work` as `looked-N.parquet` and `looked-N.tar`."""

    root: str
    images: Images
    refs: Sequence[str]
    work: str
    number: int


def look_at_pictures(task: LookTask) -> None:
    """Examine the pictures and store the bytes of those that are whole, equal bytes once."""
    done = Path(task.work) / f"looked-{task.number:08d}.parquet"
    if done.exists():
        return
    rows: list[dict[str, object]] = []
    stored: dict[str, int] = {}
    with replacing(done.with_suffix(".tar")) as temporary, temporary.open("wb") as tar:
        for ref in task.refs:
            row: dict[str, object] = {"ref": ref}
            try:
                data = fetch(Path(task.root), ref, task.images)
                facts = examine(data, max_pixels=task.images.max_pixels)
            except Unusable as problem:
                row |= {"reason": problem.reason.value, "detail": f"{ref}: {problem.detail}"}
            else:
                if facts.sha256 not in stored:
                    stored[facts.sha256] = _append(tar, facts, data)
                row |= asdict(facts) | {"tar": task.number, "offset": stored[facts.sha256]}
                row["is_misnamed"] = is_misnamed(ref, facts.extension)
            rows.append(row)
        tar.write(END_OF_ARCHIVE)
    write_table(done, pa.Table.from_pylist(rows, schema=FACTS))


def _append(tar: BinaryIO, facts: ImageFacts, data: bytes) -> int:
    """Write one member; returns the offset of its content."""
    tar.write(tar_header(f"{facts.sha256}.{facts.extension}", len(data)))
    offset = tar.tell()
    tar.write(data + bytes(padding_bytes(len(data))))
    return offset


def is_misnamed(ref: str, extension: str) -> bool:
    """Whether the picture's name claims another encoding; a name without a picture extension claims nothing."""
    named = os.path.splitext(ref)[1].lower().lstrip(".")  # noqa: PTH122
    named = _SAME_ENCODING.get(named, named)
    return named in EXTENSIONS.values() and named != extension


def merge_tars(
    numbers: Sequence[int], work: Path, folder: Path, facts_path: Path, *, first_tar: int, earlier: Sequence[Path]
) -> int:
    """Publish the pictures of all look tasks as `images-<n>.tar` from `first_tar` on; returns the next free number.

    A picture that several tasks met is kept in the first one's tar only, one in the facts of `earlier` parts in theirs; tars
    that lose members are copied without them, by byte ranges. Facts with final places go to `facts_path`, which marks this
    pass as done.
    """
    if facts_path.exists():
        return int(pl.read_parquet_metadata(facts_path).get("next_tar", str(first_tar)))
    looked = [work / f"looked-{number:08d}.parquet" for number in numbers]
    schema = pl.DataFrame(FACTS.empty_table()).schema
    facts = pl.concat([pl.DataFrame(schema=schema), *(pl.read_parquet(path) for path in looked)])
    distinct = facts.filter(pl.col("reason").is_null()).unique("sha256", keep="first", maintain_order=True)
    stored = _stored(earlier)
    distinct = distinct.join(stored, on="sha256", how="anti", maintain_order="left")
    placed = [stored] if len(stored) else []
    next_tar = first_tar
    for number in numbers:
        kept = distinct.filter(pl.col("tar") == number).sort("offset").select("sha256", "extension", "num_bytes", "offset")
        if len(kept):
            offsets = _copy_members(work / f"looked-{number:08d}.tar", folder / f"images-{next_tar:05d}.tar", kept)
            places = kept.select("sha256").with_columns(
                tar=pl.lit(next_tar, pl.Int32), offset=pl.Series(offsets, dtype=pl.Int64)
            )
            placed.append(places)
            next_tar += 1
    facts = facts.drop("tar", "offset")
    if placed:
        facts = facts.join(pl.concat(placed), on="sha256", how="left", maintain_order="left")
    else:
        facts = facts.with_columns(tar=pl.lit(None, pl.Int32), offset=pl.lit(None, pl.Int64))
    with replacing(facts_path) as temporary:
        facts.write_parquet(temporary, metadata={"next_tar": str(next_tar)})
    return next_tar


def _stored(earlier: Sequence[Path]) -> pl.DataFrame:
    """Columns sha256, tar, offset of the pictures in the facts of earlier parts, each once."""
    empty = pl.DataFrame(schema={"sha256": pl.String, "tar": pl.Int32, "offset": pl.Int64})
    facts = [pl.read_parquet(path, columns=empty.columns).select(empty.columns) for path in earlier]
    return pl.concat([empty, *facts]).drop_nulls().unique("sha256", keep="first", maintain_order=True)


def _copy_members(origin: Path, target: Path, kept: pl.DataFrame) -> list[int]:
    offsets: list[int] = []
    with origin.open("rb") as source, replacing(target) as temporary, temporary.open("wb") as tar:
        for sha256, extension, num_bytes, offset in kept.iter_rows():
            tar.write(tar_header(f"{sha256}.{extension}", num_bytes))
            offsets.append(tar.tell())
            source.seek(offset)
            remaining = num_bytes
            while remaining:
                block = source.read(min(remaining, _COPY_BYTES))
                tar.write(block)
                remaining -= len(block)
            tar.write(bytes(padding_bytes(num_bytes)))
        tar.write(END_OF_ARCHIVE)
    return offsets
