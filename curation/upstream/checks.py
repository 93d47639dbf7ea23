"""Is what the catalog names still where it says? Asked without fetching or ingesting anything.

Each check is one function of a location; nothing is raised for what lies elsewhere: a problem is part of the answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.catalog.hub_path import HubPath, hub_path
from curation.catalog.locations import HttpFiles, HubDataset, Location, is_remote
from curation.catalog.spec import Catalog, LocalFiles, Part, ReleaseRows, Row, Upstream, expand_environment
from curation.errors import CurationError, FetchError
from curation.fetch.addresses import shown_url
from curation.fetch.client import Client, Temporary
from curation.fetch.files import list_files
from curation.fetch.hub import ask_dataset
from curation.upstream.elsewhere import matching_names

CONNECTIONS = 4
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class LocationCheck:
    """What was found of one location. `num_bytes` is None where a server does not say; `license` where nobody does.

    `commit` is what the revision means now; `problem` says why the location cannot be used as the catalog has it.
    """

    kind: str
    place: str
    num_files: int | None = None
    num_bytes: int | None = None
    commit: str | None = None
    license: str | None = None
    problem: str | None = None

    @property
    def is_fine(self) -> bool:
        """Whether the location can be used."""
        return self.problem is None


def check_row(catalog: Catalog, row: Row) -> list[LocationCheck]:
    """One check for each part of a row, in order."""
    return [check_location(catalog, part.location) for part in row.parts]


def check_location(catalog: Catalog, location: Location) -> LocationCheck:
    """Whether a location can be reached and still holds what the catalog says: files, sizes, revision, licence."""
    kind, check = _CHECKS[type(location)]
    try:
        return check(catalog, location)
    except (CurationError, Temporary) as problem:
        return LocationCheck(kind, str(location), problem=str(problem))


def check_archives(part: Part) -> list[LocationCheck]:
    """One check for each archive of pictures of a part that lies elsewhere: at a URL, or in the repository of its split.

    Pictures at URLs of their own are not asked for: that is what fetching them is.
    """
    location = part.location
    found: list[LocationCheck] = []
    for place in part.images.packed if part.images else ():
        if is_remote(place):
            url = place
        elif isinstance(location, HubDataset):
            url = str(HubPath(location.hub, location.revision, place))
        elif isinstance(location, LocalFiles) and not location.is_here:
            url = f"{location.root.rstrip('/')}/{place}"
        else:
            continue
        try:
            found.append(_check_archive(url))
        except (CurationError, Temporary) as problem:
            found.append(LocationCheck("archive", _shown(url), problem=str(problem)))
    return found


def _check_archive(url: str) -> LocationCheck:
    if (named := hub_path(url)) is not None:
        sizes = _sizes(ask_dataset(named.dataset, named.revision))
        names = matching_names(list(sizes), named.path)
        if not names:
            raise FetchError(f"hub:{named.dataset} has no archive '{named.path}' at revision {named.revision}")
        return LocationCheck("archive", url, len(names), _total({name: sizes[name] for name in names}))
    if url.startswith(("http://", "https://")):
        with Client(CONNECTIONS, TIMEOUT_S) as client, client.get(url, {}, method="HEAD") as answer:
            return LocationCheck("archive", _shown(url), 1, answer.total)
    parent, _, pattern = expand_environment(url).rpartition("/")
    files = list_files(parent, [pattern])
    return LocationCheck("archive", _shown(url), len(files), sum(file.size for file in files))


def _shown(url: str) -> str:
    return url if hub_path(url) else shown_url(url)


def _check_files(catalog: Catalog, location: LocalFiles) -> LocationCheck:
    if location.is_here:
        return _check_folder(
            "files", str(location), (catalog.folder / expand_environment(location.root)).resolve(), location.patterns
        )
    if (named := hub_path(expand_environment(location.root))) is not None:
        return _check_repository(location, named)
    files = list_files(expand_environment(location.root), location.patterns)
    return LocationCheck("files", str(location), len(files), sum(file.size for file in files))


def _check_repository(location: LocalFiles, named: HubPath) -> LocationCheck:
    """Files of a dataset's repository on the Hub, at the commit that its revision means now."""
    info = ask_dataset(named.dataset, named.revision)
    sizes = _sizes(info)
    prefix = f"{named.path}/" if named.path else ""
    found: set[str] = set()
    for pattern in location.patterns:
        names = matching_names(list(sizes), prefix + pattern)
        if not names:
            raise FetchError(f"hub:{named.dataset} has no file that matches '{prefix + pattern}' at revision {named.revision}")
        found |= set(names)
    listed = {name: sizes[name] for name in found}
    return LocationCheck("files", str(location), len(listed), _total(listed), str(info.sha), _license(info))


def _check_folder(kind: str, place: str, root: Path, patterns: Sequence[str]) -> LocationCheck:
    if not root.is_dir():
        raise FetchError(f"{root} is no folder")
    found: set[Path] = set()
    for pattern in patterns:
        matched = {path for path in root.glob(pattern) if path.is_file()}
        if not matched:
            raise FetchError(f"no file matches '{pattern}' below {root}")
        found |= matched
    return LocationCheck(kind, place, len(found), sum(path.stat().st_size for path in found))


def _check_web(_catalog: Catalog, location: HttpFiles) -> LocationCheck:
    sizes: list[int | None] = []
    with Client(CONNECTIONS, TIMEOUT_S) as client:
        for file in location.http:
            with client.get(file.url, {}, method="HEAD") as answer:
                sizes.append(answer.total)
            if file.size is not None and answer.total not in (None, file.size):
                raise FetchError(f"{shown_url(file.url)} has {answer.total:,} bytes now, the catalog says {file.size:,}")
    known = [size for size in sizes if size is not None]
    return LocationCheck("http", shown_url(str(location)), len(sizes), sum(known) if len(known) == len(sizes) else None)


def _check_hub(_catalog: Catalog, location: HubDataset) -> LocationCheck:
    info = ask_dataset(location.hub, location.revision)
    files = _sizes(info)
    return LocationCheck("hub", str(location), len(files), _total(files), str(info.sha), _license(info))


def _check_release(catalog: Catalog, location: ReleaseRows) -> LocationCheck:
    check = check_upstream(catalog, catalog.upstreams[location.release])
    return LocationCheck("release", str(location), check.num_files, check.num_bytes, check.commit, check.license, check.problem)


def check_upstream(catalog: Catalog, upstream: Upstream) -> LocationCheck:
    """Whether a release's record files are there, with their size; on the Hub also its commit and licence."""
    try:
        if upstream.hub is not None:
            info = ask_dataset(upstream.hub, upstream.revision)
            sizes = _sizes(info)
            names = {name for pattern in upstream.record_patterns for name in matching_names(list(sizes), pattern)}
            if not names:
                raise FetchError(f"hub:{upstream.hub} has no file that matches {', '.join(upstream.record_patterns)}")
            found = {name: sizes[name] for name in names}
            return LocationCheck("upstream", upstream.hub, len(found), _total(found), str(info.sha), _license(info))
        root = expand_environment(str(upstream.root))
        if is_remote(root):
            files = list_files(root, upstream.record_patterns)
            return LocationCheck("upstream", root, len(files), sum(file.size for file in files))
        return _check_folder("upstream", str(upstream.root), catalog.root_of(upstream), upstream.record_patterns)
    except (CurationError, Temporary) as problem:
        return LocationCheck("upstream", upstream.hub or str(upstream.root), problem=str(problem))


def _sizes(info: Any) -> dict[str, int | None]:
    return {item.rfilename: item.size for item in info.siblings or ()}


def _total(sizes: Mapping[str, int | None]) -> int | None:
    known = [size for size in sizes.values() if size is not None]
    return sum(known) if len(known) == len(sizes) else None


def _license(info: Any) -> str | None:
    """The licence that a dataset's card names."""
    said = (info.card_data.to_dict() if info.card_data else {}).get("license")
    if isinstance(said, list):
        return ", ".join(map(str, said))
    if said:
        return str(said)
    return next((tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")), None)


_CHECKS: Mapping[type, tuple[str, Callable[..., LocationCheck]]] = {
    LocalFiles: ("files", _check_files),
    HttpFiles: ("http", _check_web),
    HubDataset: ("hub", _check_hub),
    ReleaseRows: ("release", _check_release),
}
