"""The pictures of tried records: found where they lie, and read no further than a bound.

Loose pictures are fetched one by one, those in a zip by its directory; a tar is streamed from its beginning until all wanted
ones were met, or ARCHIVE_BYTES of it. What lies beyond that, or cannot be fetched now, is not judged: NotLooked says why.
"""

import io
import lzma
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from curation.catalog.locations import is_remote
from curation.catalog.spec import Catalog, Images, Upstream
from curation.catalog.template import Unusable
from curation.errors import CatalogError, FetchError, RejectReason
from curation.fetch.addresses import shown_url
from curation.fetch.archives import Archive, MemberDamage, Reading, StreamedMember, group_archives, members_of
from curation.fetch.client import Client, Temporary
from curation.fetch.far_file import Bounded, ForwardHead
from curation.fetch.gunzip import Beyond, Damage
from curation.fetch.picture_urls import take_picture
from curation.imaging import MAX_FILE_BYTES, ImageFacts, examine
from curation.sources.mending import find_moved
from curation.sources.pictures import fetch, first_in_tar, read_member
from curation.sources.safe_paths import inside
from curation.upstream.places import FolderPlace, NotThereError, Place, place_of_url

ARCHIVE_BYTES = 64 << 20
"""How much of an archive, as published, is looked through."""
CONNECTIONS, TIMEOUT_S = 4, 20.0
"""With which pictures at URLs are asked for."""


class NotLooked(Exception):
    """A picture that was not looked for, or not far enough to say that it is not there."""


Found = ImageFacts | Unusable | NotLooked
Archives = Sequence[tuple[Place, Archive]]


@dataclass(frozen=True, slots=True)
class ReleaseArchives:
    """Where the pictures of a release lie: `place` is the release's own, `folder` takes what the Hub says of others."""

    catalog: Catalog
    upstream: Upstream
    place: Place
    folder: Path

    def of(self, image_folder: str) -> Archives:
        """The archives of the pictures whose paths begin with `image_folder`. Raises FetchError or CatalogError."""
        found: list[tuple[Place, Archive]] = []
        for pattern in self.upstream.archives_of(image_folder) if image_folder else ():
            place, below = place_of_url(pattern, self.folder) if is_remote(pattern) else (self.place, pattern)
            found += [(place, archive) for archive in group_archives(place.names(below))]
        return found


class Looker:
    """Fetches and examines the pictures `refs`, which records of files below `roots` name.

    `elsewhere` is where the files lie when that is not here; `folder` takes what the Hub says of archives at URLs.
    """

    def __init__(
        self,
        roots: Mapping[str, Path],
        images: Images | None,
        refs: Sequence[str],
        elsewhere: Place | None = None,
        release: ReleaseArchives | None = None,
        folder: Path | None = None,
    ) -> None:
        self._roots = roots
        self._images = images
        self._elsewhere = elsewhere
        self._known: dict[str, Found] = {}
        self._members: Mapping[str, Any] = {}
        if images is None or not refs:
            return
        if images.url is not None:
            self._known = _on_the_web(refs, images.max_pixels)
        elif release is not None:
            self._look_in_release(release, refs, images.max_pixels)
        elif images.packed and (elsewhere is not None or len(images.packed) > 1 or not images.packed_here):
            self._look_in_archives(elsewhere or FolderPlace(next(iter(roots.values()))), folder, refs, images)
        elif elsewhere is not None and images.path is not None:
            self._known = {ref: _found(partial(_loose, elsewhere, ref), images.max_pixels) for ref in dict.fromkeys(refs)}
        elif images.packed:
            self._look_here(next(iter(roots.values())), refs, images)

    def at(self, file: str, ref: str) -> ImageFacts:
        """The facts of a picture of a record in `file`. Raises Unusable or NotLooked."""
        assert self._images is not None
        if ref not in self._known:
            return examine(fetch(self._roots[file], ref, self._images), max_pixels=self._images.max_pixels)
        found = self._known[ref]
        if isinstance(found, ImageFacts):
            return found
        raise found

    def _look_in_release(self, release: ReleaseArchives, refs: Sequence[str], max_pixels: int) -> None:
        by_folder: dict[str, list[str]] = defaultdict(list)
        for ref in refs:
            by_folder[ref.split("/", 1)[0] if "/" in ref else ""].append(ref)
        for folder, wanted in by_folder.items():
            try:
                archives = release.of(folder)
            except (FetchError, CatalogError) as problem:
                self._known |= dict.fromkeys(wanted, NotLooked(str(problem)))
                continue
            lack = f"the release has no archive for the image folder '{folder}'"
            self._known |= pictures_in(archives, wanted, max_pixels, lack)

    def _look_in_archives(self, home: Place, folder: Path | None, refs: Sequence[str], images: Images) -> None:
        """Pictures in the archives of a part, wherever they lie, one archive after the other."""
        missing = list(dict.fromkeys(refs))
        unsure: dict[str, Found] = {}
        for pattern in images.packed:
            try:
                place, below = place_of_url(pattern, folder or Path()) if is_remote(pattern) else (home, pattern)
                archives = group_archives(place.names(below))
                lack = f"no file matches '{below}' in {place.shown}"
            except (FetchError, CatalogError) as problem:
                unsure |= dict.fromkeys(missing, NotLooked(str(problem)))
                continue
            for archive in archives:
                found = _in_archive(place, archive, missing, images.max_pixels)
                self._known |= {ref: what for ref, what in found.items() if not _is_missing(what)}
                unsure |= {ref: what for ref, what in found.items() if isinstance(what, NotLooked)}
                missing = [ref for ref in missing if not isinstance(self._known.get(ref), ImageFacts)]
            if not archives:
                unsure |= {ref: Unusable(RejectReason.MISSING_IMAGE, lack) for ref in missing if ref not in unsure}
        words = f"no such picture in {', '.join(images.packed)}"
        for ref in missing:
            if ref not in self._known:
                self._known[ref] = unsure.get(ref, Unusable(RejectReason.MISSING_IMAGE, words))

    def _look_here(self, root: Path, refs: Sequence[str], images: Images) -> None:
        """Pictures in an archive of this machine: at their places in it where it can be read so, else as a stream."""
        name = images.packed[0]
        path = inside(root, name)
        if images.tar is not None and path.is_file() and not _is_gzip(path):
            members = first_in_tar(path, refs)
            missing = Unusable(RejectReason.MISSING_IMAGE, f"no picture in the archive {path.name}")
            self._known = {
                ref: _found(partial(read_member, path, members[ref]), images.max_pixels)
                if ref in members
                else _named(missing, ref)
                for ref in refs
            }
        elif not (images.zip is not None and path.is_file() and zipfile.is_zipfile(path)):
            place = FolderPlace(root)
            archives = [(place, archive) for archive in group_archives(place.names(name))]
            self._known = pictures_in(archives, refs, images.max_pixels, f"the archive {name} is not there")


def pictures_in(archives: Archives, refs: Sequence[str], max_pixels: int, lack: str) -> dict[str, Found]:
    """What there is of each ref in archives that are streamed from their beginnings; `lack` says why there are none."""
    missing = set(refs)
    found: dict[str, Found] = {}
    for place, archive in archives:
        if not missing:
            break
        reading = Reading()
        stream = ForwardHead([partial(place.open, part) for part in archive.parts], ARCHIVE_BYTES)
        try:
            for member in members_of(lambda stream=stream: nullcontext(stream), archive, reading):  # type: ignore[misc]
                if member.name in missing:
                    try:
                        found[member.name] = _found(partial(_whole, member), max_pixels)
                    except Damage:
                        continue  # the archive breaks here, which the reading tells of all that follows
                    missing.discard(member.name)
                if not missing:
                    break
        except FetchError as problem:
            return found | dict.fromkeys(missing, NotLooked(str(problem)))
        if missing and reading.is_beyond:
            told = f"not within the first {ARCHIVE_BYTES >> 20} MiB of {archive.name}, which are all that is looked at"
            return found | dict.fromkeys(missing, NotLooked(told))
        if missing and reading.damage is not None:
            lost = Unusable(RejectReason.ARCHIVE_DAMAGED, f"archive {archive.name} is damaged {reading.damage}")
            return found | dict.fromkeys(missing, lost)
    names = ", ".join(archive.name for _, archive in archives)
    words = f"no such picture in {names}" if archives else lack
    return found | dict.fromkeys(missing, Unusable(RejectReason.MISSING_IMAGE, words))


def _found(read: Callable[[], bytes], max_pixels: int) -> Found:
    try:
        return examine(read(), max_pixels=max_pixels)
    except (Unusable, NotLooked) as problem:
        return problem
    except NotThereError as problem:
        return Unusable(RejectReason.MISSING_IMAGE, str(problem))
    except FetchError as problem:
        return NotLooked(str(problem))


def _named(problem: Unusable, ref: str) -> Unusable:
    return Unusable(problem.reason, problem.detail.replace("no picture", f"no picture '{ref}'"))


def _whole(member: StreamedMember) -> bytes:
    if member.size > MAX_FILE_BYTES:
        raise Unusable(RejectReason.IMAGE_TOO_LARGE, f"{member.size} bytes; the limit is {MAX_FILE_BYTES}")
    try:
        return member.read()
    except MemberDamage as problem:
        raise Unusable(RejectReason.UNREADABLE_IMAGE, str(problem)) from None


def _loose(place: Place, ref: str) -> bytes:
    data = place.head(ref, MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise Unusable(RejectReason.IMAGE_TOO_LARGE, f"more than {MAX_FILE_BYTES} bytes; that is the limit")
    return data


def _is_missing(what: Found) -> bool:
    return isinstance(what, Unusable) and what.reason is RejectReason.MISSING_IMAGE


def _in_archive(place: Place, archive: Archive, refs: Sequence[str], max_pixels: int) -> dict[str, Found]:
    """Pictures in one archive: by its directory where it has one that can be asked for, else from its beginning."""
    if archive.name.lower().endswith(".zip") and len(archive.parts) == 1:
        return _in_zip(place, archive.parts[0], refs, max_pixels)
    return pictures_in([(place, archive)], refs, max_pixels, f"archive {archive.name}: {archive.lack}")


def _in_zip(place: Place, name: str, refs: Sequence[str], max_pixels: int) -> dict[str, Found]:
    try:
        with place.open(name) as handle, zipfile.ZipFile(Bounded(handle, ARCHIVE_BYTES)) as archive:
            names = {info.filename for info in archive.infolist() if not info.filename.endswith("/")}
            moved = find_moved([ref for ref in refs if ref not in names], set(refs), names)
            there = {ref: moved[ref].found or ref if ref in moved else ref for ref in refs}
            return {ref: _found(partial(_zip_member, archive, name, there[ref]), max_pixels) for ref in refs}
    except (zipfile.BadZipFile, OSError, Beyond) as problem:
        return dict.fromkeys(refs, NotLooked(f"{name}: {problem}"))
    except FetchError as problem:
        return dict.fromkeys(refs, NotLooked(str(problem)))


def _on_the_web(urls: Sequence[str], max_pixels: int) -> dict[str, Found]:
    with Client(CONNECTIONS, TIMEOUT_S) as client, ThreadPoolExecutor(CONNECTIONS, "picture") as threads:
        distinct = list(dict.fromkeys(urls))
        found = threads.map(lambda url: _found(partial(_from_web, client, url), max_pixels), distinct)
        return dict(zip(distinct, found, strict=True))


def _from_web(client: Client, url: str) -> bytes:
    data = io.BytesIO()
    try:
        take_picture(client, url, data.write)
    except Temporary as problem:
        raise NotLooked(f"{shown_url(url)}: {problem}") from None
    return data.getvalue()


def _zip_member(archive: zipfile.ZipFile, name: str, ref: str) -> bytes:
    try:
        info = archive.getinfo(ref)
        if info.file_size > MAX_FILE_BYTES:
            raise Unusable(RejectReason.IMAGE_TOO_LARGE, f"{info.file_size} bytes; the limit is {MAX_FILE_BYTES}")
        with archive.open(info) as member:
            return member.read(info.file_size)
    except KeyError:
        raise Unusable(RejectReason.MISSING_IMAGE, f"no picture '{ref}' in the archive {name}") from None
    except Beyond:
        raise NotLooked(f"{name}: more than {ARCHIVE_BYTES >> 20} MiB would have to be read") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError) as problem:
        raise Unusable(RejectReason.UNREADABLE_IMAGE, f"'{ref}' in {name}: {problem}") from None


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as handle:
        return handle.read(2) == b"\x1f\x8b"
