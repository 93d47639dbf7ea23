"""The beginnings of record files that lie elsewhere, brought here to be tried, and the files that belong to their records."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.locations import HttpFiles, LocalFiles
from curation.catalog.spec import Part
from curation.catalog.template import Template, Unusable
from curation.errors import FetchError
from curation.fetch.far_file import Bounded
from curation.fetch.gunzip import Beyond
from curation.sources.records import Batch
from curation.sources.safe_paths import inside
from curation.upstream.head import HEAD_BYTES, keep_head
from curation.upstream.places import Place, matching

PARQUET_BYTES = 256 << 20
"""How much of a Parquet file is read for its first rows: columns lie apart, so that is more than the rows themselves."""


def record_names(part: Part, place: Place, whose: str) -> list[str]:
    """The record files of a part that lies in `place`, sorted. Raises CatalogError where a pattern matches nothing."""
    if isinstance(part.location, HttpFiles):
        return [item.file for item in part.location.http if not part.is_aside(item.file)]
    assert isinstance(part.location, LocalFiles)
    return matching(place, part.location.patterns, whose)


def bring(place: Place, name: str, part: Part, num_rows: int, folder: Path) -> bool:
    """Write the beginning of a record file below `folder`; whether that is not all of it. Raises FetchError."""
    if part.reader.format != "parquet":
        return keep_head(place, name, folder)
    path = inside(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with place.open(name) as handle, pq.ParquetFile(Bounded(handle, PARQUET_BYTES), pre_buffer=False) as parquet:
            rows = list(islice(parquet.iter_batches(batch_size=num_rows), 1))
            pq.write_table(pa.Table.from_batches(rows, parquet.schema_arrow), path)
            return bool(parquet.metadata.num_rows > num_rows)
    except (pa.ArrowInvalid, Beyond, OSError) as problem:
        raise FetchError(f"{place.shown}: the first rows of '{name}' cannot be read: {problem}") from None


def without_last(batches: Iterator[Batch]) -> Iterator[Batch]:
    """Batches of a file that was cut, but for the last record, of which only the beginning may be there."""
    waiting: Batch | None = None
    for batch in batches:
        if waiting is not None:
            yield waiting
        waiting = batch
    if waiting is not None:
        last = max([*waiting.positions, *(reject.position for reject in waiting.rejects)], default=-1)
        kept = [number for number, position in enumerate(waiting.positions) if position != last]
        rejects = [reject for reject in waiting.rejects if reject.position != last]
        yield Batch(waiting.file, [waiting.positions[n] for n in kept], [waiting.records[n] for n in kept], rejects)


def bring_joined(place: Place, batch: Batch, part: Part, folder: Path) -> None:
    """Bring the files that joins take from: those that are not there are told where their records are mapped."""
    path = PurePosixPath(batch.file)
    of_file = {"_file": batch.file, "_dir": str(path.parent), "_stem": path.stem}
    for join in part.join.values():
        template = Template.of_name(join.file)
        names: dict[str, None] = {}
        for record in batch.records:
            try:
                names[template.render({**record, **of_file})] = None
            except Unusable:
                continue
        for name in names:
            try:
                target = inside(folder, name)
                if not target.exists():
                    data = place.head(name, HEAD_BYTES)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(data)
            except (Unusable, FetchError):
                continue
