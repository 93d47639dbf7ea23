"""Files of the Hub, and archives of pictures at URLs: of a dataset on the Hub, on a web server, or in a bucket."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from curation.catalog.hub_path import hub_path
from curation.catalog.spec import expand_environment
from curation.errors import FetchError
from curation.fetch.addresses import shown_url
from curation.fetch.archives import Archive, PictureArchives, group_archives
from curation.fetch.files import fetch_files, forget_listings, list_files
from curation.fetch.http import HttpFile, fetch_http, forget_receipts, name_of
from curation.fetch.hub import forget_revision, home_of, repository_files, resolved
from curation.fetch.local import alone_in
from curation.fingerprint import fingerprint
from curation.runtime.pool import Pool
from curation.storage.store import Store


def matching_names(names: Sequence[str], pattern: str) -> list[str]:
    """Names that match; those that do so in another case when none does as it stands."""
    exact = [name for name in names if fnmatchcase(name, pattern)]
    return sorted(exact or [name for name in names if fnmatchcase(name.casefold(), pattern.casefold())])


@dataclass(frozen=True, slots=True)
class HubFiles:
    """Files of a dataset's repository, fetched into `root`; upstreams that share a repository share them."""

    root: Path
    files: Mapping[str, HttpFile]
    commit: str

    def get(self, pattern: str, pool: Pool) -> tuple[list[str], dict[str, str]]:
        """Files that match `pattern`, here now, and why by name for those that could not be fetched."""
        wanted = [self.files[name] for name in matching_names(list(self.files), pattern)]
        failures = fetch_http(wanted, self.root, pool.reporter)
        return [file.name for file in wanted if file.name not in failures], failures


def hub_files(dataset: str, revision: str, store: Store) -> HubFiles:
    """What a repository holds at a revision. Raises FetchError when that is not known here and the Hub cannot be asked."""
    home = home_of(dataset, store.root)
    with alone_in(home):
        commit = resolved(dataset, revision, home)
        return HubFiles(home / commit / "files", repository_files(dataset, commit, home), commit)


@dataclass(frozen=True, slots=True)
class Fetched:
    """Files of a place, here below `root`: those that are here, and why by name for those that could not be fetched."""

    root: Path
    names: list[str]
    failures: dict[str, str]
    commit: str | None = None

    def archives(self) -> list[Archive]:
        """What archives the files make; parts that failed end theirs."""
        grouped = group_archives(sorted({*self.names, *self.failures}))
        return [_without(archive, self.failures).below(self.root) for archive in grouped]


def from_elsewhere(url: str, folder: Path, store: Store, pool: Pool) -> Fetched:
    """The files that a URL names, fetched; what is no place on the Hub lies in `folder`. Raises FetchError."""
    if (named := hub_path(url)) is not None:
        files = hub_files(named.dataset, named.revision, store)
        with alone_in(files.root):
            return Fetched(files.root, *files.get(named.path, pool), files.commit)
    with alone_in(folder):
        if url.startswith(("http://", "https://")):
            name = name_of(url)
            failures = fetch_http([HttpFile(url, name)], folder, pool.reporter)
            return Fetched(folder, [] if failures else [name], failures)
        parent, _, pattern = url.rpartition("/")
        failures = fetch_files(parent, [pattern], [], folder, pool.reporter)
        return Fetched(folder, [file.name for file in list_files(parent, [pattern]) if file.name not in failures], failures)


def archives_of_part(urls: tuple[str, ...], store: Store, pool: Pool) -> tuple[PictureArchives, list[str]]:
    """The archives at `urls`, all pictures of a part, and where they were fetched from; never raises for what cannot be had."""
    archives: list[Archive] = []
    lacks: list[str] = []
    places: list[str] = []
    for url in urls:
        shown = url if hub_path(url) else shown_url(url)
        try:
            fetched = from_elsewhere(expand_environment(url), _folder(url, store), store, pool)
        except FetchError as problem:
            lacks.append(str(problem))
            continue
        found = fetched.archives()
        archives += [replace(archive, name=f"{_home(url)}/{archive.name}") for archive in found]
        places.append(f"{shown} at commit {fetched.commit}" if fetched.commit else shown)
        if not found:
            lacks.append(f"there is no archive {shown}")
    return PictureArchives.of_part(archives, lacks), places


def forget_elsewhere(url: str, store: Store) -> None:
    """Let the next run ask again what an archive at a URL is."""
    if (named := hub_path(url)) is not None:
        forget_revision(named.dataset, named.revision, store.root)
    else:
        forget_receipts(_folder(url, store))
        forget_listings(_folder(url, store))


def _home(url: str) -> str:
    """Where an archive is at home, whatever its revision: so that archives of one name are told apart."""
    named = hub_path(url)
    return named.dataset if named else shown_url(url).partition("://")[2].rpartition("/")[0]


def _folder(url: str, store: Store) -> Path:
    return store.root / "upstream" / "archives" / fingerprint(url)


def _without(archive: Archive, failures: dict[str, str]) -> Archive:
    """The archive up to its first part that could not be fetched."""
    for number, part in enumerate(archive.parts):
        if part in failures:
            return Archive(archive.name, archive.parts[:number], f"'{PurePosixPath(part).name}' is not here: {failures[part]}")
    return archive
