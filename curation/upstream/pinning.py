"""Which commits the branches of a catalog's datasets on the Hub mean: as this root fetched them, or as the Hub says now."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from curation.catalog.hub_path import hub_path
from curation.catalog.locations import HubDataset
from curation.catalog.pins import COMMIT, Pins
from curation.catalog.spec import Catalog, LocalFiles, Location, ReleaseRows, Row, Source, Upstream
from curation.errors import FetchError
from curation.fetch.hub import ask_dataset, remembered_commit


@dataclass(frozen=True, slots=True)
class Pin:
    """A branch of a dataset, the commit that it means and the one it was pinned to; `problem` says why none is known."""

    dataset: str
    branch: str
    commit: str | None
    before: str | None = None
    problem: str | None = None


def pins_of(catalog: Catalog, rows: Iterable[Row], known: Pins, root: Path | None, *, refresh: bool = False) -> list[Pin]:
    """A pin for each branch that `rows` name, originals included, sorted; `catalog` must have been read without its pins.

    A branch that is pinned stays so, and else what was fetched below `root` counts; `refresh` asks the Hub for all of them.
    """
    return [
        _pin(dataset, branch, known.get(dataset, {}).get(branch), root, refresh=refresh)
        for dataset, branch in sorted(set(_branches(catalog, rows)))
    ]


def with_pins(known: Pins, pins: Iterable[Pin]) -> dict[str, dict[str, str]]:
    """`known` with the commits of `pins`; what could not be asked stays as it was."""
    found = {dataset: dict(branches) for dataset, branches in known.items()}
    for pin in pins:
        if pin.commit is not None:
            found.setdefault(pin.dataset, {})[pin.branch] = pin.commit
    return found


def _pin(dataset: str, branch: str, before: str | None, root: Path | None, *, refresh: bool) -> Pin:
    if not refresh:
        kept = before or (remembered_commit(dataset, branch, root) if root is not None else None)
        if kept is not None:
            return Pin(dataset, branch, kept, before)
    try:
        return Pin(dataset, branch, str(ask_dataset(dataset, branch).sha), before)
    except FetchError as problem:
        return Pin(dataset, branch, None, before, str(problem))


def _branches(catalog: Catalog, rows: Iterable[Row]) -> Iterator[tuple[str, str]]:
    for row in rows:
        originals = row.original if isinstance(row, Source) else []
        locations = [*(part.location for part in row.parts), *(original.location for original in originals)]
        parts = [*row.parts, *(original.part for original in originals if original.part is not None)]
        named = [pair for location in locations for pair in _named(catalog, location)]
        urls = [url for part in parts for url in (part.images.packed if part.images else ())]
        named += [(place.dataset, place.revision) for url in urls if (place := hub_path(url)) is not None]
        yield from ((dataset, revision) for dataset, revision in named if not COMMIT.fullmatch(revision))


def _named(catalog: Catalog, location: Location) -> Iterator[tuple[str, str]]:
    """Datasets and revisions that reading a location asks the Hub for."""
    if isinstance(location, HubDataset):
        yield location.hub, location.revision
    elif isinstance(location, ReleaseRows):
        yield from _of_upstream(catalog.upstreams[location.release])
    elif isinstance(location, LocalFiles) and (place := hub_path(location.root)) is not None:
        yield place.dataset, place.revision


def _of_upstream(upstream: Upstream) -> Iterator[tuple[str, str]]:
    if upstream.hub is not None:
        yield upstream.hub, upstream.revision
    for listed in upstream.archives.values():
        for url in [listed] if isinstance(listed, str) else listed:
            if (place := hub_path(url)) is not None:
                yield place.dataset, place.revision
