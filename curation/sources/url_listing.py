"""Which pictures on the web the records of a part name, before any of them is fetched."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from curation.catalog.spec import Part
from curation.catalog.template import Unusable
from curation.sources.mapping import Mapped, completed
from curation.sources.pictures import picture_refs
from curation.sources.readers import chunks, read, survey
from curation.sources.records import Span
from curation.storage.store import write_table

URLS = pa.schema([pa.field("url", pa.string())])


@dataclass(frozen=True, slots=True)
class UrlTask:
    """Chunk of a part's records; the URLs in it go to `target`, sorted, each once."""

    root: str
    part: Part
    chunk: Sequence[Span]
    target: str


def url_tasks(root: Path, files: Sequence[str], part: Part, folder: Path) -> list[UrlTask]:
    """A task for each chunk of the record files."""
    spans = [span for file in files for span in survey(root, file, part)]
    return [UrlTask(str(root), part, chunk, str(folder / f"{n:05d}.parquet")) for n, chunk in enumerate(chunks(spans))]


def list_urls(task: UrlTask) -> None:
    """Write the URLs of pictures that a chunk's records name; records that name none are told of when they are mapped."""
    if Path(task.target).exists():
        return
    found: set[str] = set()
    for span in task.chunk:
        records, positions = completed(read(Path(task.root), span, task.part), Path(task.root), task.part, Mapped())
        for refs in picture_refs(records, positions, span.file, task.part):
            if not isinstance(refs, Unusable):
                found.update(refs)
    write_table(Path(task.target), pa.table({"url": sorted(found)}, schema=URLS))
