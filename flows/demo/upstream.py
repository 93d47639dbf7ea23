"""One upstream source while it is made: its records, its files, and the ledger that grows with them.

A source function calls `sample` for a record that curation should accept and `reject` for one it should refuse, then hands
the records, in mixed order, to one of the writers below (JSON array, JSON lines, keyed object, tar, zip).
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from random import Random
from typing import Any, TypeVar

from PIL import Image

from curation.errors import RejectReason
from flows.demo.pictures import Drawing, true_extension
from flows.demo.planted import PlantedSource, SampleKey

Pictures = Mapping[str, bytes]
ItemT = TypeVar("ItemT")
_MAX_TRIES = 5_000


class Upstream:
    """What one source function works with. `rng` depends on the seed and the source's name alone."""

    def __init__(self, name: str, *, seed: int, scale: int) -> None:
        self.name = name
        self.scale = scale
        self._seed = seed
        self.rng = Random(f"{seed}/{name}")
        self.planted = PlantedSource()
        self.files: dict[str, bytes] = {}
        self.pictures: dict[str, bytes] = {}
        self._records: list[Any] = []
        self._lying: set[str] = set()
        self._texts: set[str] = set()
        self._images: set[bytes] = set()

    def shared_rng(self, topic: str) -> Random:
        """Two sources that ask for the same topic draw the same things: their common samples."""
        return Random(f"{self._seed}/shared/{topic}")

    def sample(self, record: object, turns: Sequence[str], pictures: Pictures | None = None) -> None:
        """A record that becomes one sample with these turns and pictures (by the name the record gives them)."""
        pictures = pictures or {}
        self._add(record, pictures)
        self.planted.samples += 1
        self.planted.keys.append(SampleKey.of(turns, pictures.values()))
        self._lying |= {name for name, data in pictures.items() if _is_lying(name, data)}
        self.planted.lying_extensions = len(self._lying)

    def sample_from_exam(self, record: object, turns: Sequence[str], pictures: Pictures | None = None) -> None:
        """A record that becomes a sample, and is dropped because a benchmark asks for its question or shows its picture."""
        self.sample(record, turns, pictures)
        self.planted.from_exams += 1

    def reject(self, reason: RejectReason, record: object, pictures: Pictures | None = None) -> None:
        """A record that must be refused for `reason`. Text in place of an object is written as it is."""
        self._add(record, pictures or {})
        self.planted.rejected[reason.value] += 1

    def _add(self, record: object, pictures: Pictures) -> None:
        self.planted.records += 1
        self._records.append(record)
        self.pictures.update(pictures)

    def mixed(self) -> list[Any]:
        """The records so far, in random order; the next part of the source starts with none."""
        records, self._records = self._records, []
        self.rng.shuffle(records)
        return records

    def new_drawing(self, draw: Callable[[Random], Drawing]) -> Drawing:
        """A drawing whose pixels this source does not have yet."""
        return self._unseen(draw, lambda drawing: _pixels(drawing.image), self._images)

    def new_text(self, make: Callable[[Random], ItemT], key: Callable[[ItemT], str]) -> ItemT:
        """A made-up text whose `key` this source does not have yet."""
        return self._unseen(make, lambda item: " ".join(key(item).casefold().split()), self._texts)

    def _unseen(self, make: Callable[[Random], ItemT], key: Callable[[ItemT], Any], seen: set[Any]) -> ItemT:
        for _ in range(_MAX_TRIES):
            item = make(self.rng)
            if (found := key(item)) not in seen:
                seen.add(found)
                return item
        raise ValueError(f"demo source '{self.name}' has no more new items at scale {self.scale}; use a smaller scale")

    def pictures_in_folder(self, folder: str = "") -> None:
        """Store the pictures as files below `folder`."""
        self.files.update({str(PurePosixPath(folder, name)): data for name, data in self.pictures.items()})
        self.pictures = {}


def _is_lying(name: str, data: bytes) -> bool:
    suffix = PurePosixPath(name).suffix.removeprefix(".").replace("jpeg", "jpg")
    return suffix != "" and suffix != true_extension(data)


def _pixels(image: Image.Image) -> bytes:
    return repr(image.size).encode() + image.tobytes()


def to_json(value: object) -> str:
    """A value as compact JSON; text is taken for JSON already (that is how broken records are written)."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def json_array(records: Iterable[object]) -> bytes:
    """A JSON file that is one array."""
    return ("[\n" + ",\n".join(map(to_json, records)) + "\n]\n").encode()


def json_lines(records: Iterable[object]) -> bytes:
    """One record a line."""
    return ("\n".join(map(to_json, records)) + "\n").encode()


def json_object(records: Iterable[tuple[str, object]]) -> bytes:
    """A JSON file that is one object, records by their key."""
    return ("{\n" + ",\n".join(f"{json.dumps(key)}: {to_json(record)}" for key, record in records) + "\n}\n").encode()


def tar_file(members: Mapping[str, bytes]) -> bytes:
    """A tar with fixed times and owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zip_file(members: Mapping[str, bytes]) -> bytes:
    """A zip with fixed times."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name, date_time=(2024, 1, 1, 0, 0, 0)), data)
    return buffer.getvalue()
