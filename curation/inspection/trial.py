"""Trying a catalog row: what its first records become, without ingesting and without writing anything below the root.

Only the first spans of the record files are read, and of the pictures only those that the tried records name
(`trial_pictures.py`). What lies elsewhere is not fetched for it: of a dataset on the Hub the first rows are streamed, of
other files the beginnings are read where they lie, of a release the first records that the row claims.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from curation.catalog.locations import HubDataset
from curation.catalog.spec import Catalog, Part, ReleaseRows, Row
from curation.catalog.template import Unusable
from curation.fetch.hub import HubSplit, fetch_head, resolved
from curation.inspection.trial_pictures import Looker, NotLooked, ReleaseArchives
from curation.sources.columns import Said
from curation.sources.looking import is_misnamed
from curation.sources.mapping import Mapped, map_batch
from curation.sources.parquet_rows import PARQUET_DAMAGE
from curation.sources.readers import each_span, read
from curation.sources.records import Batch, ByteSpan, Reject, Span
from curation.tables import ROLES
from curation.upstream.far_head import bring, bring_joined, record_names, without_last
from curation.upstream.head import claimed_batches
from curation.upstream.inputs import find_records
from curation.upstream.places import place_of, place_of_release, place_of_repository

DEFAULT_HEAD = 20
_QUOTED_HEAD_BYTES = 4 << 20
_LARGE_GROUP_BYTES = 32 << 20


@dataclass(frozen=True, slots=True)
class TriedPicture:
    """A picture as its record names it (`name`) and as it is. `is_misnamed`: its name claims another encoding.

    `note` says why it was not looked at; the figures are None then.
    """

    name: str
    extension: str | None = None
    width: int | None = None
    height: int | None = None
    num_bytes: int | None = None
    is_misnamed: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class TriedSample:
    """A record that would become a sample: `turns` as (role, text), human first."""

    file: str
    position: int
    id: str | None
    turns: tuple[tuple[str, str], ...]
    images: tuple[TriedPicture, ...]


@dataclass(frozen=True, slots=True)
class TriedReject:
    """A record that would be refused; `raw` is its beginning as text."""

    file: str
    position: int
    reason: str
    detail: str
    raw: str


@dataclass(frozen=True, slots=True)
class TriedPart:
    """The first records of one part, in order; `is_all` when it has no others."""

    num_files: int
    records: tuple[TriedSample | TriedReject, ...]
    is_all: bool


@dataclass(frozen=True, slots=True)
class Trial:
    """What the first records of a row's parts become."""

    name: str
    parts: tuple[TriedPart, ...]

    @property
    def samples(self) -> list[TriedSample]:
        """The records that would become samples."""
        return [record for part in self.parts for record in part.records if isinstance(record, TriedSample)]

    @property
    def rejects(self) -> list[TriedReject]:
        """The records that would be refused."""
        return [record for part in self.parts for record in part.records if isinstance(record, TriedReject)]

    @property
    def reasons(self) -> dict[str, int]:
        """Rejects by reason."""
        return dict(sorted(Counter(reject.reason for reject in self.rejects).items()))


def try_row(catalog: Catalog, row: Row, head: int = DEFAULT_HEAD) -> Trial:
    """The first `head` records of each part.

    Raises CatalogError when a location does not exist, FetchError when what lies elsewhere cannot be asked.
    """
    return Trial(row.name, tuple(_try_part(catalog, row, number, head) for number in range(len(row.parts))))


def _try_part(catalog: Catalog, row: Row, number: int, head: int) -> TriedPart:
    part = row.parts[number]
    with tempfile.TemporaryDirectory(prefix="curate-try-") as name:
        folder = Path(name)
        if isinstance(part.location, ReleaseRows):
            return _try_claimed(catalog, row, number, part.location, head, folder)
        place = place_of(part.location, folder / "hub")
        if isinstance(part.location, HubDataset):
            root, files = _first_rows(part.location, head + 1, folder / "hub")
        elif place is not None:
            root, files = folder / "far", tuple(record_names(part, place, f"source '{row.name}'"))
        else:
            root, files = find_records(catalog, row, part)
        mapped, roots = Mapped(), dict.fromkeys(files, root)
        remaining = head + 1  # one more, to know whether there are more
        for file in files:
            if remaining <= 0:
                break
            if place is not None:
                is_cut = bring(place, file, part, remaining, root)
            else:
                is_cut, roots[file] = False, _root_of(root, file, part, remaining, folder)
            batches = _first_batches(roots[file], file, part, remaining)
            for batch in without_last(batches) if is_cut else batches:
                remaining -= len(batch.positions) + len(batch.rejects)
                if place is not None:
                    bring_joined(place, batch, part, root)
                map_batch(batch, roots[file], part, mapped)
            if is_cut:
                break  # what follows the part of a file that was read is not told
        if isinstance(part.location, HubDataset) and part.images is not None and part.images.packed_here:
            place = place_of_repository(part.location, folder / "hub")
        look = partial(Looker, roots, part.images, elsewhere=place, folder=folder / "hub")
        records = _looked_at(mapped, roots, head, look)
    return TriedPart(len(files), tuple(records), is_all=remaining > 0 and not is_cut)


def _try_claimed(catalog: Catalog, row: Row, number: int, location: ReleaseRows, head: int, folder: Path) -> TriedPart:
    part = row.parts[number]
    if part.images is not None:
        part = part.model_copy(update={"images": part.images.model_copy(update={"optional": True})})
    upstream = catalog.upstreams[location.release]
    place = place_of_release(catalog, upstream, folder / "hub")
    mapped, remaining = Mapped(), head + 1
    files: set[str] = set()
    for batch in claimed_batches(catalog, row, number, location, place, folder / "far"):
        first = _first(batch, remaining)
        files.add(batch.file)
        remaining -= len(first.positions)
        map_batch(first, folder, part, mapped)
        if remaining <= 0:
            break
    roots = dict.fromkeys(sorted(files), folder)
    look = partial(Looker, roots, part.images, release=ReleaseArchives(catalog, upstream, place, folder / "hub"))
    return TriedPart(len(files), tuple(_looked_at(mapped, roots, head, look)), is_all=False)


def _first_rows(location: HubDataset, num_rows: int, folder: Path) -> tuple[Path, tuple[str, ...]]:
    """The first rows of a dataset on the Hub as a file of this machine."""
    commit = resolved(location.hub, location.revision, folder)
    fetch_head(HubSplit(location.hub, location.config, location.split, location.revision), commit, num_rows, folder)
    return folder, ("part-00000.parquet",)


def first_records(root: Path, file: str, part: Part, head: int) -> Batch:
    """The first `head` records of a file, unmapped, and what could not be parsed among them."""
    whole = Batch(file)
    for batch in _first_batches(root, file, part, head):
        whole.positions += batch.positions
        whole.records += batch.records
        whole.rejects += batch.rejects
    return whole


def _first_batches(root: Path, file: str, part: Part, head: int) -> Iterator[Batch]:
    for span in each_span(root, file, part):
        if head <= 0:
            return
        batch = _first(read(root, _shortened(root, span), part), head)
        head -= len(batch.positions) + len(batch.rejects)
        yield batch


def _first(batch: Batch, head: int) -> Batch:
    places = sorted([*batch.positions, *(reject.position for reject in batch.rejects)])
    if len(places) <= head:
        return batch
    kept = [number for number, position in enumerate(batch.positions) if position < places[head]]
    rejects = [reject for reject in batch.rejects if reject.position < places[head]]
    return Batch(batch.file, [batch.positions[n] for n in kept], [batch.records[n] for n in kept], rejects)


def _shortened(root: Path, span: Span) -> Span:
    """A span of quoted rows, which is a whole file, up to a line end near its beginning."""
    if not isinstance(span, ByteSpan) or span.style != "quoted" or span.num_bytes <= _QUOTED_HEAD_BYTES:
        return span
    with (root / span.file).open("rb") as handle:
        head = handle.read(_QUOTED_HEAD_BYTES)
    return ByteSpan(span.file, span.style, 0, head.rfind(b"\n") + 1 or len(head), 0)


def _root_of(root: Path, file: str, part: Part, head: int, folder: Path) -> Path:
    """Where to read `file`: below `root`, or below `folder`, which then holds the first rows of a Parquet file.

    A row group with pictures may have gigabytes, and is otherwise read whole.
    """
    if part.reader.format != "parquet" or part.join or (part.images is not None and part.images.bytes is None):
        return root
    try:
        with pq.ParquetFile(root / file, pre_buffer=False, buffer_size=1 << 20) as parquet:
            if not parquet.num_row_groups or parquet.metadata.row_group(0).total_byte_size <= _LARGE_GROUP_BYTES:
                return root
            rows = list(islice(parquet.iter_batches(batch_size=head), 1))
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.Table.from_batches(rows, parquet.schema_arrow), folder / file)
    except PARQUET_DAMAGE:
        return root  # where reading it tells what is wrong
    return folder


# --- Pictures -----------------------------------------------------------------------------------------------------------


def _looked_at(
    mapped: Mapped, roots: Mapping[str, Path], head: int, look: Callable[[Sequence[str]], Looker]
) -> list[TriedSample | TriedReject]:
    """The first `head` of what was mapped, in order of their origin, with their pictures examined."""
    order = {file: number for number, file in enumerate(roots)}
    found: list[tuple[tuple[int, int], int | Reject]] = [
        ((order[file], position), number)
        for number, (file, position) in enumerate(zip(mapped.files, mapped.positions, strict=True))
    ]
    found += [((order[reject.file], reject.position), reject) for reject in mapped.rejects]
    first = [what for _, what in sorted(found, key=lambda entry: entry[0])][:head]
    turns = _turns(mapped)
    looker = look([ref for what in first if isinstance(what, int) for ref in _refs(mapped, what)])
    return [_tried_reject(what) if isinstance(what, Reject) else _tried(mapped, what, turns[what], looker) for what in first]


def _turns(mapped: Mapped) -> Sequence[Sequence[str]]:
    """The turns of each mapped record, whether they are kept by record or, as text is, by batch."""
    if not mapped.said:
        return mapped.turns
    said = Said.together(mapped.said)
    texts: list[str] = said.texts.to_pylist()
    return [texts[start:stop] for start, stop in pairwise(said.ends.tolist())]


def _refs(mapped: Mapped, number: int) -> Sequence[str]:
    return mapped.refs[number] if mapped.refs else ()


def _tried(mapped: Mapped, number: int, said: Sequence[str], look: Looker) -> TriedSample | TriedReject:
    file, position = mapped.files[number], mapped.positions[number]
    pictures: list[TriedPicture] = []
    for ref in _refs(mapped, number):
        try:
            facts = look.at(file, ref)
        except NotLooked as problem:
            pictures.append(TriedPicture(ref, note=str(problem)))
            continue
        except Unusable as problem:
            return _tried_reject(Reject.of(file, position, problem.reason, f"{ref}: {problem.detail}", mapped.raws[number]))
        is_lie = is_misnamed(ref, facts.extension)
        pictures.append(TriedPicture(ref, facts.extension, facts.width, facts.height, facts.num_bytes, is_lie))
    turns = tuple((ROLES[place % 2], text) for place, text in enumerate(said))
    return TriedSample(file, position, mapped.ids[number], turns, tuple(pictures))


def _tried_reject(reject: Reject) -> TriedReject:
    return TriedReject(reject.file, reject.position, reject.reason.value, reject.detail, reject.raw.decode("utf-8", "replace"))
