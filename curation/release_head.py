"""The first records of a release that one source claims, read from the front of its record files: to be tried, not ingested.

Of a release that lies elsewhere only the beginning of each record file is asked for. What no row claims, and lines that cannot
be parsed, belong to no source and are passed over here; ingestion counts them.
"""

from collections.abc import Iterator
from pathlib import Path

import fsspec  # type: ignore[import-untyped]

from curation.catalog import Catalog, LocalFiles, Part, ReleaseRows, Row, Upstream, expand_environment
from curation.errors import CatalogError, FetchError
from curation.fetch.client import Client, Temporary
from curation.fetch.files import list_files
from curation.fetch.http import HttpFile
from curation.fetch.hub import TOKEN, repository_files, resolved
from curation.locations import is_remote
from curation.sources.claims import Claim, Router
from curation.sources.readers import each_span, read
from curation.sources.records import Batch
from curation.upstreams import claim_name, matching_names

HEAD_BYTES = 32 << 20
SEARCHED_BYTES = 512 << 20
"""How far a record file of this machine is searched for a source's records."""
_TIMEOUT_S = 60.0


def claimed_batches(catalog: Catalog, row: Row, number: int, location: ReleaseRows, folder: Path) -> Iterator[Batch]:
    """Batches of the records that part `number` of `row` claims, in order; `folder` takes what has to be fetched.

    Raises CatalogError when the release has no record files, FetchError when they cannot be had.
    """
    upstream = catalog.upstreams[location.release]
    root, files = _beginnings(catalog, upstream, folder)
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


def _beginnings(catalog: Catalog, upstream: Upstream, folder: Path) -> tuple[Path, list[str]]:
    """Where the record files lie, and their names; of those that lie elsewhere the beginnings, below `folder`."""
    if upstream.hub is not None:
        return folder, _from_hub(upstream.hub, upstream, folder)
    root = expand_environment(str(upstream.root))
    if is_remote(root):
        return folder, _from_bucket(root, upstream, folder)
    here = catalog.root_of(upstream)
    names = sorted(path.relative_to(here).as_posix() for pattern in upstream.record_patterns for path in here.glob(pattern))
    if not names:
        raise CatalogError(f"upstream '{upstream.name}': no file matches {', '.join(upstream.record_patterns)} below {here}")
    return here, names


def _from_hub(dataset: str, upstream: Upstream, folder: Path) -> list[str]:
    files = repository_files(dataset, resolved(dataset, upstream.revision, folder), folder)
    names = sorted({name for pattern in upstream.record_patterns for name in matching_names(list(files), pattern)})
    if not names:
        raise CatalogError(f"upstream '{upstream.name}': hub:{dataset} has no file {', '.join(upstream.record_patterns)}")
    for name in names:
        _keep(folder / name, _head_of(files[name]))
    return names


def _head_of(file: HttpFile) -> bytes:
    data = bytearray()
    try:
        with (
            Client(1, _TIMEOUT_S) as client,
            client.get(file.url, {"Range": f"bytes=0-{HEAD_BYTES - 1}"}, token=TOKEN) as answer,
        ):
            for block in answer.blocks():
                data += block
                if len(data) >= HEAD_BYTES:
                    break
    except Temporary as problem:
        raise FetchError(f"{file.name}: {problem}; try again") from None
    return bytes(data[:HEAD_BYTES])


def _from_bucket(root: str, upstream: Upstream, folder: Path) -> list[str]:
    names = [file.name for file in list_files(root, upstream.record_patterns)]
    for name in names:
        try:
            with fsspec.open(f"{root.rstrip('/')}/{name}", "rb") as handle:
                _keep(folder / name, handle.read(HEAD_BYTES))
        except OSError as problem:
            raise FetchError(f"{root}/{name}: {problem}") from None
    return names


def _keep(path: Path, data: bytes) -> None:
    """Write the beginning of a file, up to its last whole line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data[: data.rfind(b"\n") + 1] if len(data) == HEAD_BYTES else data)
