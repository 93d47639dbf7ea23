"""The files of a release: its records, and the archives of pictures, from wherever it lies.

Records must be there whole, or nothing can be told apart. An archive that cannot be had, or only in part, stands back: what is
whole is read, and the rest is refused by the archive's name until a later run gets it.
"""

from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from curation.catalog.locations import is_remote
from curation.catalog.spec import Catalog, Upstream, expand_environment
from curation.errors import CatalogError, FetchError
from curation.fetch.archives import Archive, PictureArchives
from curation.fetch.files import fetch_files, forget_listings
from curation.fetch.hashes import remembered_hashes
from curation.fetch.http import forget_receipts
from curation.fetch.hub import forget_revision
from curation.fetch.local import alone_in
from curation.runtime.pool import Pool
from curation.sources.claims import Claim
from curation.sources.routing import Routed, routed
from curation.storage.store import Store
from curation.upstream.elsewhere import Fetched, from_elsewhere, hub_files


def claim_name(row: str, part: int) -> str:
    """The folder in which the rows of one part of a source lie."""
    return row if part == 0 else f"{row}-part{part}"


def release_rows(catalog: Catalog, upstream: Upstream, place: "UpstreamFiles", store: Store, pool: Pool) -> Routed:
    """The release routed by what the catalog's rows claim of it. Raises FetchError or CatalogError without its records."""
    claims = [Claim(claim_name(row.name, part), rows) for row, part, rows in catalog.claims(upstream.name)]
    cache = store.root / "cache" / "hashes" / f"upstream-{upstream.name}.parquet"
    with alone_in(place.root):
        root, names = place.records()
        hashes = remembered_hashes([(name, root / name) for name in names], cache, pool, label=f"hash {upstream.name}")
        return routed(upstream.name, root, list(zip(hashes["file"], hashes["sha256"], strict=True)), claims, store, pool)


class UpstreamFiles:
    """Files of one upstream as local files; what lies elsewhere is fetched when it is asked for."""

    def __init__(self, upstream: Upstream, catalog: Catalog, store: Store, pool: Pool) -> None:
        self._upstream = upstream
        self._store = store
        self._pool = pool
        root = expand_environment(upstream.root) if upstream.root is not None else ""
        self._url = root if is_remote(root) else None
        self._hub = hub_files(upstream.hub, upstream.revision, store) if upstream.hub is not None else None
        if self._hub is not None:
            self.root = self._hub.root
        elif self._url is not None:
            self.root = store.root / "upstream" / upstream.name / "files"
        else:
            self.root = catalog.root_of(upstream)

    @property
    def facts(self) -> dict[str, str]:
        """What a manifest says of where the release lies."""
        found = {"upstream": self._upstream.name, "place": self._shown()}
        return found | {"commit": self._hub.commit} if self._hub else found

    def records(self) -> tuple[Path, list[str]]:
        """The record files, whole, below a folder. Raises CatalogError or FetchError when they are not to be had."""
        names: set[str] = set()
        for pattern in self._upstream.record_patterns:
            found, failures = self._get(pattern)
            if failures:
                raise FetchError(f"upstream '{self._upstream.name}': {next(iter(failures.values()))}; run again to go on")
            if not found:
                raise CatalogError(f"upstream '{self._upstream.name}': no file matches '{pattern}' below {self._shown()}")
            names |= set(found)
        return self.root, sorted(names)

    def picture_archives(self, folder: str) -> PictureArchives:
        """The archives of the pictures whose paths begin with `folder`; never raises for those that cannot be had."""
        archives: list[Archive] = []
        lacks: list[str] = []
        for pattern in self._upstream.archives_of(folder) if _is_plain(folder) else ():
            try:
                with alone_in(self._store.root):
                    found = self._archives(pattern)
            except FetchError as problem:
                lacks.append(str(problem))
                continue
            archives += found
            if not found:
                lacks.append(f"there is no archive '{pattern}' in {self._shown()}")
        lack = "; ".join(lacks) or f"the release has no archive for the image folder '{folder}'"
        if lacks and archives:
            archives += [Archive(folder, (), lack)]  # some are there: what the others hold is lost with them
        return PictureArchives(folder, tuple(archives), None if archives else lack)

    def _archives(self, pattern: str) -> list[Archive]:
        if is_remote(pattern):
            folder = self._store.root / "upstream" / self._upstream.name / "elsewhere"
            return from_elsewhere(expand_environment(pattern), folder, self._store, self._pool).archives()
        return Fetched(self.root, *self._get(pattern)).archives()

    def _get(self, pattern: str) -> tuple[list[str], dict[str, str]]:
        """Files that match `pattern`, here now, and why by name for those that could not be fetched."""
        reporter = self._pool.reporter
        if self._hub is not None:
            return self._hub.get(pattern, self._pool)
        if self._url is not None:
            failures = fetch_files(self._url, [pattern], [], self.root, reporter)
            names = [file for file in listed_names(self.root, pattern) if file not in failures]
            return names, failures
        return listed_names(self.root, pattern), {}

    def _shown(self) -> str:
        return f"hub:{self._upstream.hub}@{self._upstream.revision}" if self._upstream.hub else str(self._upstream.root)


def forget_upstream(upstream: Upstream, store: Store) -> None:
    """Let the next ingestion ask again what a release holds."""
    if upstream.hub is not None:
        forget_revision(upstream.hub, upstream.revision, store.root)
    for name in ("files", "elsewhere"):
        forget_listings(store.root / "upstream" / upstream.name / name)
    forget_receipts(store.root / "upstream" / upstream.name / "elsewhere")


def _is_plain(folder: str) -> bool:
    return folder not in ("", ".", "..") and not set("/\\\0*?[]{}") & set(folder)


def listed_names(root: Path, pattern: str) -> list[str]:
    """Files below `root` that match `pattern`, in another case when none does as it stands."""
    real_root = root.resolve()
    exact = [path for path in root.glob(pattern) if path.is_file()]
    if not exact:
        parent, name = root / PurePosixPath(pattern).parent, PurePosixPath(pattern).name
        there = sorted(parent.iterdir()) if parent.is_dir() else []
        exact = [path for path in there if path.is_file() and fnmatchcase(path.name.casefold(), name.casefold())]
    return sorted(path.relative_to(root).as_posix() for path in exact if path.resolve().is_relative_to(real_root))
