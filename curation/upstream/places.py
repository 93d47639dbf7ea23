"""Files where they lie, to look into a few of them: a folder, a bucket, a web server, a repository on the Hub."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

import fsspec  # type: ignore[import-untyped]

from curation.catalog.hub_path import HubPath, hub_path
from curation.catalog.locations import HttpFiles, HubDataset, is_remote
from curation.catalog.spec import Catalog, LocalFiles, Location, Upstream, expand_environment
from curation.errors import CatalogError, FetchError
from curation.fetch.addresses import shown_url, without_secrets
from curation.fetch.far_file import RangedFile, read_head
from curation.fetch.files import list_files
from curation.fetch.http import HttpFile, name_of
from curation.fetch.hub import repository_files, resolved
from curation.upstream.elsewhere import matching_names
from curation.upstream.releases import listed_names


class NotThereError(FetchError):
    """A place answers, and has no such file."""


class Place(Protocol):
    """Where files lie. Its methods raise FetchError where they cannot be had, NotThereError for a file that is not there."""

    @property
    def shown(self) -> str:
        """The place for people."""

    def names(self, pattern: str) -> list[str]:
        """Files that match a pattern, sorted."""

    def head(self, name: str, limit: int) -> bytes:
        """Up to `limit` bytes from the beginning of a file."""

    def open(self, name: str) -> BinaryIO:
        """A file, to be read at any place."""


@dataclass(frozen=True, slots=True)
class FolderPlace:
    """A folder of this machine."""

    root: Path

    @property
    def shown(self) -> str:
        """The folder."""
        return str(self.root)

    def names(self, pattern: str) -> list[str]:
        """See Place."""
        return listed_names(self.root, pattern)

    def head(self, name: str, limit: int) -> bytes:
        """See Place."""
        with self.open(name) as handle:
            return handle.read(limit)

    def open(self, name: str) -> BinaryIO:
        """See Place."""
        try:
            return (self.root / name).open("rb")
        except FileNotFoundError:
            raise NotThereError(f"{self.root} has no file '{name}'") from None
        except OSError as problem:
            raise FetchError(f"{self.root / name}: {problem.strerror}") from None


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """Everything below an fsspec URL."""

    url: str

    @property
    def shown(self) -> str:
        """The URL without what is secret."""
        return shown_url(self.url)

    def names(self, pattern: str) -> list[str]:
        """See Place."""
        return [file.name for file in list_files(self.url, [pattern])]

    def head(self, name: str, limit: int) -> bytes:
        """See Place."""
        with self.open(name) as handle:
            return handle.read(limit)

    def open(self, name: str) -> BinaryIO:
        """See Place."""
        try:
            return cast(BinaryIO, fsspec.open(f"{self.url.rstrip('/')}/{name}", "rb").open())
        except FileNotFoundError:
            raise NotThereError(f"{self.shown} has no file '{name}'") from None
        except Exception as problem:  # every store raises errors of its own
            words = without_secrets(f"{type(problem).__name__}: {problem}"[:300])
            raise FetchError(f"{self.shown}/{name}: {words}") from None


@dataclass(frozen=True, slots=True)
class WebPlace:
    """Files at URLs, by name; a repository on the Hub is one, below `prefix`."""

    shown: str
    files: Mapping[str, HttpFile]
    prefix: str = ""

    def names(self, pattern: str) -> list[str]:
        """See Place."""
        found = matching_names(list(self.files), self.prefix + pattern)
        return [name.removeprefix(self.prefix) for name in found]

    def head(self, name: str, limit: int) -> bytes:
        """See Place."""
        return read_head(self._file(name), limit)

    def open(self, name: str) -> BinaryIO:
        """See Place."""
        return cast(BinaryIO, RangedFile(self._file(name)))

    def _file(self, name: str) -> HttpFile:
        if self.prefix + name not in self.files:
            raise NotThereError(f"{self.shown} has no file '{name}'")
        return self.files[self.prefix + name]


def place_of(location: Location, folder: Path) -> Place | None:
    """Where the files of a location that is elsewhere lie; None for other kinds. `folder` takes what the Hub says of a
    repository."""
    if isinstance(location, HttpFiles):
        files = {item.file: HttpFile(item.url, item.file, item.size, item.sha256) for item in location.http}
        return WebPlace(shown_url(str(location)), files)
    if not isinstance(location, LocalFiles) or location.is_here:
        return None
    url = expand_environment(location.root)
    named = hub_path(url)
    return _repository(named, folder) if named is not None else BucketPlace(url)


def place_of_repository(location: HubDataset, folder: Path) -> Place:
    """The repository that a split on the Hub lies in. Raises FetchError when it cannot be asked."""
    return _repository(HubPath(location.hub, location.revision, ""), folder)


def place_of_release(catalog: Catalog, upstream: Upstream, folder: Path) -> Place:
    """Where a release lies. Raises CatalogError or FetchError when that cannot be asked."""
    if upstream.hub is not None:
        return _repository(HubPath(upstream.hub, upstream.revision, ""), folder)
    root = expand_environment(str(upstream.root))
    return BucketPlace(root) if is_remote(root) else FolderPlace(catalog.root_of(upstream))


def place_of_url(url: str, folder: Path) -> tuple[Place, str]:
    """The place that the URL of an archive lies in, and its pattern there."""
    url = expand_environment(url)
    if (named := hub_path(url)) is not None:
        return _repository(HubPath(named.dataset, named.revision, ""), folder), named.path
    if url.startswith(("http://", "https://")):
        name = name_of(url)
        return WebPlace(shown_url(url), {name: HttpFile(url, name)}), name
    parent, _, name = url.rpartition("/")
    return BucketPlace(parent), name


def _repository(named: HubPath, folder: Path) -> WebPlace:
    home = folder / named.dataset.replace("/", "--")
    commit = resolved(named.dataset, named.revision, home)
    prefix = f"{named.path}/" if named.path else ""
    files = repository_files(named.dataset, commit, home)
    return WebPlace(f"hub:{named.dataset}@{named.revision}", files, prefix)


def matching(place: Place, patterns: tuple[str, ...], whose: str) -> list[str]:
    """Files of a place that match any of `patterns`, sorted. Raises CatalogError for a pattern that nothing matches."""
    found: set[str] = set()
    for pattern in patterns:
        names = place.names(pattern)
        if not names:
            raise CatalogError(f"{whose}: no file matches '{pattern}' in {place.shown}")
        found |= set(names)
    return sorted(found)
