"""The first pass of ingestion: a chunk of records to turns and picture refs, or to rejects."""

import gc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import compress
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import orjson
import pyarrow as pa

from curation.catalog.spec import Fields, Part, ReleaseRows, Text
from curation.catalog.template import Record, Template, Unusable
from curation.sources import ADAPTERS
from curation.sources.checks import checked, checked_text
from curation.sources.columns import Said, Turns, text_column
from curation.sources.joins import joined
from curation.sources.pictures import picture_refs
from curation.sources.readers import read
from curation.sources.records import Batch, Reject, Span
from curation.sources.sample_rows import Origins, rejected_table, sample_table
from curation.storage.store import write_json, write_table
from curation.tables import RAW_LIMIT_BYTES

MAPPED = pa.schema(
    [
        pa.field("origin_file", pa.string()),
        pa.field("origin_position", pa.int64()),
        pa.field("origin_id", pa.string()),
        pa.field("annotation_file", pa.string()),
        pa.field("turns", pa.list_(pa.string())),
        pa.field("refs", pa.list_(pa.string())),
        pa.field("raw", pa.binary()),
        pa.field("repairs", pa.list_(pa.string())),
    ]
)
_FILE_FIELDS = ("_file", "_dir", "_stem")


@dataclass(frozen=True, slots=True)
class MapTask:
    """Chunk `number` of a source; results go to `folder` (published) and `work`."""

    root: str
    source: str
    part: Part
    chunk: Sequence[Span]
    folder: str
    work: str
    number: int


def map_chunk(task: MapTask) -> None:
    """Write `samples-N` and `rejected-N` for text, `mapped-N` and `rejected-N` where pictures are still to be looked at."""
    this = ChunkPass(task.source, Path(task.folder), Path(task.work), task.number, "map")
    if this.is_finished():
        return
    mapped = Mapped()
    with collection_paused():
        for span in task.chunk:
            map_batch(read(Path(task.root), span, task.part), Path(task.root), task.part, mapped)
    if task.part.images is not None:
        write_table(this.mapped, mapped.table())
    elif mapped.positions:
        origins = Origins(mapped.files, mapped.positions, mapped.ids, mapped.annotations)
        write_table(this.samples, sample_table(task.source, Said.together(mapped.said), None, origins))
    this.finish(mapped.rejects, mapped.repairs)


@dataclass(frozen=True, slots=True)
class ChunkPass:
    """One pass over chunk `number`: where its results go, and whether it is done."""

    source: str
    folder: Path
    work: Path
    number: int
    stage: Literal["map", "join"]

    @property
    def samples(self) -> Path:
        """The chunk's samples, written by its last pass."""
        return self.folder / f"samples-{self.number:05d}.parquet"

    @property
    def mapped(self) -> Path:
        """What the first pass hands to the third."""
        return mapped_path(self.work, self.number)

    @property
    def _counts(self) -> Path:
        return self.work / f"counts-{self.number:05d}-{self.stage}.json"

    def is_finished(self) -> bool:
        """Whether this or an earlier attempt finished the pass."""
        return self._counts.exists()

    def finish(self, rejects: Sequence[Reject], repairs: Mapping[str, int]) -> None:
        """Write the pass's rejects, then the counts that mark it as done."""
        if rejects:
            path = self.folder / f"rejected-{self.number:05d}-{self.stage}.parquet"
            write_table(path, rejected_table(self.source, rejects))
        counts = Counter(reject.reason.value for reject in rejects)
        write_json(self._counts, {"rejected": dict(counts), "repaired": dict(repairs)})


def mapped_path(work: Path, number: int) -> Path:
    """Where the first pass leaves chunk `number` of a source with pictures."""
    return work / f"mapped-{number:05d}.parquet"


def read_counts(work: Path) -> tuple[Counter[str], Counter[str]]:
    """Rejects by reason and repairs by kind over all chunks and passes."""
    rejected: Counter[str] = Counter()
    repaired: Counter[str] = Counter()
    for path in work.glob("counts-*.json"):
        counts = orjson.loads(path.read_bytes())
        rejected.update(counts["rejected"])
        repaired.update(counts["repaired"])
    return rejected, repaired


@contextmanager
def collection_paused() -> Iterator[None]:
    """No garbage collection in the block: it builds a chunk's records, no cycles, and would be searched over and over."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Mapped:
    """Columns under construction, and what was refused or mended on the way.

    Text is `said` batch by batch; `turns`, `refs` and `raws` are kept for records whose pictures are still to be looked at.
    """

    def __init__(self) -> None:
        self.files: list[str] = []
        self.positions: list[int] = []
        self.ids: list[str | None] = []
        self.annotations: list[str | None] = []
        self.said: list[Said] = []
        self.turns: list[Turns] = []
        self.refs: list[list[str]] = []
        self.raws: list[bytes] = []
        self.mended: list[list[str]] = []
        self.rejects: list[Reject] = []
        self.repairs: Counter[str] = Counter()

    def extend(
        self, file: str, positions: Sequence[int], ids: Sequence[str | None], annotations: Sequence[str | None], said: Said
    ) -> None:
        """Take a whole batch of text at once."""
        self.files.extend([file] * len(positions))
        self.positions.extend(positions)
        self.ids.extend(ids)
        self.annotations.extend(annotations)
        self.said.append(said)

    def table(self) -> pa.Table:
        """Rows of MAPPED."""
        columns = [self.files, self.positions, self.ids, self.annotations, self.turns, self.refs, self.raws, self.mended]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, MAPPED, strict=True)]
        return pa.Table.from_arrays(arrays, schema=MAPPED)


def map_batch(batch: Batch, root: Path, part: Part, mapped: Mapped) -> None:
    """Add a batch of records to `mapped`: turns and picture refs, or the reason for which a record is refused."""
    mapped.rejects.extend(batch.rejects)
    records, positions = completed(batch, root, part, mapped)
    adapted = ADAPTERS[part.layout](records, part)
    ids = _upstream_ids(records, part.fields)
    annotations = _annotation_files(records, part)
    mended = _kinds_of_repair(adapted.repairs)
    if part.images is None:
        rows, said = checked_text(adapted.rows, part)
        mapped.repairs.update(kind for row, kinds in mended.items() if not isinstance(rows[row], Unusable) for kind in kinds)
        if len(said.counts) < len(rows):
            usable = [not isinstance(row, Unusable) for row in rows]
            for record, position, row in zip(records, positions, rows, strict=True):
                if isinstance(row, Unusable):
                    mapped.rejects.append(Reject.of(batch.file, position, row.reason, row.detail, _raw(record)))
            positions, ids = list(compress(positions, usable)), list(compress(ids, usable))
            annotations = list(compress(annotations, usable))
        mapped.extend(batch.file, positions, ids, annotations, said)
        return
    refs = picture_refs(records, positions, batch.file, part)
    rows = checked(adapted.rows, refs, part)
    for number, (record, position, row, found, upstream_id) in enumerate(zip(records, positions, rows, refs, ids, strict=True)):
        if isinstance(row, Unusable) or isinstance(found, Unusable):
            problem = row if isinstance(row, Unusable) else found
            assert isinstance(problem, Unusable)
            mapped.rejects.append(Reject.of(batch.file, position, problem.reason, problem.detail, _raw(record)))
            continue
        mapped.positions.append(position)
        mapped.ids.append(upstream_id)
        mapped.annotations.append(annotations[number])
        mapped.turns.append(row)
        mapped.files.append(batch.file)
        mapped.refs.append(found)
        mapped.raws.append(_raw(record)[:RAW_LIMIT_BYTES])
        mapped.mended.append(mended.get(number, []))


def _annotation_files(records: Sequence[Record], part: Part) -> Sequence[str | None]:
    """What the records of a release name as their `source`: the annotation file they were taken from. None elsewhere."""
    if not isinstance(part.location, ReleaseRows):
        return [None] * len(records)
    named = (record.get("source") for record in records)
    return [name if isinstance(name, str) else None for name in named]


def _kinds_of_repair(repairs: Mapping[str, Sequence[int]]) -> dict[int, list[str]]:
    """What was mended in each row that was; a record that is refused after all counts for nothing."""
    kinds: dict[int, list[str]] = {}
    for kind, numbers in repairs.items():
        for number in numbers:
            kinds.setdefault(number, []).append(kind)
    return kinds


def completed(batch: Batch, root: Path, part: Part, mapped: Mapped) -> tuple[Sequence[Record], Sequence[int]]:
    """Records with fields from their file's name and from joins; those whose joins fail are rejected."""
    records: Sequence[Record] = batch.records
    if any(name in str(part) for name in _FILE_FIELDS):
        path = PurePosixPath(batch.file)
        extra = {"_file": batch.file, "_dir": str(path.parent), "_stem": path.stem}
        records = [{**record, **extra} for record in records]
    if not part.join:
        return records, batch.positions
    whole: list[Record] = []
    positions: list[int] = []
    for record, position in zip(records, batch.positions, strict=True):
        try:
            whole.append(joined(root, record, part.join))
            positions.append(position)
        except Unusable as problem:
            mapped.rejects.append(Reject.of(batch.file, position, problem.reason, problem.detail, _raw(record)))
    return whole, positions


def _upstream_ids(records: Sequence[Record], fields: Fields) -> list[str | None]:
    if isinstance(fields.id, Text):
        return [fields.id.text] * len(records)
    if isinstance(fields.id, str):
        return Template(fields.id).column(records)
    if isinstance(fields.id, list):
        return [cell if isinstance(cell, str) and cell.strip() else None for cell in text_column(records, fields.id)]
    values = [record.get("id") for record in records]
    if set(map(type, values)) == {str}:
        return values
    values = [record.get("_key") if value is None else value for record, value in zip(records, values, strict=True)]
    return [value if value is None or type(value) is str else str(value) for value in values]


def _raw(record: Mapping[str, Any]) -> bytes:
    """The record as JSON, for the quarantine."""
    shown = {key: value for key, value in record.items() if key != "_members"}
    try:
        return orjson.dumps(shown, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:  # orjson reads what is nested deeper than it writes
        return orjson.dumps({str(key): _writable(value) for key, value in shown.items()})


def _writable(value: Any) -> Any:
    try:
        return orjson.Fragment(orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS))
    except TypeError:
        return "(nested too deeply to be written)"
