"""A tiny world of upstream sources with every kind of dirt, and pools that stop, turn back or take notes."""

import io
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import yaml
from PIL import Image

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog, Part
from curation.mixture.spec import Mixture
from curation.runtime.pool import InProcessPool
from curation.sources.readers import read, survey
from curation.sources.records import Batch
from curation.steps.clean import Clean
from curation.steps.decontaminate import Decontaminate
from curation.steps.deduplicate import Deduplicate
from curation.steps.embed import Embed
from curation.steps.ingest import Ingest
from curation.steps.measure import Measure
from curation.steps.shard import Shard
from curation.steps.sign import Sign
from curation.steps.step import Artefact
from curation.steps.survivors import Survivors
from curation.storage.store import Store


def encoded(image: Image.Image, encoding: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def picture(number: int, encoding: str = "PNG", size: tuple[int, int] = (5, 4)) -> bytes:
    """A small picture unlike those of other numbers."""
    image = Image.new("RGB", size, (number % 256, 200, 30))
    image.putpixel((number % 5, number % 4), (0, 0, 255))
    return encoded(image, encoding)


def part(**settings: Any) -> Part:
    """A part of a catalog row; `qa` over `*.json` unless said otherwise."""
    defaults = {"layout": "qa", "location": {"files": "*.json"}, "fields": {"question": "q", "answer": "a"}}
    return Part.model_validate(defaults | settings, strict=False)


def read_all(folder: Path, file: str, of: Part) -> Batch:
    """All records and rejects of a file, through its spans."""
    whole = Batch(file)
    for span in survey(folder, file, of):
        batch = read(folder, span, of)
        whole.positions += batch.positions
        whole.records += batch.records
        whole.rejects += batch.rejects
    return whole


def write_files(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def write_catalog(folder: Path, sources: Mapping[str, Any], benchmarks: Mapping[str, Any] | None = None) -> Catalog:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "catalog.yaml"
    path.write_text(
        yaml.safe_dump({"sources": dict(sources), "benchmarks": dict(benchmarks or {})}, sort_keys=False, allow_unicode=True)
    )
    return load_catalog(path)


# --- The world ----------------------------------------------------------------------------------------------------------

NUM_SHAPES = 16
SHAPES_REJECTED = {
    "bad_json": 1,
    "empty_answer": 1,
    "empty_question": 1,
    "image_too_large": 1,
    "marker_mismatch": 1,
    "missing_field": 1,
    "missing_image": 3,
    "path_escapes": 1,
    "too_many_images": 1,
    "truncated_image": 1,
    "unreadable_image": 1,
    "unsupported_value": 1,
}
SHAPES_SAMPLES = NUM_SHAPES + 3
SOURCES: dict[str, Any] = {
    "shapes": {
        "category": "general",
        "license": "CC0-1.0",
        "layout": "qa",
        "location": {"root": "shapes", "files": "train.json"},
        "fields": {"question": "question", "answer": "answer"},
        "images": {"path": "image", "folder": "pictures", "limit": 2, "max_pixels": 10_000},
        "prompt": "Give the short answer directly.",
    },
    "chats": {
        "category": "language",
        "license": "CC0-1.0",
        "layout": "conversations",
        "location": {"root": "chats", "files": "*.jsonl"},
        "fields": {"turns": "turns"},
    },
    "sums": {
        "category": "math",
        "license": "CC0-1.0",
        "layout": "qa",
        "location": {"root": "sums", "files": "*.tsv"},
        "reader": {"format": "delimited", "columns": ["question", "answer"]},
        "fields": {"question": "question", "answer": "answer"},
    },
    "copied-sums": {
        "category": "math",
        "layout": "instruction",
        "location": {"root": "copied", "files": "sums.json"},
        "fields": {"instruction": "instruction", "output": "output"},
    },
}
NUM_SUMS, NUM_COPIED = 30, 10


def _shape(number: int, **changes: Any) -> dict[str, Any]:
    record = {"id": number, "image": f"{number}.png", "question": f"What is shape {number}?", "answer": f"Shape {number}."}
    return {key: value for key, value in (record | changes).items() if value != "absent"}


def _shapes() -> dict[str, bytes]:
    files = {f"shapes/pictures/{number}.png": picture(number) for number in range(NUM_SHAPES)}
    files["shapes/pictures/copy.png"] = picture(0)
    files["shapes/pictures/lying.png"] = picture(99, "JPEG")
    files["shapes/pictures/cut.png"] = picture(98, "PNG", (60, 60))[:-30]
    files["shapes/pictures/text.png"] = b"no picture at all"
    files["shapes/pictures/huge.png"] = encoded(Image.new("1", (101, 101)))
    dirty = [
        _shape(16, image="missing.png"),
        _shape(17, image="../train.json"),
        _shape(18, image="cut.png"),
        _shape(19, image="text.png"),
        _shape(20, image="huge.png"),
        _shape(21, image="0.png", answer=" "),
        _shape(22, image="0.png", question="\n"),
        _shape(23, image="0.png", question="absent"),
        _shape(24, image="0.png", answer=["a", "list"]),
        _shape(25, image="0.png", question="<image> and <image>?"),
        _shape(26, image=None),
        _shape(27, image="None"),
        _shape(28, image=["0.png", "1.png", "2.png"]),
        _shape(29, image="copy.png"),
        _shape(0),
        _shape(30, image="lying.png"),
    ]
    records = [*(_shape(number) for number in range(NUM_SHAPES)), *dirty]
    texts = [json.dumps(record) for record in records]
    texts.insert(7, '{"id": 31, "question": nonsense}')
    files["shapes/train.json"] = ("[\n" + ",\n".join(texts) + "\n]").encode()
    return files


def _chat(number: int) -> str:
    turns = [("human", f"Good day {number}!"), ("gpt", "Good day."), ("human", "Bye."), ("gpt", f"Bye {number}.")]
    return json.dumps({"id": f"chat-{number}", "turns": [{"from": role, "value": text} for role, text in turns]})


def world_files() -> dict[str, bytes]:
    """Upstream files by name below the catalog's folder."""
    files = _shapes()
    files["chats/a.jsonl"] = "\n".join([*map(_chat, range(12)), _chat(3), '{"turns": [', ""]).encode()
    files["chats/b.jsonl"] = "\n".join([_chat(3), *map(_chat, range(12, 20))]).encode()
    sums = [f"What is {number} + 1?\t{number + 1}" for number in range(NUM_SUMS)]
    files["sums/train.tsv"] = "\n".join([*sums, "What is 1 + 1?\t2\tthree cells", ""]).encode()
    copied = [{"instruction": f"WHAT is  {number} + 1?", "output": f"{number + 1}"} for number in range(NUM_COPIED)]
    files["copied/sums.json"] = json.dumps(copied).encode()
    return files


def write_world(folder: Path, *, backwards: bool = False) -> Catalog:
    files = list(world_files().items())
    write_files(folder, dict(reversed(files) if backwards else files))
    return write_catalog(folder, SOURCES)


# --- Running it ---------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """Stands for a process that dies: nothing catches it."""


class StoppingPool(InProcessPool):
    """Dies before task number `after` (from 0), counted over all maps."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.remaining = after

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], *, label: str) -> list[Any]:
        results = []
        for item in items:
            if self.remaining == 0:
                raise Killed
            self.remaining -= 1
            results.append(function(item))
        return results


class BackwardsPool(InProcessPool):
    """Computes the last item first."""

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], *, label: str) -> list[Any]:
        return super().map(function, items[::-1], label=label)[::-1]


class NotingPool(InProcessPool):
    """Counts tasks by the first word of their label."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks: Counter[str] = Counter()

    def map(self, function: Callable[[Any], Any], items: Sequence[Any], *, label: str) -> list[Any]:
        if items:
            self.tasks[label.split(maxsplit=1)[0]] += len(items)
        return super().map(function, items, label=label)


@dataclass(frozen=True)
class Built:
    """A release and all that it was made from."""

    ingested: dict[str, Artefact]
    pool: Artefact
    release: Artefact

    @property
    def folder(self) -> Path:
        return self.release.folder


def ingest(catalog: Catalog, name: str, store: Store, pool: InProcessPool | None = None) -> Artefact:
    return Ingest(catalog, catalog.source(name)).run(store, pool or InProcessPool())


def build(
    catalog: Catalog,
    store: Store,
    mixture: Mixture | None = None,
    pool: InProcessPool | None = None,
    accepted: Sequence[str] = (),
) -> Built:
    """All steps for a mixture, by default one that holds nothing but a name."""
    mixture, pool = mixture or Mixture(name="all"), pool or InProcessPool()
    rows = [row for row in catalog.sources.values() if mixture.takes_part(row)]
    ingested = {row.name: Ingest(catalog, row).run(store, pool) for row in rows}
    cleaned = {row.name: Clean(row.name, row.prompt_texts).run(ingested[row.name], store, pool) for row in rows}
    signed = {
        row.name: Sign(row.name, row.prompt_texts, mixture.dedup.signing()).run(ingested[row.name], store, pool)
        for row in rows
        if mixture.dedup
    }
    embedded = {
        row.name: Embed(row.name, row.prompt_texts, mixture.dedup).run(ingested[row.name], store, pool)
        for row in rows
        if mixture.dedup and mixture.dedup.semantic
    }
    pooled = Deduplicate(mixture.dedup).run(cleaned, store, signed, pool, ingested, embedded)
    if mixture.decontaminate is not None:
        names = mixture.decontaminate.names(list(catalog.benchmarks))
        benchmarks = {name: Ingest(catalog, catalog.benchmarks[name]).run(store, pool) for name in names}
        prompts = {row.name: row.prompt_texts for row in rows}
        pooled = Decontaminate(mixture.decontaminate, prompts).run(pooled, ingested, benchmarks, store, pool)
    measured = {name: Measure(name).run(artefact, store, pool) for name, artefact in ingested.items()}
    Survivors().run(ingested, measured, pooled, store)
    return Built(ingested, pooled, Shard(catalog, mixture).run(ingested, pooled, store, pool, accepted))


def content(folder: Path) -> dict[str, Any]:
    """Every file's bytes by name; manifests parsed and without the one field that tells time."""
    files: dict[str, Any] = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    for name in [name for name in files if name.endswith("manifest.json")]:
        files[name] = {key: value for key, value in json.loads(files[name]).items() if key != "created"}
    return files


def rows(artefact: Artefact, prefix: str) -> pl.DataFrame:
    """All rows of an artefact's tables called `<prefix>-*`."""
    return pl.concat([pl.read_parquet(path) for path in artefact.files(prefix)])
