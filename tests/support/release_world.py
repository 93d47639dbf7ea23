"""A small release such as Cambrian-10M: one JSONL of many sources, one archive of pictures an image folder, and its dirt."""

import gzip
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog
from tests.support.upstream import picture, write_files

NUM_PARTS = 12
RECORDS = "jsons/Cambrian.jsonl"
MIX = "mix665k.json"


def packed_tar(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return gzip.compress(buffer.getvalue(), mtime=0)


def record(number: Any, source: str, image: Any = "absent", question: str = "What is it?", **changes: Any) -> dict[str, Any]:
    marker = "<image>\n" if isinstance(image, str) and image.strip().lower() not in ("absent", "", "none", "nan") else ""
    turns = [{"from": "human", "value": marker + question}, {"from": "gpt", "value": f"It is {number}."}]
    found = {"id": str(number), "source": source, "conversations": turns} | changes
    return found if image == "absent" else found | {"image": image}


def release_records() -> list[dict[str, Any] | str]:
    """A good record or a line of text each, in the order of the file."""
    lines: list[dict[str, Any] | str] = []
    for number in range(12):  # sources lie mixed
        lines.append(record(f"dvqa-{number}", "dvqa_2325k.json", f"dvqa/images/{number}.png"))
        lines.append(record(f"allava-{number}", "allava_700k.json", f"allava/{number}.png"))
        lines.append(record(f"coco-{number}", MIX, f"coco/train/{number}.png", f"Is it {number}?"))
        lines.append(record(f"text-{number}", "orca_994k.json"))
    return lines


def archive_files(folder: str, names: Mapping[str, int]) -> dict[str, bytes]:
    return {f"{folder}/{name}": picture(number, size=(40, 30)) for name, number in names.items()}


def split_parts(data: bytes, name: str, count: int = NUM_PARTS) -> dict[str, bytes]:
    size = -(-len(data) // count)
    return {f"{name}_part{number + 1}": data[number * size : (number + 1) * size] for number in range(count)}


def release_files(lines: list[dict[str, Any] | str] | None = None) -> dict[str, bytes]:
    """The release's files by name."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in (lines or release_records())]
    allava = packed_tar(archive_files("allava", {f"{number}.png": 100 + number for number in range(12)}))
    return {
        RECORDS: ("\n".join(texts) + "\n").encode(),
        "dvqa.tar.gz": packed_tar(archive_files("dvqa/images", {f"{number}.png": number for number in range(12)})),
        **split_parts(allava, "allava.tar.gz"),
        "coco.tar.gz": packed_tar(archive_files("coco/train", {f"{number}.png": 200 + number for number in range(12)})),
    }


PART = {
    "layout": "conversations",
    "fields": {"turns": "conversations", "id": "id"},
    "images": {"path": "image", "archives": True, "optional": True},
}
SOURCES: dict[str, Any] = {
    "dvqa": {"category": "ocr", "location": {"release": "cambrian", "source": "dvqa_2325k.json", "folder": "dvqa"}},
    "allava": {"category": "general", "location": {"release": "cambrian", "source": "allava_700k.json", "folder": "allava"}},
    "coco": {"category": "general", "location": {"release": "cambrian", "source": MIX, "folder": "coco"}},
    "orca": {"category": "language", "location": {"release": "cambrian", "source": "orca_994k.json"}},
}


def release_catalog(folder: Path, place: Mapping[str, Any], sources: Mapping[str, Any] | None = None) -> Catalog:
    """A catalog at `folder` of sources that have rows of the release at `place` (`root` or `hub`)."""
    upstream = {
        **place,
        "records": RECORDS,
        "archives": {"default": "{folder}.tar.gz", "allava": "allava.tar.gz_part*"},
        "defaults": PART,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "catalog.yaml"
    document = {"upstreams": {"cambrian": upstream}, "sources": dict(sources or SOURCES)}
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    return load_catalog(path)


def local_release(folder: Path, lines: list[dict[str, Any] | str] | None = None, **more: bytes) -> Catalog:
    """The release in a folder beside its catalog."""
    write_files(folder / "mirror", release_files(lines) | more)
    return release_catalog(folder, {"root": "mirror"})
