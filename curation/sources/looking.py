"""The second pass of ingestion: each distinct picture is read, decoded in full once, and stored once as published."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import polars as pl
import pyarrow as pa

from curation.catalog.spec import Images
from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.examiner import Examine, Examiner
from curation.imaging import EXTENSIONS, ImageFacts, examine
from curation.shard_format import END_OF_ARCHIVE, padding_bytes, tar_header
from curation.sources.pictures import fetch
from curation.storage.store import replacing, write_table
from curation.tables import IMAGE, REFERENCE_PREFIX, THUMBNAILS

FACTS = pa.schema(
    [
        pa.field("ref", pa.string()),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
        *IMAGE,
        pa.field("is_misnamed", pa.bool_()),
        pa.field("is_moved", pa.bool_()),
    ]
)
_SAME_ENCODING = {"jpeg": "jpg", "jpe": "jpg", "jfif": "jpg", "tiff": "tif"}
_COPY_BYTES = 4 << 20
_MEMBER = ("sha256", "extension", "num_bytes", "offset")
THUMBNAILS_SUFFIX = ".thumbnails"
BEGUN_SUFFIX = ".begun"


@dataclass(frozen=True, slots=True)
class LookTask:
    """Some of a part's pictures; results go to `work` as `looked-N.parquet` and `looked-N.tar`.

    `lost` are refs that are not there, each with the name it was found under, or the detail of its reject.
    """

    root: str
    images: Images
    refs: Sequence[str]
    work: str
    number: int
    lost: tuple[tuple[str, "str | None", str], ...] = ()


def looked_path(work: Path, number: int) -> Path:
    """Where look task `number` leaves its facts; the pictures' bytes are beside it, as `.tar`, and `.thumbnails`."""
    return work / f"looked-{number:08d}.parquet"


def look_at_pictures(task: LookTask) -> None:
    """Examine the pictures and store the bytes of those that are whole, equal bytes once."""
    done = looked_path(Path(task.work), task.number)
    if done.exists():
        return
    with looking(done, task.images.max_pixels) as album:
        for ref in task.refs:
            album.look(ref, lambda ref=ref: fetch(Path(task.root), ref, task.images))  # type: ignore[misc]
        for ref, found, detail in task.lost:
            if found is None:
                album.refuse(ref, RejectReason.MISSING_IMAGE, detail)
            else:
                album.look(ref, lambda name=found: fetch(Path(task.root), name, task.images), is_moved=True)  # type: ignore[misc]


@contextmanager
def looking(done: Path, max_pixels: int) -> Iterator["Album"]:
    """An album whose facts are written to `done`, last of all; its pictures and thumbnails lie beside it."""
    with _surviving(done) as look, replacing(done.with_suffix(".tar")) as temporary, temporary.open("wb") as tar:
        album = Album(tar, max_pixels, look)
        yield album
        tar.write(END_OF_ARCHIVE)
    write_table(done.with_suffix(THUMBNAILS_SUFFIX), pa.Table.from_pylist(list(album.thumbnails.values()), schema=THUMBNAILS))
    write_table(done, pa.Table.from_pylist(album.rows, schema=FACTS))


@contextmanager
def _surviving(done: Path) -> Iterator[Examine]:
    """How pictures are examined: in this process, or in children of it where an earlier attempt was killed.

    An attempt leaves a note while it runs. One that is there already was left by a process that died, maybe of a picture, which
    will then kill a child only. Any other death costs the second attempt some speed and changes nothing.
    """
    begun = done.with_suffix(BEGUN_SUFFIX)
    died_before = begun.exists()
    done.parent.mkdir(parents=True, exist_ok=True)
    begun.touch()
    try:
        if died_before:
            with Examiner() as examiner:
                yield examiner.examine
        else:
            yield examine
    finally:
        begun.unlink(missing_ok=True)


class Album:
    """Pictures looked at one after the other: their facts as rows of FACTS, their bytes in a tar, equal bytes once.

    `thumbnails` has a row of THUMBNAILS for what is shown, by pixel hash.
    """

    def __init__(self, tar: BinaryIO, max_pixels: int, look: Examine = examine) -> None:
        self.examine = look
        self.rows: list[dict[str, object]] = []
        self.thumbnails: dict[str, dict[str, object]] = {}
        self._tar = tar
        self._max_pixels = max_pixels
        self._stored: dict[str, int] = {}

    def look(self, ref: str, read: Callable[[], bytes], *, is_moved: bool = False) -> None:
        """Examine the picture that `read` gives; `read` may raise Unusable."""
        try:
            data = read()
            facts = self.examine(data, max_pixels=self._max_pixels)
        except Unusable as problem:
            self.refuse(ref, problem.reason, f"{ref}: {problem.detail}")
            return
        self.store(ref, data, facts, is_moved=is_moved)

    def store(self, ref: str, data: bytes, facts: ImageFacts, *, is_moved: bool = False) -> None:
        """Keep a picture that was examined."""
        if facts.sha256 not in self._stored:
            self._stored[facts.sha256] = _append(self._tar, facts, data)
        place = {"tar": 0, "offset": self._stored[facts.sha256]}
        claims = {"is_misnamed": is_misnamed(ref, facts.extension), "is_moved": is_moved}
        seen = asdict(facts)
        self.thumbnails.setdefault(facts.pixels, {field.name: seen[field.name] for field in THUMBNAILS})
        del seen["thumbnail"], seen["aspect"]
        self.rows.append({"ref": ref, **seen, **place, **claims})

    def refuse(self, ref: str, reason: RejectReason, detail: str) -> None:
        """Note why a picture cannot be had."""
        self.rows.append({"ref": ref, "reason": reason.value, "detail": detail})


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
    looked: Sequence[Path], folder: Path, facts_path: Path, *, images: Images, first_tar: int, earlier: Sequence[Path]
) -> int:
    """Publish the pictures of all look tasks (their facts are `looked`, their tars beside) as `images-<n>.tar`,
    with `thumbnails-<n>.parquet` of what they show.

    Numbers start at `first_tar`; returns the next free one. Of a ref that several tasks met, a picture counts before a reason,
    and a later reason before an earlier one. A picture that several tasks met is kept in the first one's tar only, one in the
    facts of `earlier` parts in theirs; tars that lose members are copied without them, by byte ranges. Facts with final places
    go to `facts_path`, which marks this pass as done; what is not there is known by name, if `images` say so.
    """
    if facts_path.exists():
        return int(pl.read_parquet_metadata(facts_path).get("next_tar", str(first_tar)))
    schema = pl.DataFrame(FACTS.empty_table()).schema
    tables = [pl.read_parquet(path).with_columns(tar=pl.lit(n, pl.Int32)) for n, path in enumerate(looked)]
    facts = _one_a_ref(pl.concat([pl.DataFrame(schema=schema), *tables]))
    distinct = facts.filter(pl.col("sha256").is_not_null()).unique("sha256", keep="first", maintain_order=True)
    stored = _stored(earlier)
    distinct = distinct.join(stored, on="sha256", how="anti", maintain_order="left")
    placed = [stored] if len(stored) else []
    next_tar = first_tar
    for number, path in enumerate(looked):
        kept = distinct.filter(pl.col("tar") == number).sort("offset").select(*_MEMBER, "pixels")
        if len(kept):
            _copy_thumbnails(path, folder / f"thumbnails-{next_tar:05d}.parquet", kept["pixels"])
            offsets = _copy_members(path.with_suffix(".tar"), folder / f"images-{next_tar:05d}.tar", kept.select(_MEMBER))
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
    facts = _known_by_name(facts, images)
    with replacing(facts_path) as temporary:
        facts.write_parquet(temporary, metadata={"next_tar": str(next_tar)})
    return next_tar


def _known_by_name(facts: pl.DataFrame, images: Images) -> pl.DataFrame:
    """`facts` in which missing pictures have their name in the collection that the row states, instead of a reason."""
    if images.by_reference is None:
        return facts
    is_missing = pl.col("reason") == RejectReason.MISSING_IMAGE.value
    name = pl.col("ref").str.strip_prefix(f"{images.folder}/") if images.folder else pl.col("ref")
    known = {"pixels": pl.lit(f"{REFERENCE_PREFIX}{images.by_reference}/") + name}
    known |= {column: pl.lit(0) for column in ("width", "height", "num_bytes")}
    known |= {column: pl.lit(False) for column in ("is_misnamed", "is_moved")}
    known |= {column: pl.lit(None) for column in ("reason", "detail")}
    filled = [pl.when(is_missing).then(value).otherwise(pl.col(column)).alias(column) for column, value in known.items()]
    return facts.with_columns(filled).cast(facts.schema)


def _one_a_ref(facts: pl.DataFrame) -> pl.DataFrame:
    if not facts["ref"].is_duplicated().any():
        return facts
    ranked = facts.with_row_index("row").with_columns(is_refused=pl.col("reason").is_not_null())
    best = ranked.sort("is_refused", pl.when(pl.col("is_refused")).then(-pl.col("row").cast(pl.Int64)).otherwise(pl.col("row")))
    return best.unique("ref", keep="first", maintain_order=True).sort("row").drop("row", "is_refused")


def _stored(earlier: Sequence[Path]) -> pl.DataFrame:
    """Columns sha256, tar, offset of the pictures in the facts of earlier parts, each once."""
    empty = pl.DataFrame(schema={"sha256": pl.String, "tar": pl.Int32, "offset": pl.Int64})
    facts = [pl.read_parquet(path, columns=empty.columns).select(empty.columns) for path in earlier]
    return pl.concat([empty, *facts]).drop_nulls().unique("sha256", keep="first", maintain_order=True)


def _copy_thumbnails(looked: Path, target: Path, pixels: pl.Series) -> None:
    """Write the thumbnails of those pictures that are stored, sorted, each once."""
    rows = pl.read_parquet(looked.with_suffix(THUMBNAILS_SUFFIX))
    kept = rows.join(pixels.unique().to_frame(), on="pixels", how="semi").sort("pixels")
    write_table(target, kept.to_arrow().cast(THUMBNAILS))


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
