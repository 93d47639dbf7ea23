"""What a source's samples are made from: every upstream file that may be read, with its size and hash.

Files that lie elsewhere are fetched first (`curation.fetch`), so that all further reading is of local files. The hashes name
the artefact, so a changed picture is noticed as surely as a changed annotation. They are remembered by (path, size, time of
change): a later run looks at directory entries only.
"""

import hashlib
import os
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import polars as pl

from curation.catalog.hub_path import HubPath, hub_path
from curation.catalog.locations import HttpFiles, HubDataset, is_remote
from curation.catalog.spec import Catalog, LocalFiles, Part, ReleaseRows, Row, expand_environment
from curation.errors import CatalogError, FetchError
from curation.fetch.addresses import shown_url
from curation.fetch.archives import Archive, PictureArchives, group_archives
from curation.fetch.files import STATE_FOLDER, fetch_files, forget_listings
from curation.fetch.hashes import remembered_hashes
from curation.fetch.http import HttpFile, fetch_http, forget_receipts
from curation.fetch.hub import HubSplit, fetch_split, forget_revision, home_of, resolved, split_folder
from curation.fetch.local import alone_in
from curation.fingerprint import fingerprint
from curation.runtime.pool import Pool
from curation.sources.routing import Routed
from curation.sources.safe_paths import stays_inside
from curation.storage.store import Store
from curation.upstream.elsewhere import Fetched, archives_of_part, forget_elsewhere, hub_files
from curation.upstream.picture_urls import PICTURES, fetched_pictures, forget_pictures
from curation.upstream.releases import UpstreamFiles, claim_name, forget_upstream, release_rows

_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, slots=True)
class PartInputs:
    """The files of one part: `records` to read records from, `others` that belong to them, relative to `root`, sorted.

    `part` is the catalog's, as it is to be read here; `archives` hold pictures and are read as streams.
    """

    root: Path
    records: tuple[str, ...]
    others: tuple[str, ...]
    part: Part
    archives: tuple[PictureArchives, ...] = ()
    place: Mapping[str, str] = field(default_factory=dict)
    """Where the files were fetched from, for the manifest; nothing for files of this machine."""
    picture_root: Path | None = None
    """What pictures lie below, where that is not `root`."""
    pictures: tuple[str, ...] = ()
    """Pictures below `picture_root`, fetched from the URLs that the records name."""


def find_inputs(catalog: Catalog, row: Row, store: Store, pool: Pool) -> list[PartInputs]:
    """The files of each part, fetched when they lie elsewhere.

    Raises CatalogError when a location does not exist or its patterns match nothing, FetchError when records cannot be had.
    """
    found = [_find(catalog, row, number, store, pool) for number in range(len(row.parts))]
    return [_with_pictures(row, part, store, pool) for part in found]


def _with_pictures(row: Row, found: PartInputs, store: Store, pool: Pool) -> PartInputs:
    """The inputs with the pictures that lie at URLs: archives that the part names, and pictures that its records name."""
    images = found.part.images
    if images is None:
        return found
    if images.url is not None:
        folder, pictures = fetched_pictures(row.name, found.root, found.records, found.part, store, pool)
        return replace(found, picture_root=folder, pictures=pictures)
    urls = tuple(name for name in images.packed if is_remote(name))
    if not urls:
        return found
    far, places = archives_of_part(urls, store, pool)
    both = (*found.archives, far)
    archives = [archive for each in both for archive in each.archives]
    together = PictureArchives.of_part(archives, [each.lack for each in both if each.lack])
    return replace(found, archives=(together,), place={**found.place, "archives": ", ".join(places)})


def _find(catalog: Catalog, row: Row, number: int, store: Store, pool: Pool) -> PartInputs:
    part = row.parts[number]
    location = part.location
    if isinstance(location, LocalFiles) and location.is_here:
        return _local(row, part, catalog.root_of(part), location.patterns)
    if isinstance(location, LocalFiles):
        return _stored(row, part, location, store, pool)
    if isinstance(location, HttpFiles):
        return _from_web(row, part, location, store, pool)
    if isinstance(location, HubDataset):
        return _from_hub(row, part, location, store, pool)
    return _from_release(catalog, row, number, location, store, pool)


def find_records(catalog: Catalog, row: Row, part: Part) -> tuple[Path, tuple[str, ...]]:
    """The folder of a part and its record files, sorted, where they lie on this machine; nothing is fetched.

    Raises CatalogError when they lie elsewhere, or the location does not exist, or its patterns match nothing.
    """
    if not isinstance(part.location, LocalFiles) or not part.location.is_here:
        raise CatalogError(
            f"source '{row.name}': its records lie at {part.location}, and only files of this machine can be read without "
            "fetching; copy them here and set `location: {root: ..., files: ...}`, or run `curate ingest`, which fetches them"
        )
    return _matching_records(row, catalog.root_of(part), part.location.patterns)


def _local(row: Row, part: Part, root: Path, patterns: Sequence[str]) -> PartInputs:
    return _with_others(part, *_matching_records(row, root, patterns))


def _matching_records(row: Row, root: Path, patterns: Sequence[str]) -> tuple[Path, tuple[str, ...]]:
    if not root.is_dir():
        raise CatalogError(f"source '{row.name}': its location {root} is no folder; fetch the data or mend `root`")
    records: set[str] = set()
    for pattern in patterns:
        if PurePosixPath(pattern).is_absolute() or ".." in PurePosixPath(pattern).parts:
            raise CatalogError(f"source '{row.name}': pattern '{pattern}' leaves the location; stay below `root`")
        matched = {path.relative_to(root).as_posix() for path in root.glob(pattern) if path.is_file()}
        matched = {name for name in matched if not name.startswith(f"{STATE_FOLDER}/")}
        if links := sorted(name for name in matched if not stays_inside(root, root / name)):
            raise CatalogError(
                f"source '{row.name}': '{links[0]}' is a link out of {root}; put the file itself there, or mend `root`"
            )
        if not matched:
            raise CatalogError(f"source '{row.name}': no file matches '{pattern}' below {root}")
        records |= matched
    return root, tuple(sorted(records))


def _with_others(part: Part, root: Path, records: tuple[str, ...]) -> PartInputs:
    """The inputs of a part whose record files are known: all that belongs to them too."""
    others = {file for folder in _other_places(part) for file in _files_below(root, folder)}.difference(records)
    archives = _streamed_archives(part, root)
    streamed = (path for each in archives for archive in each.archives for path in archive.parts)
    others -= {PurePosixPath(path).relative_to(root).as_posix() for path in streamed}
    return PartInputs(root, records, tuple(sorted(others)), part, archives)


def _streamed_archives(part: Part, root: Path) -> tuple[PictureArchives, ...]:
    """The archive of pictures of a part when it has to be read as a stream: packed, in parts, or without its directory."""
    images = part.images
    if images is None or not images.packed_here:
        return ()
    found = {pattern: [path for path in root.glob(pattern) if path.is_file()] for pattern in images.packed_here}
    names = sorted({path.relative_to(root).as_posix() for paths in found.values() for path in paths})
    names = [name for name in names if stays_inside(root, root / name)]
    if len(images.packed) == 1:
        pattern = images.packed[0]
        if not names or (names == [pattern] and _is_seekable(root / pattern, is_zip=images.zip is not None)):
            return ()
    archives = [archive.below(root) for archive in group_archives(names)]
    lacks = [f"there is no archive '{pattern}'" for pattern, paths in found.items() if not paths]
    return (PictureArchives.of_part(archives, lacks),)


def _is_seekable(path: Path, *, is_zip: bool) -> bool:
    if is_zip:
        return zipfile.is_zipfile(path)
    with path.open("rb") as handle:
        return handle.read(2) != _GZIP


# --- Elsewhere ----------------------------------------------------------------------------------------------------------


def _stored(row: Row, part: Part, location: LocalFiles, store: Store, pool: Pool) -> PartInputs:
    url = expand_environment(location.root)
    places = sorted(set(_other_places(part)))
    if (named := hub_path(url)) is not None:
        return _repository_files(row, part, location, named, places, store, pool)
    folder = _files_folder(store, location)
    with alone_in(folder):
        failures = fetch_files(url, location.patterns, places, folder, pool.reporter)
    _expect_no_failures(row, failures)
    return replace(_local(row, part, folder, location.patterns), place={"root": shown_url(location.root)})


def _repository_files(
    row: Row, part: Part, location: LocalFiles, named: HubPath, places: Sequence[str], store: Store, pool: Pool
) -> PartInputs:
    """Files of a dataset's repository at one commit, each with the size and hash that the Hub promises."""
    files = hub_files(named.dataset, named.revision, store)
    prefix = f"{named.path}/" if named.path else ""
    whole = part.images.packed_here if part.images else ()
    patterns = [
        *location.patterns,
        *(
            place if place in whole or prefix + place in files.files else f"{place.strip('./')}/*".lstrip("/")
            for place in places
        ),
    ]
    with alone_in(files.root):
        for pattern in patterns:
            _expect_no_failures(row, files.get(prefix + pattern, pool)[1])
    root = files.root / named.path
    return replace(_local(row, part, root, location.patterns), place={"hub": named.dataset, "commit": files.commit})


def _files_folder(store: Store, location: LocalFiles) -> Path:
    return store.root / "upstream" / "files" / fingerprint(location.root)


def _web_folder(store: Store, files: Sequence[HttpFile]) -> Path:
    return store.root / "upstream" / "http" / fingerprint(sorted([file.url, file.name] for file in files))


def _web_files(location: HttpFiles) -> list[HttpFile]:
    return [HttpFile(item.url, item.file, item.size, item.sha256) for item in location.http]


def _from_web(row: Row, part: Part, location: HttpFiles, store: Store, pool: Pool) -> PartInputs:
    files = _web_files(location)
    folder = _web_folder(store, files)
    with alone_in(folder):
        failures = fetch_http(files, folder, pool.reporter)
    _expect_no_failures(row, failures)
    records = [file.name for file in files if not part.is_aside(file.name)]
    found = _local(row, part, folder, [_literal(name) for name in records])
    return replace(found, place={"http": ", ".join(shown_url(file.url) for file in files)})


def _literal(name: str) -> str:
    return "".join(f"[{sign}]" if sign in "*?[" else sign for sign in name)


def _from_hub(row: Row, part: Part, location: HubDataset, store: Store, pool: Pool) -> PartInputs:
    what = HubSplit(location.hub, location.config, location.split, location.revision)
    home = home_of(location.hub, store.root)
    with alone_in(home):
        commit = resolved(location.hub, location.revision, home)
    folder = split_folder(what, commit, store.root)
    with alone_in(folder):
        fetch_split(what, commit, folder, pool.reporter)
    place = {"hub": location.hub, "commit": commit}
    root, records = _matching_records(row, folder, ["part-*.parquet"])
    return PartInputs(root, records, (), part, _repository_archives(part, location, commit, store, pool), place)


def _repository_archives(
    part: Part, location: HubDataset, commit: str, store: Store, pool: Pool
) -> tuple[PictureArchives, ...]:
    """The archives of pictures that lie in the repository of a split; what cannot be had is told, not raised."""
    if part.images is None or not part.images.packed_here:
        return ()
    files = hub_files(location.hub, commit, store)
    archives: list[Archive] = []
    lacks: list[str] = []
    for pattern in part.images.packed_here:
        with alone_in(files.root):
            found = Fetched(files.root, *files.get(pattern, pool)).archives()
        archives += found
        if not found:
            lacks.append(f"hub:{location.hub} has no archive '{pattern}' at commit {commit}")
    return (PictureArchives.of_part(archives, lacks),)


def _from_release(catalog: Catalog, row: Row, number: int, location: ReleaseRows, store: Store, pool: Pool) -> PartInputs:
    upstream = catalog.upstreams[location.release]
    place = UpstreamFiles(upstream, catalog, store, pool)
    rows: Routed = release_rows(catalog, upstream, place, store, pool)
    claim = claim_name(row.name, number)
    part = row.parts[number]
    archives: tuple[PictureArchives, ...] = ()
    if part.images is not None:
        part = part.model_copy(update={"images": part.images.model_copy(update={"optional": True})})
        archives = tuple(place.picture_archives(folder) for folder in rows.image_folders(claim))
    root = rows.folder / claim
    records = rows.files(claim)
    if not records:
        raise CatalogError(
            f"source '{row.name}': no record of {location.release} has source {', '.join(location.sources)} and the image "
            f"folder that the catalog says; what nobody claims is listed in {rows.folder / 'manifest.json'}"
        )
    return PartInputs(root, records, (), part, archives, place.facts)


def forget_fetched(catalog: Catalog, row: Row, store: Store) -> None:
    """Let the next ingestion of a row ask again what its branches, buckets and URLs hold; no data is deleted."""
    for part in row.parts:
        if part.images is not None and part.images.url is not None:
            forget_pictures(row.name, store)
        for url in part.images.packed if part.images else ():
            if is_remote(url):
                forget_elsewhere(url, store)
        location = part.location
        if isinstance(location, HubDataset):
            forget_revision(location.hub, location.revision, store.root)
        elif isinstance(location, HttpFiles):
            forget_receipts(_web_folder(store, _web_files(location)))
        elif isinstance(location, ReleaseRows):
            forget_upstream(catalog.upstreams[location.release], store)
        elif not location.is_here:
            named = hub_path(expand_environment(location.root))
            if named is not None:
                forget_revision(named.dataset, named.revision, store.root)
            forget_listings(_files_folder(store, location))


def _expect_no_failures(row: Row, failures: dict[str, str]) -> None:
    if failures:
        more = f" (and {len(failures) - 1} more files)" if len(failures) > 1 else ""
        raise FetchError(f"source '{row.name}': {next(iter(failures.values()))}{more}; run again to go on where it stopped")


def _other_places(part: Part) -> Iterator[str]:
    """Files and folders, relative to the root, that joins and pictures of the part may come from."""
    for join in part.join.values():
        yield _fixed_folder(join.file)
    images = part.images
    if images is None or images.archives:
        return
    if images.packed:
        yield from images.packed_here
    elif images.path is not None:
        folder = images.folder or "."
        prefix = _fixed_folder(images.path) if isinstance(images.path, str) and "{" in images.path else "."
        yield str(PurePosixPath(folder) / prefix)


def _fixed_folder(template: str) -> str:
    """The part of a path template that is the same for all records: whole, or its folders before the first field."""
    before, brace, _ = template.partition("{")
    return before if not brace else str(PurePosixPath(before + "x").parent)


def _files_below(root: Path, place: str) -> Iterator[str]:
    start = root / place
    if start.is_file():
        yield PurePosixPath(place).as_posix()
        return
    for folder, folders, names in os.walk(start):
        folders[:] = [name for name in folders if name != STATE_FOLDER]
        for name in names:
            path = Path(folder, name)
            if _is_nameable(path) and (not path.is_symlink() or stays_inside(root, path)):
                yield path.relative_to(root).as_posix()


def _is_nameable(path: Path) -> bool:
    """Whether the name is UTF-8: no record can mean a file with another."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def hash_inputs(store: Store, row: Row, inputs: Sequence[PartInputs], pool: Pool) -> pl.DataFrame:
    """Columns file (`<part>/<name>`), size, sha256, one row a file in order. Raises SourceError for an unreadable file."""
    files = [(f"{number}/{name}", path) for number, part in enumerate(inputs) for name, path in _named_files(part)]
    cache = store.root / "cache" / "hashes" / f"{row.name}.parquet"
    return remembered_hashes(files, cache, pool, label=f"hash {row.name}")


def _named_files(part: PartInputs) -> Iterator[tuple[str, Path]]:
    for file in sorted((*part.records, *part.others)):
        yield file, part.root / file
    if part.picture_root is not None:
        yield from ((f"{PICTURES}/{name}", part.picture_root / name) for name in part.pictures)
    seen: set[str] = set()
    for each in part.archives:
        for archive in each.archives:
            for name, path in archive.named_parts():
                if name not in seen:
                    seen.add(name)
                    yield name, Path(path)


def inputs_digest(files: pl.DataFrame) -> str:
    """One hash over names, sizes and hashes, independent of where the files lie."""
    digest = hashlib.sha256()
    for row in files.iter_rows():
        digest.update("\0".join(map(str, row)).encode() + b"\n")
    return digest.hexdigest()
