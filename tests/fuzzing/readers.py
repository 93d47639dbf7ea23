"""Every reader of what others wrote, as a function of bytes that must never raise, lose a record or leave its bounds.

A reader's laws are asserted in place: what was read is all there, as records or as rejects with a reason.
"""

import gzip
import io
import itertools
import json
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from curation.catalog.file import load_catalog
from curation.catalog.spec import Part
from curation.catalog.template import Unusable
from curation.errors import CatalogError, CurationError, MixtureError
from curation.fetch.archives import Reading, group_archives, stream_members
from curation.fetch.gunzip import Damage
from curation.guessing.suggest import guess
from curation.imaging import examine
from curation.mixture.file import load_curriculum
from curation.shard_format import BLOCK_BYTES, decode_sample, member_bytes, tar_header
from curation.sources.columns import Said
from curation.sources.mapping import Mapped, map_batch
from curation.sources.pictures import fetch, picture_names
from curation.sources.readers import read, survey
from curation.sources.sample_rows import Origins, rejected_table, sample_table
from tests.support.archives import zip_of
from tests.support.upstream import encoded, part, picture
from training.decode import open_rgb
from training.errors import SampleError
from training.foreign import parse_foreign
from training.members import parse_members

MAX_PIXELS = 250_000
_NUMBERS = itertools.count()


@dataclass(frozen=True, slots=True)
class Reader:
    """`feed(data, folder)` reads `data`, with `folder` to write to; `seeds` are whole inputs to begin from."""

    feed: Callable[[bytes, Path], None]
    seeds: Sequence[bytes]


# --- Records ------------------------------------------------------------------------------------------------------------


def _fields(**more: object) -> dict[str, object]:
    return {"fields": {"question": "q", "answer": "a"}, **more}


def _records(name: str, *parts: Part) -> Callable[[bytes, Path], None]:
    """Feeds a file of records, read as each of `parts`."""

    def feed(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        for each in parts:
            _read_records(folder, name, each)

    return feed


def _read_records(folder: Path, name: str, each: Part) -> None:
    mapped = Mapped()
    num_read = 0
    for span in survey(folder, name, each):
        batch = read(folder, span, each)
        assert len(batch.positions) == len(batch.records)
        num_read += len(batch.records) + len(batch.rejects)
        map_batch(batch, folder, each, mapped)
    assert len(set(mapped.positions)) == len(mapped.positions)
    assert num_read == len(mapped.positions) + len(mapped.rejects)
    rejected = rejected_table("fuzzed", mapped.rejects)
    assert None not in rejected.column("reason").to_pylist()
    if each.images is not None:
        mapped.table().validate(full=True)
    elif mapped.positions:
        origins = Origins(mapped.files, mapped.positions, mapped.ids, mapped.annotations)
        sample_table("fuzzed", Said.together(mapped.said), None, origins).validate(full=True)


_ROWS = [
    {"q": "How many?", "a": 2, "image": "a.png", "id": 7},
    {"q": "é\u4e00 \\n", "a": ["two", None], "image": ["a.png", "../b.png"], "id": "x"},
    {"q": {"text": "deep"}, "a": 1.5e300, "image": None},
    {
        "conversations": [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "This."}],
        "image": "b.jpg",
    },
]
_ARRAY = json.dumps(_ROWS).encode()
_LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in _ROWS).encode()
_KEYED = json.dumps({f"k{number}": row for number, row in enumerate(_ROWS)}, indent=1).encode()
_TALK = part(layout="conversations", fields={"turns": "conversations"})
_SEEN = part(**_fields(images={"path": "image", "optional": True}))
_JSON_PARTS = (part(), _SEEN, _TALK)
_DELIMITED = {"format": "delimited", "header": True}
_CELLS = b"q\ta\timage\nWhat\\nis?\tThis\ta.png\nNo\t\t\n\xc3\xa9\tx\ty\tz\n"
_QUOTED = b'q,a,image\n"What, ""really""\nis?",This,a.png\n,,\n"open'


def _parquet(columns: Mapping[str, object], **options: object) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(dict(columns)), buffer, **options)
    return buffer.getvalue()


_COLUMNS = {"q": ["a", "b", None], "a": [1.5, float("nan"), 2.0], "image": [[picture(1)], [], None]}
_PARQUET_SEEDS = (
    _parquet(_COLUMNS, compression="none"),
    _parquet(_COLUMNS, compression="zstd", row_group_size=1),
    _parquet({"q": [b"\xff", b"x"], "a": [{"b": 1}, None]}, compression="snappy", use_dictionary=False),
)


# --- Archives -----------------------------------------------------------------------------------------------------------


def _tar(files: Mapping[str, bytes], format_: int = tarfile.USTAR_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=format_) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for kind, name in ((tarfile.SYMTYPE, "link"), (tarfile.LNKTYPE, "hard"), (tarfile.CHRTYPE, "device")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "../../etc/passwd"
            tar.addfile(member)
    return buffer.getvalue()


_FILES = {"in/a.png": picture(1), "in/b.txt": b"text" * 200, "../out.png": picture(2)}
_SAMPLES = {
    "0.jpg": picture(1, "JPEG"), "0.json": b'{"q": "a", "a": "b"}', "1.txt": b"words", "1.png": picture(2),
    "sub/2.json": b"[1, 2]", "sub/2.cls": b"3",
}  # fmt: skip


def with_right_sums(data: bytes) -> bytes:
    """`data` with the checksum of each block that looks like a tar header put right, so that what is behind it is reached."""
    blocks = bytearray(data)
    for start in range(0, len(data) - BLOCK_BYTES + 1, BLOCK_BYTES):
        if blocks[start + 257 : start + 262] == b"ustar":
            blocks[start + 148 : start + 156] = b" " * 8
            total = sum(blocks[start : start + BLOCK_BYTES])
            blocks[start + 148 : start + 156] = b"%06o\0 " % total
    return bytes(blocks)


def _feed_archive(data: bytes, folder: Path) -> None:
    name = f"archive-{next(_NUMBERS)}"  # opened archives are remembered by name and time
    path = folder / name
    path.write_bytes(data)
    try:
        reading = Reading()
        [archive] = group_archives([name])
        for member in stream_members(archive, folder, reading):
            assert not member.name.startswith("/") and ".." not in member.name.split("/")
            try:
                assert len(member.read() if member.size < 1 << 26 else b"") in (0, member.size)
            except Damage:
                continue
        for kind in ("tar", "zip"):
            images = part(**_fields(images={"path": "image", kind: name})).images
            assert images is not None
            for ref in itertools.islice(picture_names(folder, images), 50):
                try:
                    fetch(folder, ref, images)
                except Unusable:
                    continue
    finally:
        path.unlink()


def _feed_tar(data: bytes, folder: Path) -> None:
    _feed_archive(data, folder)
    _feed_archive(with_right_sums(data), folder)


def _feed_gzip(data: bytes, folder: Path) -> None:
    _feed_archive(data, folder)
    _feed_archive(gzip.compress(with_right_sums(data), 1), folder)


def _feed_webdataset(data: bytes, folder: Path) -> None:
    each = part(**_fields(images={"members": ["jpg", "png"], "optional": True}, reader={"format": "webdataset"}))
    for written in (data, with_right_sums(data)):
        (folder / "data.tar").write_bytes(written)
        _read_records(folder, "data.tar", each)


# --- Pictures, settings, shards -----------------------------------------------------------------------------------------


def with_right_crcs(data: bytes) -> bytes:
    """A PNG with the checksum of each chunk put right; anything else as it is."""
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return data
    whole, place = bytearray(data), 8
    while place + 12 <= len(whole):
        length = int(struct.unpack(">I", whole[place : place + 4])[0])
        end = place + 8 + length
        if end + 4 > len(whole):
            break
        whole[end : end + 4] = struct.pack(">I", zlib.crc32(whole[place + 4 : end]))
        place = end + 4
    return bytes(whole)


def _feed_picture(data: bytes, folder: Path) -> None:
    del folder
    for written in {data, with_right_crcs(data)}:
        try:
            facts = examine(written, max_pixels=MAX_PIXELS)
        except Unusable:
            pass
        else:
            assert facts.width * facts.height <= MAX_PIXELS
        with suppress(SampleError):
            open_rgb(written, name="fuzzed", max_image_pixels=MAX_PIXELS)


_SHADES = Image.linear_gradient("L").resize((24, 18))
_PICTURE_SEEDS = [
    picture(1),
    encoded(_SHADES.convert("P")),
    encoded(_SHADES.convert("RGBA")),
    encoded(Image.fromarray(np.arange(24 * 18, dtype=np.uint16).reshape(18, 24) * 150)),
    encoded(_SHADES.convert("RGB"), "JPEG"),
    encoded(_SHADES, "JPEG", progressive=True),
    encoded(_SHADES.convert("CMYK"), "JPEG"),
    encoded(_SHADES.convert("RGB"), "WEBP"),
    encoded(_SHADES, "GIF"),
    encoded(_SHADES, "BMP"),
    encoded(_SHADES, "TIFF", compression="tiff_lzw"),
    encoded(_SHADES, "TIFF"),
]
_CATALOG = {
    "sources": {
        "one": {"category": "general", "layout": "qa", "location": {"files": "*.json"}, **_fields()},
        "two": {
            "category": "ocr", "layout": "conversations", "license": "mit", "expected": {"records": 10},
            "location": {"http": [{"url": "https://example.org/a.zip", "sha256": "0" * 64}]},
            "fields": {"turns": "conversations"}, "images": {"path": "image", "zip": "a.zip"},
        },
    }
}  # fmt: skip
_MIXTURE = {"name": "m", "seed": 3, "cap": 10, "ratios": {"general": 0.5, "ocr": 0.5}, "sources": {"one": {"repeat": 2}}}
_YAML_SEEDS = [
    yaml.safe_dump(_CATALOG).encode(),
    yaml.safe_dump(_MIXTURE).encode(),
    b"name: s\nstages: [{name: a, size: 5}, {name: b, dedup: {near: true}}]\n",
    b"a: !!python/object/apply:os.system [true]\n",
    b"a: &x [1]\nb: *x\n",
    b"sources: {one: {category: general, layout: qa, location: {hub: a/b, revision: main, split: train}}}\n",
]


def _feed_yaml(data: bytes, folder: Path) -> None:
    known = folder / "known.yaml"
    if not known.exists():
        known.write_bytes(_YAML_SEEDS[0])
    path = folder / "fuzzed.yaml"
    path.write_bytes(data)
    with suppress(CatalogError):
        load_catalog(path)
    with suppress(MixtureError):
        load_curriculum(path, load_catalog(known))


def _shard(*extensions: str) -> bytes:
    key = "0123456789abcdef"
    images = [{"name": extension, "width": 5, "height": 4, "sha256": "0" * 64} for extension in extensions]
    record = {"id": key, "source": "one", "category": "ocr", "conversations": [], "images": images}
    payload = json.dumps(record).encode()
    members = {f"{key}.json": payload} | {f"{key}.{extension}": picture(1) for extension in extensions}
    written = b""
    for name, data in members.items():
        written += (tar_header(name, len(data)) + data).ljust(len(written) + member_bytes(len(data)), b"\0")
    return written


def _feed_shard(data: bytes, folder: Path) -> None:
    del folder
    for written in (data, with_right_sums(data)):
        for parse in (parse_members, parse_foreign):
            try:
                parse(written, 0)
            except SampleError:
                continue
    with suppress(ValueError):
        decode_sample(data)


def _feed_guess(data: bytes, folder: Path) -> None:
    for name in ("a.json", "a.csv", "a.parquet", "a.tar", "a.zip"):
        path = folder / name
        path.write_bytes(data)
        with suppress(CurationError):
            guess(path)
        path.unlink()


_PARQUET = {"format": "parquet"}
_ARCHIVES = [_tar(_FILES), _tar({"a" * 150: b"x", "é": b""}, tarfile.PAX_FORMAT), _tar(_FILES, tarfile.GNU_FORMAT)]
_ZIPS = [zip_of(_FILES, compression) for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA)]
_SHARDS = [_shard("png"), _shard("0.png", "1.png"), _shard(), _tar(_SAMPLES)]
READERS: dict[str, Reader] = {
    "json": Reader(_records("data.json", *_JSON_PARTS), [_ARRAY, _KEYED, _LINES, b'[{"q": NaN}, {"q": "\\ud800"}]']),
    "jsonl": Reader(_records("data.jsonl", *_JSON_PARTS), [_LINES, _ARRAY, b'{"q": 1e999, "a": Infinity}\n\n{']),
    "tsv": Reader(_records("data.tsv", part(**_fields(reader={**_DELIMITED, "unescape": True}))), [_CELLS]),
    "csv": Reader(_records("data.csv", part(**_fields(reader={**_DELIMITED, "separator": ",", "quoting": True}))), [_QUOTED]),
    "parquet": Reader(
        _records("data.parquet", part(**_fields(reader=_PARQUET)), part(**_fields(reader=_PARQUET, images={"bytes": "image"}))),
        _PARQUET_SEEDS,
    ),
    "webdataset": Reader(_feed_webdataset, [_tar(_SAMPLES), _tar(_SAMPLES, tarfile.PAX_FORMAT)]),
    "tar": Reader(_feed_tar, _ARCHIVES),
    "gzip": Reader(_feed_gzip, [gzip.compress(_tar(_FILES)), _tar(_FILES), gzip.compress(b"no tar") * 2]),
    "zip": Reader(_feed_archive, _ZIPS),
    "picture": Reader(_feed_picture, _PICTURE_SEEDS),
    "yaml": Reader(_feed_yaml, _YAML_SEEDS),
    "shard": Reader(_feed_shard, _SHARDS),
    "guess": Reader(_feed_guess, [_ARRAY, _LINES, _CELLS, _QUOTED, _PARQUET_SEEDS[0], _tar(_SAMPLES), _ZIPS[0]]),
}
"""By what is read; `guess` is `curate try --guess`, which takes any file."""
