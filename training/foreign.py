"""WebDataset tars of others, streamed as releases are: an index is built once, from headers alone, and kept in the cache.

Members that share their name up to the first dot of its last part, one after the other, are a sample, as the webdataset
library has it. Images come as images; the JSON's `conversations` are taken where it has them; everything else that is text
is handed on in `origin`, for the consumer to make a conversation of.
"""

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from curation.shard_format import BLOCK_BYTES, INDEX_NAME, MANIFEST_NAME, SCHEMA_VERSION, SHARD_FOLDER, ShardEntry, TarMember
from training.errors import SampleError, StreamError
from training.members import Members
from training.storage import LocalFiles, Storage

_IMAGE_EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm"})
_TEXT_EXTENSIONS = frozenset({"txt", "caption", "cls", "html", "md"})
_MAX_TEXT_BYTES = 1 << 20


def find_tars(location: str) -> list[Path]:
    """The tars that a location names: one file, or all of a folder that is no release; none for anything else."""
    path = Path(location)
    if path.suffix == ".tar" and path.is_file():
        return [path]
    if path.is_dir() and not (path / MANIFEST_NAME).exists():
        return sorted(path.glob("*.tar"))
    return []


class ForeignFiles(LocalFiles):
    """Tars where they lie, under the names of shards, with manifest and index out of the cache."""

    def __init__(self, tars: Sequence[Path], folder: Path) -> None:
        super().__init__(folder)
        self._tars = {f"{SHARD_FOLDER}/{tar.name}": tar.absolute() for tar in tars}

    def folder_sizes(self, folder: str) -> dict[str, int]:
        """Sizes of the tars."""
        del folder
        return {path.name: path.stat().st_size for path in self._tars.values() if path.exists()}

    def local_path(self, name: str) -> Path:
        """Where a tar or a file of the cache lies."""
        return self._tars.get(name) or super().local_path(name)

    def lasting_path(self, name: str) -> str:
        """Where a tar lies."""
        return str(self._tars[name])

    def open_shard(self, name: str) -> int:
        """A descriptor of the tar, to be closed by the caller."""
        try:
            return os.open(self._tars[name], os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise StreamError(f"cannot open '{self._tars[name]}': {error.strerror}") from error


def open_tars(tars: Sequence[Path], storage: Storage) -> ForeignFiles:
    """The tars as the files of a release; their index is built unless the cache has that of the same files.

    Raises StreamError for a tar that cannot be read.
    """
    facts = [[str(tar.absolute()), tar.stat().st_size, tar.stat().st_mtime_ns] for tar in tars]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    folder = storage.folder().absolute() / f"tars-{digest[:32]}"
    if not (folder / MANIFEST_NAME).exists():
        _build_index(tars, folder)
    return ForeignFiles(tars, folder)


def _build_index(tars: Sequence[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[Any, ...]] = []
    shards = []
    for number, tar in enumerate(tars):
        before = len(rows)
        rows += ((key, number, *place) for key, *place in _scan(tar))
        entry = ShardEntry(name=tar.name, num_samples=len(rows) - before, num_bytes=tar.stat().st_size, sha256="")
        if entry.num_samples:
            shards.append(asdict(entry))
        else:
            raise StreamError(f"tar '{tar}' holds no sample; leave it out")
    names = ("sample_id", "shard", "offset_bytes", "num_bytes", "num_images", "num_tokens")
    columns = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    constant = {"source": tars[0].parent.name, "category": "", "repeat": 0}
    table = pa.table(columns | {name: [value] * len(rows) for name, value in constant.items()})
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "mixture": {"name": tars[0].parent.name if len(tars) > 1 else tars[0].stem},
        "shards": shards,
        "num_samples": len(rows),
    }
    ours = f".{os.getpid()}"
    pq.write_table(table, folder / (INDEX_NAME + ours))
    (folder / (INDEX_NAME + ours)).replace(folder / INDEX_NAME)
    (folder / (MANIFEST_NAME + ours)).write_text(json.dumps(manifest))
    (folder / (MANIFEST_NAME + ours)).replace(folder / MANIFEST_NAME)


def _scan(tar: Path) -> Iterator[tuple[str, int, int, int, int]]:
    """Key, first byte, length, number of images and bytes of text / 4 (about its tokens) of the samples of a tar."""
    try:
        with tarfile.open(tar, "r:", tarinfo=TarMember) as archive:
            key, start, end, images, text = "", 0, 0, 0, 0
            for member in archive:
                if not member.isfile():
                    continue
                own_key, extension = _split(member.name)
                if own_key != key:
                    if key:
                        yield key, start, end - start, images, text // 4
                    key, start, images, text = own_key, member.offset, 0, 0
                end = member.offset_data + member.size + -member.size % BLOCK_BYTES
                images += _is_image(extension)
                text += 0 if _is_image(extension) else member.size
            if key:
                yield key, start, end - start, images, text // 4
        _expect_end(tar, archive.offset)
    except (tarfile.TarError, OSError, OverflowError) as error:
        raise StreamError(f"tar '{tar}' cannot be read: {error}") from error


def _expect_end(tar: Path, offset: int) -> None:
    """Raises ReadError where more than zeros follows at `offset`: tarfile takes a damaged header for the end."""
    with tar.open("rb") as handle:
        handle.seek(offset)
        if handle.read(BLOCK_BYTES).strip(b"\0"):
            raise tarfile.ReadError(f"no header and no end mark at byte {offset:,}; it is damaged, fetch it again")


def _split(name: str) -> tuple[str, str]:
    """Key and extension of a member: the last part of its name is cut at the first dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return folder + slash + stem, extension.lower()


def _is_image(extension: str) -> bool:
    return extension.rpartition(".")[2] in _IMAGE_EXTENSIONS


def parse_foreign(data: bytes, start: int) -> Members:
    """The sample whose tar members are `data`, from byte `start` of a tar. Raises SampleError for one that cannot be read."""
    record: dict[str, Any] = {"id": "", "source": "", "category": "", "conversations": [], "images": [], "license": ""}
    origin: dict[str, Any] = {}
    names, contents, starts = [], [], []
    try:
        with tarfile.open(fileobj=io.BytesIO(data + bytes(2 * BLOCK_BYTES)), mode="r:", tarinfo=TarMember) as archive:
            for member in archive:
                if not member.isfile():
                    continue
                record["id"], extension = _split(member.name)
                content = data[member.offset_data : member.offset_data + member.size]
                if len(content) != member.size:
                    raise SampleError(f"member '{member.name}' is cut; the tar has changed since its index was built")
                if _is_image(extension):
                    names.append(member.name)
                    contents.append(content)
                    starts.append(start + member.offset_data)
                elif extension == "json":
                    origin["json"] = orjson.loads(content)
                elif extension in _TEXT_EXTENSIONS and member.size <= _MAX_TEXT_BYTES:
                    origin[extension] = content.decode("utf-8", "replace")
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise SampleError(f"no tar members of one sample, or no JSON in them: {error}") from error
    about = origin.get("json")
    if isinstance(about, dict) and isinstance(about.get("conversations"), list):
        record["conversations"] = about["conversations"]
    record["origin"] = origin
    return record, names, contents, starts
