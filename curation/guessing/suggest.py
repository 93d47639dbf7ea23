"""A catalog row for unknown data: guessed from its first records, tried on them, and written as YAML to be pasted."""

import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from curation.catalog.file import load_catalog
from curation.catalog.spec import UNKNOWN_LICENSE, Catalog, Category, Source
from curation.errors import SourceError
from curation.guessing.columns import Column, columns_of
from curation.guessing.images import marker_in, member_images, named_after, named_images, place_of
from curation.guessing.layouts import suggest_layouts
from curation.guessing.listing import Listing, archives_of_pictures, list_folder, literal, patterns_for, record_groups
from curation.guessing.samples import HEAD, Shape, shapes_of
from curation.inspection.trial import Trial, try_row
from curation.shard_format import IMAGE_MARKER

Settings = dict[str, Any]
_RANKING_HEAD = 8
_GOOD = 0.75
_LEAST = 0.5
"""The share of tried records that a part must map, for it to be suggested beside better ones."""
_NO_FILE = "missing_image"
_USUALLY = 0.9
"""The share of records that name a picture, for those that do not to be at fault rather than text."""


@dataclass(frozen=True, slots=True)
class Guess:
    """A suggested row, what its first records become, and what a person should know about it."""

    name: str
    row: Settings
    trial: Trial
    notes: tuple[str, ...]

    def as_yaml(self, root: str) -> str:
        """A catalog with the row, its files below `root`, in the form in which people write one."""
        comments = [f"# {_printable(note)}" for note in self.notes]
        return "\n".join([*comments, "sources:", f"  {self.name}:", *_yaml_lines(_at_root(self.row, root), "    ")]) + "\n"

    def catalog(self, root: Path) -> Catalog:
        """The row as the catalog's reader takes it, its files below `root`. Raises CatalogError."""
        with tempfile.TemporaryDirectory(prefix="curate-guess-") as folder:
            path = Path(folder) / "catalog.yaml"
            path.write_text(self.as_yaml(str(root)), encoding="utf-8")
            return load_catalog(path)


def guess(path: Path) -> Guess:
    """A row for the data in a folder or file. Raises SourceError when nothing in it can be understood."""
    if not path.exists():
        raise SourceError(f"'{path}' is not there; give a folder, or a JSON, Parquet, TSV, CSV or tar file")
    path = path.resolve()
    folder = path if path.is_dir() else path.parent
    listing = list_folder(folder)
    groups = record_groups(listing) if path.is_dir() else [(path.name,)]
    shapes = [shape for group in groups for shape in shapes_of(listing, group)]
    if not shapes:
        found = "it is empty" if not listing.files or (path.is_file() and not path.stat().st_size) else "no records found"
        raise SourceError(f"'{path}': {found}; expected JSON, JSON lines, Parquet, TSV, CSV or WebDataset tars")
    pictures = {"": listing.pictures, **archives_of_pictures(listing)}
    tried = [_tried(shape, listing, pictures) for shape in shapes]
    parts = _worth_suggesting([found for found in tried if found is not None])
    if not parts:
        fields = ", ".join(column.path for column in columns_of(shapes[0].records)[:20])
        raise SourceError(
            f"'{path}': no layout fits its records; {shapes[0].files[0]} has the fields {_printable(fields)}. "
            "Write the row by hand: docs/catalog.md lists the layouts and what their fields mean"
        )
    name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).strip("-_")[:48] or "new-source"
    row = _row(_merged([part for part, _ in parts], listing))
    catalog = Guess(name, row, Trial(name, ()), ()).catalog(folder)
    trial = try_row(catalog, catalog.source(name), HEAD)
    used = {file for shape, found in zip(shapes, tried, strict=True) if found in parts for file in shape.files}
    return Guess(name, row, trial, tuple(_notes(trial, row, [file for shape in shapes for file in shape.files], used, listing)))


# --- One shape ----------------------------------------------------------------------------------------------------------

Tried = tuple[Settings, float]


def _tried(shape: Shape, listing: Listing, pictures: Mapping[str, frozenset[str]]) -> Tried | None:
    """The suggestion that maps most records of the shape, the first of equals, and the share that it maps."""
    columns = columns_of(shape.records)
    images = _images(shape, columns, pictures)
    best: Tried | None = None
    for layout in suggest_layouts(columns):
        if layout["layout"] == "caption" and images is None:
            continue
        reader = {} if shape.reader == {"format": "json"} else {"reader": _without_format(shape.reader)}
        part = {"layout": layout.pop("layout"), "location": {"files": list(shape.files)}, **reader, **layout}
        if images is not None:
            part["images"] = _with_markers(images, part, shape)
        share = _share(part, listing.root)
        if best is None or share > best[1]:
            best = (part, share)
        if share >= _GOOD:
            break
    return best


def _without_format(reader: Settings) -> Settings:
    return {key: value for key, value in reader.items() if (key, value) != ("format", "json")}


def _images(shape: Shape, columns: Sequence[Column], pictures: Mapping[str, frozenset[str]]) -> Settings | None:
    """Where the pictures of a shape are; for pictures that are nowhere to be found, only what names them."""
    if shape.byte_columns:
        return {"bytes": shape.byte_columns[0]}
    members = member_images(shape.records)
    if members is not None:
        return members
    named = named_images(columns)
    for column in named:
        for archive, names in pictures.items():
            place = place_of(column, shape.records, names)
            if place is not None:
                return {**_in_archive(place, archive), **({} if column.share_given >= _USUALLY else {"optional": True})}
    for archive, names in pictures.items():
        found = named_after(shape.records, columns, names) if names else None
        if found is not None:
            return found if not archive else {**found, _archive_kind(archive): archive}
    return {"path": named[0].path} if named else None


def _in_archive(place: Settings, archive: str) -> Settings:
    if not archive:
        return place
    folder = place.pop("folder", "")
    path = f"{folder}/{{{place['path']}}}" if folder and "{" not in place["path"] else place["path"]
    return {"path": path, _archive_kind(archive): archive}


def _archive_kind(name: str) -> str:
    return "zip" if name.lower().endswith(".zip") else "tar"


def _with_markers(images: Settings, part: Settings, shape: Shape) -> Settings:
    """`images` with the publisher's marker, or with markers to be added where conversations have none."""
    texts = list(chain.from_iterable(_texts(value) for record in shape.records for value in record.values()))
    marker = marker_in(texts)
    if marker is not None:
        return {**images, "marker": marker}
    if part["layout"] == "conversations" and not any(IMAGE_MARKER in text for text in texts):
        return {**images, "add_markers": True}
    return images


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value[:64]:
            yield from _texts(each)


def _share(part: Settings, root: Path) -> float:
    """The share of the first records that the part maps; a picture that is not there is not the mapping's fault."""
    files = [literal(file) for file in part["location"]["files"][:HEAD]]
    settings = _at_root(_located(part, files), str(root))
    source = Source.model_validate({"name": "guess", "category": Category.GENERAL, "parts": [settings]}, strict=False)
    trial = try_row(Catalog(folder=root, sources={}), source, _RANKING_HEAD)
    total = len(trial.samples) + len(trial.rejects)
    return (len(trial.samples) + trial.reasons.get(_NO_FILE, 0)) / total if total else 0.0


# --- The row ------------------------------------------------------------------------------------------------------------


def _worth_suggesting(parts: Sequence[Tried]) -> list[Tried]:
    best = max((share for _, share in parts), default=0.0)
    return [(part, share) for part, share in parts if share > 0 and share >= min(best, _LEAST)]


def _located(part: Settings, files: Sequence[str]) -> Settings:
    return {**part, "location": {"files": list(files) if len(files) > 1 else files[0]}}


def _merged(parts: Sequence[Settings], listing: Listing) -> list[Settings]:
    """Parts that differ in nothing but their files as one, the files named by patterns."""
    files: dict[str, list[str]] = {}
    first: dict[str, Settings] = {}
    for part in parts:
        key = json.dumps({name: value for name, value in part.items() if name != "location"})
        first.setdefault(key, part)
        files.setdefault(key, []).extend(part["location"]["files"])
    return [_located(part, patterns_for(sorted(files[key]), listing)) for key, part in first.items()]


def _row(parts: Sequence[Settings]) -> Settings:
    head: Settings = {"category": Category.GENERAL.value, "license": UNKNOWN_LICENSE}
    return {**head, **parts[0]} if len(parts) == 1 else {**head, "parts": list(parts)}


def _at_root(row: Settings, root: str) -> Settings:
    if "parts" in row:
        return {**row, "parts": [_at_root(part, root) for part in row["parts"]]}
    return {**row, "location": {"root": root, **row["location"]}}


def _notes(trial: Trial, row: Settings, files: Sequence[str], used: set[str], listing: Listing) -> Iterator[str]:
    total = len(trial.samples) + len(trial.rejects)
    yield f"Suggested by `curate try --guess`: {len(trial.samples)} of the first {total} records map."
    for reason, number in trial.reasons.items():
        first = next(reject for reject in trial.rejects if reject.reason == reason)
        yield f"{number} rejected as {reason}, such as: {' '.join(first.detail.split())[:90]}"
    yield "Yours to settle: category, license, and `expected: {records: ...}`; docs/catalog.md lists every key."
    columns = [name for part in row.get("parts", [row]) for name in part.get("reader", {}).get("columns", [])]
    if columns:
        yield f"The file does not name its columns: {', '.join(dict.fromkeys(columns))} are ours, rename them as you like."
    left = [file for file in files if file not in used]
    if left:
        yield f"Not understood, and left out: {', '.join(left[:5])}{f' and {len(left) - 5} more' if len(left) > 5 else ''}"
    if listing.is_cut:
        yield f"Only the first {len(listing.files):,} files were looked through for pictures."


def _printable(text: str) -> str:
    """`text` on one line, without signs that steer terminals or end a comment."""
    return "".join(sign if sign.isprintable() else "\ufffd" for sign in text)


def _yaml_lines(row: Settings, indent: str) -> Iterator[str]:
    """Keys on lines of their own, their values in flow style, as in the shipped catalogs."""
    for key, value in row.items():
        if key == "parts":
            yield f"{indent}parts:"
            for part in value:
                lines = list(_yaml_lines(part, f"{indent}    "))
                yield f"{indent}  - {lines[0].strip()}"
                yield from lines[1:]
            continue
        flow = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True, sort_keys=False)
        yield f"{indent}{key}: {flow.removesuffix('...' + chr(10)).strip()}"
