"""Records out of WebDataset tars: members grouped by key, of which the text ones are read."""

import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from curation.errors import RejectReason
from curation.shard_format import BLOCK_BYTES, TarMember
from curation.sources.json_records import parse_value
from curation.sources.records import MAX_RECORD_BYTES, Batch, LostSpan, Member, Reject, Span, TarSpan, is_text_member

TAR_SPAN_SAMPLES = 2_000


def tar_samples(path: Path, file: str) -> Iterator[Span]:
    """Members grouped by key: the name up to the first dot after its folder. A cut archive ends in a LostSpan."""
    grouped: list[tuple[str, list[Member]]] = []
    first = 0
    lost: list[Span] = []
    try:
        for member in tar_members(path):
            folder, slash, name = str(PurePosixPath(member.name)).rpartition("/")
            key, _, extension = name.partition(".")  # a hidden file's key is empty
            key = folder + slash + key
            if not grouped or grouped[-1][0] != key:
                if len(grouped) == TAR_SPAN_SAMPLES:
                    yield _tar_span(file, grouped, first)
                    grouped, first = [], first + TAR_SPAN_SAMPLES
                grouped.append((key, []))
            grouped[-1][1].append(Member(extension, member.offset, member.size))
    except (tarfile.TarError, OSError, EOFError, OverflowError) as problem:
        number = first + len(grouped)
        detail = f"archive is damaged after {number} samples: {problem}"
        lost = [LostSpan(file, detail, b"", number, reason=RejectReason.ARCHIVE_DAMAGED)]
    if grouped:
        yield _tar_span(file, grouped, first)
    yield from lost


def _tar_span(file: str, grouped: Sequence[tuple[str, Sequence[Member]]], first: int) -> TarSpan:
    return TarSpan(file, tuple((key, tuple(members)) for key, members in grouped), first)


def tar_members(path: Path) -> Iterator[Member]:
    """Regular files of an uncompressed tar, by name and place. Links and devices are passed over.

    Raises tarfile.TarError or OSError where the archive is damaged, after the members before the damage.
    """
    size = path.stat().st_size
    with tarfile.open(path, mode="r:", tarinfo=TarMember) as tar:
        for info in tar:
            if not info.isfile():
                continue
            name = info.name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            if info.offset_data + info.size > size:
                raise tarfile.ReadError(f"member '{name}' ends beyond the end of the file")
            yield Member(name, info.offset_data, info.size)
        _expect_end_mark(path, tar.offset)


def _expect_end_mark(path: Path, offset: int) -> None:
    """Raises ReadError unless a block of zeros is at `offset`: tarfile stops at a damaged header as if it were the end."""
    with path.open("rb") as handle:
        handle.seek(offset)
        if handle.read(BLOCK_BYTES) != bytes(BLOCK_BYTES):
            raise tarfile.ReadError(f"no header and no end mark at byte {offset}: it is damaged or cut short")


def read_tar(root: Path, span: TarSpan) -> Batch:
    """The samples of a span: the fields of their text members, and where their pictures lie."""
    batch = Batch(span.file)
    with (root / span.file).open("rb") as handle:
        for position, (key, members) in enumerate(span.samples, start=span.first_position):
            raw = b""
            record: dict[str, Any] = {}
            try:
                for member in members:
                    if is_text_member(member.name):
                        handle.seek(member.offset)
                        raw = handle.read(min(member.size, MAX_RECORD_BYTES))
                        record.update(_text_member(member.name, raw))
            except (ValueError, RecursionError) as problem:
                batch.rejects.append(Reject.of(span.file, position, RejectReason.BAD_JSON, f"{key}: {problem}", raw))
                continue
            batch.positions.append(position)
            batch.records.append({**record, "_key": key, "_members": members})
    return batch


def _text_member(name: str, raw: bytes) -> Mapping[str, Any]:
    if name.lower().rsplit(".", 1)[-1] != "json":
        return {name: raw.decode("utf-8")}
    value = parse_value(raw)
    return value if isinstance(value, dict) else {"json": value}
