"""A made-up release for the report's tests: three small sources, written without curation's steps.

`shapes` has images, a duplicate and rejected records; `words` has hostile text, a repeat, a sample over the cap and no
known licence; `gone` gives nothing.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from curation.shard_format import (
    END_OF_ARCHIVE,
    INDEX_NAME,
    SHARD_FOLDER,
    ShardEntry,
    ShardImage,
    encode_sample,
    image_names,
    occurrence_key,
    padding_bytes,
    shard_name,
    tar_header,
)
from curation.storage.store import write_table
from curation.tables import REJECTED, SAMPLES, VERDICTS, copy_id, record_id

CATEGORIES = {"shapes": "general", "words": "language", "gone": "ocr"}
LICENSES = {"shapes": "CC0-1.0", "words": "unknown", "gone": "MIT"}
HOSTILE = '<script>alert("pwned")</script> & <img src="http://evil.example/x.png" onerror=alert(1)>'


@dataclass(frozen=True)
class MadeUp:
    """A release folder with what the report is given beside it."""

    folder: Path
    manifest: dict[str, Any]
    source_folders: dict[str, Path]


def png(colour: tuple[int, int, int], size: tuple[int, int] = (8, 6)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def sample(source: str, question: str, answer: str, images: Sequence[bytes] = (), copy: int = 0) -> dict[str, Any]:
    """A row of SAMPLES with the image bytes themselves under `bytes`."""
    turns = ["<image>\n" * len(images) + question, answer]
    hashes = [hashlib.sha256(data).hexdigest() for data in images]
    return {
        "sample_id": copy_id(f"{source}-{hashlib.sha256(repr((turns, hashes)).encode()).hexdigest()[:24]}", copy),
        "source": source,
        "conversations": [{"from": role, "value": text} for role, text in zip(("human", "gpt"), turns, strict=True)],
        "images": [
            {"sha256": sha256, "pixels": sha256[:32], "extension": "png", "width": 8, "height": 6, "num_bytes": len(data)}
            | {"tar": 0, "bytes": data}
            for sha256, data in zip(hashes, images, strict=True)
        ],
        "num_images": len(images),
        "num_turns": 2,
        "num_tokens": len((question + " " + answer).split()),
        "num_text_bytes": len(question) + len(answer),
        "origin_file": "records.json",
        "origin_position": 0,
        "origin_id": None,
        "annotation_file": None,
    }


def write_source(folder: Path, samples: Sequence[dict[str, Any]], rejected: Sequence[tuple[str, str, bytes]] = ()) -> Path:
    """An ingested source: its table, its images in one file, and rejected records (reason, detail, raw)."""
    content = bytearray()
    for row in samples:
        for image in row["images"]:
            image["offset"] = len(content)
            content += image.pop("bytes")
    folder.mkdir(parents=True)
    (folder / "images-00000.tar").write_bytes(content)
    write_table(folder / "samples-00000.parquet", pa.Table.from_pylist(list(samples), schema=SAMPLES))
    name = folder.parent.name
    rows = [
        {"record_id": record_id(name, "records.json", number), "source": name, "origin_file": "records.json"}
        | {"origin_position": number, "reason": reason, "detail": detail, "raw": raw}
        for number, (reason, detail, raw) in enumerate(rejected)
    ]
    if rows:
        half = (len(rows) + 1) // 2
        for part, chosen in enumerate((rows[half:], rows[:half])):
            if chosen:
                write_table(folder / f"rejected-{part:05d}.parquet", pa.Table.from_pylist(chosen, schema=REJECTED))
    return folder


def write_made_up(root: Path, *, ratios: Mapping[str, float] | None = None) -> MadeUp:
    """The release described above, in two shards."""
    red, blue = png((220, 40, 40)), png((40, 40, 220))
    shapes = [
        sample("shapes", "What colour is it?", "Red.", [red]),
        sample("shapes", "Which is blue?", "The second.", [red, blue]),
        sample("shapes", "Is it blue?", "Yes.", [blue]),
        sample("shapes", "Is it blue?", "Yes.", [blue], copy=1),
    ]
    words = [sample("words", HOSTILE, "No.")] + [sample("words", f"What is {n} + 1?", f"{n + 1}") for n in range(3)]
    folders = {
        "shapes": write_source(
            root / "sources" / "shapes" / "aa",
            shapes,
            [("missing_image", "no picture 'a.png'", b'{"image": "<b>a.png</b>"}')] * 5
            + [("empty_answer", "none", b"\xff\x00{")],
        ),
        "words": write_source(root / "sources" / "words" / "bb", words),
        "gone": write_source(root / "sources" / "gone" / "cc", [], [("bad_json", "line 1", b"{" + b"x" * 5_000)]),
    }
    stream = [(shapes[0], 0), (words[0], 0), (words[1], 0), (shapes[1], 0), (words[0], 1), (shapes[2], 0), (words[2], 0)]
    folder = root / "releases" / "tiny" / "0123456789abcdef"
    entries = _write_stream(folder, stream, folders)
    _write_verdicts(folder, [*shapes, *words], {shapes[3]["sample_id"]: shapes[2]["sample_id"]}, words[3]["sample_id"])
    return MadeUp(folder, _manifest(folder, entries, stream, ratios), folders)


def _write_stream(folder: Path, stream: Sequence[tuple[dict[str, Any], int]], folders: Mapping[str, Path]) -> list[ShardEntry]:
    (folder / SHARD_FOLDER).mkdir(parents=True)
    entries: list[ShardEntry] = []
    index: list[dict[str, Any]] = []
    for number, placed in enumerate([stream[:4], stream[4:]]):
        tar = bytearray()
        for row, repeat in placed:
            start = len(tar)
            for name, content in _members(row, repeat, folders[row["source"]]):
                tar += tar_header(name, len(content)) + content + bytes(padding_bytes(len(content)))
            index.append(
                {"sample_id": row["sample_id"], "source": row["source"], "category": CATEGORIES[row["source"]]}
                | {"repeat": repeat, "shard": number, "offset_bytes": start, "num_bytes": len(tar) - start}
                | {"num_images": row["num_images"], "num_tokens": row["num_tokens"]}
            )
        tar += END_OF_ARCHIVE
        name = shard_name("tiny", number)
        (folder / SHARD_FOLDER / name).write_bytes(tar)
        sha256 = hashlib.sha256(tar).hexdigest()
        entries.append(ShardEntry(name=name, num_samples=len(placed), num_bytes=len(tar), sha256=sha256))
    write_table(folder / INDEX_NAME, pa.Table.from_pylist(index))
    return entries


def _members(row: dict[str, Any], repeat: int, source_folder: Path) -> list[tuple[str, bytes]]:
    key = occurrence_key(row["sample_id"], repeat)
    names = image_names([image["extension"] for image in row["images"]])
    payload = encode_sample(
        key=key,
        source=row["source"],
        category=CATEGORIES[row["source"]],
        conversations=row["conversations"],
        images=[
            ShardImage(name=name, width=image["width"], height=image["height"], sha256=image["sha256"])
            for name, image in zip(names, row["images"], strict=True)
        ],
        license=LICENSES[row["source"]],
        origin={"file": row["origin_file"], "position": row["origin_position"], "id": None},
    )
    content = (source_folder / "images-00000.tar").read_bytes()
    parts = [content[image["offset"] : image["offset"] + image["num_bytes"]] for image in row["images"]]
    return [(f"{key}.json", payload), *((f"{key}.{name}", part) for name, part in zip(names, parts, strict=True))]


def _write_verdicts(folder: Path, samples: Sequence[dict[str, Any]], twins: Mapping[str, str], over_cap: str) -> None:
    rows = []
    for row in samples:
        name = row["sample_id"]
        verdict = {"stage": "mix", "verdict": "keep", "reason": None, "twin_id": None, "detail": None}
        if name in twins:
            verdict = {
                "stage": "dedup",
                "verdict": "drop",
                "reason": "exact_duplicate",
                "twin_id": twins[name],
                "detail": "same",
            }
        elif name == over_cap:
            verdict |= {"verdict": "drop", "reason": "over_cap"}
        rows.append({"sample_id": name, "source": row["source"], **verdict})
    write_table(folder / "verdicts.parquet", pa.Table.from_pylist(rows, schema=VERDICTS))


def _manifest(
    folder: Path,
    entries: Sequence[ShardEntry],
    stream: Sequence[tuple[dict[str, Any], int]],
    ratios: Mapping[str, float] | None,
) -> dict[str, Any]:
    def counts(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
        images, tokens = (sum(row[key] for row in rows) for key in ("num_images", "num_tokens"))
        return {"samples": len(rows), "images": images, "tokens": tokens, "num_bytes": 1_024 * len(rows)}

    rows = {name: [row for row, _ in stream if row["source"] == name] for name in CATEGORIES}
    given = {name: counts(listed) for name, listed in rows.items() if listed}
    return {
        "schema_version": 1,
        "name": "tiny",
        "fingerprint": folder.name,
        "num_samples": len(stream),
        "num_bytes": sum(entry.num_bytes for entry in entries),
        "tokens": "words between white space; no tokenizer",
        "shards": [asdict(entry) for entry in entries],
        "categories": {CATEGORIES[name]: listed for name, listed in sorted(given.items())},
        "sources": given,
        "mixture": {"name": "tiny", "seed": 7, "cap": 3, "ratios": dict(ratios) if ratios else None, "max_repeat": 2},
        "plan": {
            name: {"source": name, "category": category, "samples": given.get(name, {"samples": 0})["samples"]}
            for name, category in CATEGORIES.items()
        },
        "warnings": ["source 'gone' has no samples to give"],
        "inputs": {"pool": "cafe", "sources": {"shapes": "aa", "words": "bb", "gone": "cc"}},
        "conservation": {
            "shapes": {"records": 10, "rejected": {"empty_answer": 1, "missing_image": 5}, "samples": 4}
            | {"dropped": {"exact_duplicate": 1}, "kept": 3, "repaired": {"extension_corrected": 1}},
            "words": {"records": 4, "rejected": {}, "samples": 4, "dropped": {}, "kept": 4, "repaired": {}},
            "gone": {"records": 1, "rejected": {"bad_json": 1}, "samples": 0, "dropped": {}, "kept": 0, "repaired": {}},
        },
        "versions": {"python": "3.11", "pillow": "12"},
        "created": "2020-01-01T00:00:00+00:00",
    }
