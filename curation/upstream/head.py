"""The first records of a release that one source claims, read from the front of its record files: to be tried, not ingested.

Of a release that lies elsewhere only the beginning of each record file is asked for. What no row claims, and lines that cannot
be parsed, belong to no source and are passed over here; ingestion counts them.
"""

from collections.abc import Iterator
from pathlib import Path

from curation.catalog.spec import Catalog, LocalFiles, Part, ReleaseRows, Row, Upstream
from curation.sources.claims import Claim, Router
from curation.sources.readers import each_span, read
from curation.sources.records import Batch
from curation.sources.safe_paths import inside
from curation.upstream.places import FolderPlace, Place, matching
from curation.upstream.releases import claim_name

HEAD_BYTES = 32 << 20
SEARCHED_BYTES = 512 << 20
"""How far a record file of this machine is searched for a source's records."""


def claimed_batches(
    catalog: Catalog, row: Row, number: int, location: ReleaseRows, place: Place, folder: Path
) -> Iterator[Batch]:
    """Batches of the records that part `number` of `row` claims, in order; `folder` takes what is fetched from `place`.

    Raises CatalogError when the release has no record files, FetchError when they cannot be had.
    """
    upstream = catalog.upstreams[location.release]
    root, files = _beginnings(upstream, place, folder)
    claims = [Claim(claim_name(other.name, part), rows) for other, part, rows in catalog.claims(upstream.name)]
    router = Router(claims)
    mine = [claim.name for claim in claims].index(claim_name(row.name, number))
    # As published the files carry no upstream lines beside them, as the routed ones of a release do.
    part = row.parts[number].model_copy(update={"location": LocalFiles(files="*")})
    for file in files:
        yield from _claimed(root, file, part, router, mine)


def _claimed(root: Path, file: str, part: Part, router: Router, mine: int) -> Iterator[Batch]:
    searched = 0
    for span in each_span(root, file, part):
        if searched > SEARCHED_BYTES:
            return
        batch = read(root, span, part)
        searched += span.num_bytes
        kept = [place for place, record in enumerate(batch.records) if router.decide(record).claim == mine]
        yield Batch(file, [batch.positions[place] for place in kept], [batch.records[place] for place in kept])


def _beginnings(upstream: Upstream, place: Place, folder: Path) -> tuple[Path, list[str]]:
    """Where the record files lie, and their names; of those that lie elsewhere the beginnings, below `folder`."""
    names = matching(place, upstream.record_patterns, f"upstream '{upstream.name}'")
    if isinstance(place, FolderPlace):
        return place.root, names
    for name in names:
        keep_head(place, name, folder)
    return folder, names


def keep_head(place: Place, name: str, folder: Path) -> bool:
    """Write the beginning of a file below `folder`, up to its last whole line; whether that is not all of it."""
    data = place.head(name, HEAD_BYTES)
    is_cut = len(data) == HEAD_BYTES
    path = inside(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[: data.rfind(b"\n") + 1 or len(data)] if is_cut else data)
    return is_cut
