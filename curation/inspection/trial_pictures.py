"""The pictures of tried records: found where they lie, and read no further than a bound.

Loose pictures are fetched one by one, those in a zip by its directory; a tar is streamed from its beginning until all wanted
ones were met, or ARCHIVE_BYTES of it. What lies beyond that, or cannot be fetched now, is not judged: NotLooked says why.
"""

import lzma
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from curation.catalog.locations import is_remote
from curation.catalog.spec import Catalog, Images, Upstream
from curation.catalog.template import Unusable
from curation.errors import CatalogError, FetchError, RejectReason
from curation.fetch.archives import Archive, MemberDamage, Reading, StreamedMember, group_archives, members_of
from curation.fetch.far_file import Bounded, ForwardHead
from curation.fetch.gunzip import Beyond, Damage
from curation.imaging import MAX_FILE_BYTES, ImageFacts, examine
from curation.sources.pictures import fetch, first_in_tar, read_member
from curation.sources.safe_paths import inside
from curation.upstream.places import FolderPlace, NotThereError, Place, place_of_url

ARCHIVE_BYTES = 64 << 20
"""How much of an archive, as published, is looked through."""


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
    """Fetches and examines the pictures `refs`, which records of files below `roots` name."""

    def __init__(
        self,
        roots: Mapping[str, Path],
        images: Images | None,
        refs: Sequence[str],
        elsewhere: Place | None = None,
        release: ReleaseArchives | None = None,
    ) -> None:
        self._roots = roots
        self._images = images
        self._elsewhere = elsewhere
        self._known: dict[str, Found] = {}
        self._members: Mapping[str, Any] = {}
        if images is None or not refs:
            return
        if release is not None:
            self._look_in_release(release, refs, images.max_pixels)
        elif elsewhere is not None and images.path is not None:
            self._look_elsewhere(elsewhere, refs, images)
        elif images.zip is not None or images.tar is not None:
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

    def _look_elsewhere(self, place: Place, refs: Sequence[str], images: Images) -> None:
        packed = images.zip or images.tar
        if packed is None:
            self._known = {ref: _found(partial(_loose, place, ref), images.max_pixels) for ref in dict.fromkeys(refs)}
            return
        try:
            names = place.names(packed)
        except FetchError as problem:
            self._known = dict.fromkeys(refs, NotLooked(str(problem)))
            return
        if images.zip is not None and len(names) == 1:
            self._known = _in_zip(place, names[0], refs, images.max_pixels)
        else:
            archives = [(place, archive) for archive in group_archives(names)]
            self._known = pictures_in(archives, refs, images.max_pixels, f"no file matches '{packed}' in {place.shown}")

    def _look_here(self, root: Path, refs: Sequence[str], images: Images) -> None:
        """Pictures in an archive of this machine: at their places in it where it can be read so, else as a stream."""
        name = str(images.zip or images.tar)
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


def _in_zip(place: Place, name: str, refs: Sequence[str], max_pixels: int) -> dict[str, Found]:
    try:
        with place.open(name) as handle, zipfile.ZipFile(Bounded(handle, ARCHIVE_BYTES)) as archive:
            return {ref: _found(partial(_zip_member, archive, name, ref), max_pixels) for ref in refs}
    except (zipfile.BadZipFile, OSError, Beyond) as problem:
        return dict.fromkeys(refs, NotLooked(f"{name}: {problem}"))
    except FetchError as problem:
        return dict.fromkeys(refs, NotLooked(str(problem)))


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
