"""The catalog: which public sources there are, and how their records become samples.

A source is described, not programmed: *where* its files lie (`location`), *how* records are cut out of them (`reader`),
what else belongs to a record (`join`), which *layout* a record has and which of its fields mean what (`fields`), and where
the pictures are (`images`). A dataset of a known layout needs a row here and no code. `docs/catalog.md` lists every key.
"""

import os
import re
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from curation.errors import CatalogError
from curation.fingerprint import fingerprint
from curation.template import Path as FieldPath
from curation.template import Template, TemplateError
from curation.yaml_file import Settings, YamlFile, nearest

SOURCE_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
UNKNOWN_LICENSE = "unknown"


class Category(StrEnum):
    """The kind of skill a source teaches (paper, Figure 9)."""

    LANGUAGE = "language"
    GENERAL = "general"
    OCR = "ocr"
    COUNTING = "counting"
    MATH = "math"
    CODE = "code"
    SCIENCE = "science"


class Layout(StrEnum):
    """The record shapes that have an adapter in `curation/sources`."""

    CONVERSATIONS = "conversations"
    QA = "qa"
    MULTIPLE_CHOICE = "multiple_choice"
    CAPTION = "caption"
    INSTRUCTION = "instruction"


class Text(Settings):
    """A value that is the same for every record."""

    text: str


def _check_template(value: str) -> str:
    try:
        Template(value)
    except TemplateError as problem:
        raise ValueError(str(problem)) from None
    return value


TemplateText = Annotated[str, StringConstraints(min_length=1)]
Value = TemplateText | Text | Annotated[list[TemplateText], Field(min_length=1)]
"""A field path (`answer`, `html.cells`), a template (`{question} {unit?}`), alternatives in a list, or fixed `{text: ...}`."""


class Location(Settings):
    """Where a source's record files lie: glob patterns below `root`, itself relative to the catalog's folder."""

    root: str = "."
    files: str | list[str]

    @property
    def patterns(self) -> tuple[str, ...]:
        """The glob patterns as a tuple."""
        return (self.files,) if isinstance(self.files, str) else tuple(self.files)


class Reader(Settings):
    """How records are cut out of a file.

    `json` finds out by itself whether a file holds an array, an object keyed by id (the key becomes field `_key`) or one
    object a line; `records: one` takes the whole file as one record. A record that is no object is found under `_value`.
    """

    format: Literal["json", "delimited", "parquet", "webdataset"] = "json"
    records: Literal["many", "one"] = "many"
    columns: list[str] | None = None
    separator: str = "\t"
    header: bool = False
    quoting: bool = False
    unescape: bool = False

    @model_validator(mode="after")
    def _delimited_names_its_columns(self) -> "Reader":
        if self.format == "delimited" and not self.header and not self.columns:
            raise ValueError("a delimited file without header needs `columns: [...]` (or set `header: true`)")
        if len(self.separator) != 1:
            raise ValueError(f"separator must be one character, found {self.separator!r}")
        return self


class Join(Settings):
    """A second file that belongs to a record, found by a template; its content becomes a field of the record.

    `json`: the parsed file. `text`: its text. `lines`: the line with number `line` (from 0). `table`: its rows as lists, cut
    at `separator` into at most `columns` cells so that the last cell may hold the separator.
    """

    file: TemplateText
    format: Literal["json", "text", "lines", "table"] = "json"
    line: TemplateText | None = None
    separator: str = ","
    columns: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _lines_need_a_number(self) -> "Join":
        if (self.format == "lines") != (self.line is not None):
            raise ValueError("`line` belongs to `format: lines`, and only there")
        return self


class Images(Settings):
    """Where a record's pictures are.

    `path` names them (a field, a template, or a list field); they are looked up in `folder`, or inside `zip` or `tar`.
    `bytes` names a Parquet column that holds them. `members` lists the extensions of picture members in a WebDataset tar.
    """

    path: Value | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    folder: str | None = None
    zip: str | None = None
    tar: str | None = None
    bytes: str | None = None
    members: list[str] | None = None
    marker: str | None = None
    add_markers: bool = False
    optional: bool = False
    limit: Annotated[int, Field(ge=1)] = 16
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000

    @model_validator(mode="after")
    def _one_place(self) -> "Images":
        places = [name for name in ("folder", "zip", "tar") if getattr(self, name) is not None]
        if len(places) > 1:
            raise ValueError(f"pictures are in one place, found {' and '.join(places)}")
        ways = [name for name in ("path", "bytes", "members") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError("say how pictures are found by exactly one of `path`, `bytes` and `members`")
        if places and self.path is None:
            raise ValueError(f"`{places[0]}` needs `path`, the name of a picture in it")
        if isinstance(self.path, Text):
            raise ValueError("path: expected a field or a template that names each record's picture")
        for name in places:
            _check_below(str(getattr(self, name)))
        return self


class Fields(Settings):
    """Which fields of a record mean what; each layout uses the ones its adapter documents."""

    id: Value | None = None
    turns: Value | None = None
    role: str | None = None
    content: str | None = None
    preamble: Value | None = None
    question: Value | None = None
    answer: Value | None = None
    options: Value | dict[str, TemplateText] | None = None
    caption: Value | None = None
    instruction: Value | None = None
    input: Value | None = None
    output: Value | None = None


_REQUIRED_FIELDS: Mapping[Layout, tuple[str, ...]] = {
    Layout.CONVERSATIONS: ("turns",),
    Layout.QA: ("question", "answer"),
    Layout.MULTIPLE_CHOICE: ("question", "answer"),
    Layout.CAPTION: ("caption",),
    Layout.INSTRUCTION: ("instruction", "output"),
}
_OPTIONAL_FIELDS: Mapping[Layout, tuple[str, ...]] = {
    Layout.CONVERSATIONS: ("id", "role", "content", "preamble"),
    Layout.QA: ("id",),
    Layout.MULTIPLE_CHOICE: ("id", "options"),
    Layout.CAPTION: ("id", "question"),
    Layout.INSTRUCTION: ("id", "input"),
}


class Part(Settings):
    """Record files of one shape. Most sources are one part; some publish several files of different layouts."""

    layout: Layout
    location: Location
    reader: Reader = Reader()
    join: dict[str, Join] = {}
    fields: Fields
    values: dict[str, dict[str, str]] = {}
    roles: dict[str, Literal["human", "gpt"]] = {}
    answer_as: Literal["letter", "index", "text"] = "text"
    respond: Literal["letter", "text"] = "letter"
    images: Images | None = None

    @field_validator("layout", mode="before")
    @classmethod
    def _known_layout(cls, value: object) -> object:
        return _member(Layout, value)

    @model_validator(mode="after")
    def _fields_fit_the_layout(self) -> "Part":
        given = {name for name in Fields.model_fields if getattr(self.fields, name) is not None}
        required, optional = _REQUIRED_FIELDS[self.layout], _OPTIONAL_FIELDS[self.layout]
        if missing := [name for name in required if name not in given]:
            raise ValueError(f"layout {self.layout} needs fields: {', '.join(missing)}")
        if extra := sorted(given - {*required, *optional}):
            allowed = ", ".join((*required, *optional))
            raise ValueError(f"layout {self.layout} has no field {', '.join(extra)}; it has {allowed}")
        if unknown := sorted(set(self.values) - {"question", "answer", "output", "caption"}):
            raise ValueError(f"values: can translate question, answer, output and caption, not {', '.join(unknown)}")
        for template in _templates(self):
            _check_template(template)
        for name, value in (("turns", self.fields.turns), ("options", self.fields.options)):
            _check_paths(name, value)
        for join in self.join.values():
            _check_file_name(join.file)
        return self


def _check_paths(name: str, value: Value | dict[str, str] | None) -> None:
    """Raises ValueError unless `value` is a field path or a mapping of them: it means a list, which is no text."""
    if isinstance(value, Text | list):
        raise ValueError(f"fields.{name}: expected the path of a field that holds a list (for options, or one field a letter)")
    paths = value.values() if isinstance(value, dict) else [value] if value else []
    for path in paths:
        try:
            FieldPath.parse(path)
        except TemplateError as problem:
            raise ValueError(f"fields.{name}: {problem}") from None


def _check_file_name(text: str) -> None:
    """Raises ValueError for a name that is no well-formed template, or leaves the source's folder whatever is filled in."""
    try:
        Template.of_name(text)
    except TemplateError as problem:
        raise ValueError(str(problem)) from None
    _check_below(text)


def _check_below(text: str) -> None:
    if PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        raise ValueError(f"'{text}' leaves the location; name a place below `root`")


def _templates(part: Part) -> list[str]:
    values: list[Any] = [getattr(part.fields, name) for name in Fields.model_fields if name not in ("role", "content")]
    values += [join.line for join in part.join.values()]
    values.append(part.images.path if part.images else None)
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            found.extend(value)
        elif isinstance(value, dict):
            found.extend(value.values())
    return found


class Expected(Settings):
    """What the publisher says a source holds; used by `plan --counts published` and to warn when ingestion differs."""

    records: Annotated[int, Field(ge=0)] | None = None
    samples_7m: Annotated[int, Field(ge=0)] | None = None
    rounded: bool = False


class Source(Settings):
    """One row of the catalog."""

    name: str
    category: Category
    license: str = UNKNOWN_LICENSE
    revision: str | None = None
    homepage: str | None = None
    prompt: str | None = None
    expected: Expected = Expected()
    parts: Annotated[list[Part], Field(min_length=1)]

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not SOURCE_NAME.fullmatch(value):
            raise ValueError(f"source name '{value}' must be lower-case letters, digits, '-' and '_', at most 48")
        return value

    @field_validator("category", mode="before")
    @classmethod
    def _known_category(cls, value: object) -> object:
        return _member(Category, value)


class Catalog(Settings):
    """All sources of one catalog file, in file order. `folder` is what relative locations start from."""

    folder: Path
    sources: dict[str, Source]

    def source(self, name: str) -> Source:
        """The row called `name`. Raises CatalogError naming the valid ones."""
        if name not in self.sources:
            valid = ", ".join(sorted(self.sources))
            raise CatalogError(f"no source '{name}' in the catalog{nearest(name, list(self.sources))}; it has {valid}")
        return self.sources[name]

    def root_of(self, part: Part) -> Path:
        """The folder a part's patterns start from, with `${NAME}` replaced from the environment.

        Raises CatalogError when a variable is not set.
        """
        return (self.folder / expand_environment(part.location.root)).resolve()


_PART_KEYS = frozenset(Part.model_fields)


def load_catalog(path: Path) -> Catalog:
    """The catalog at `path`. Raises CatalogError with file and line for the first thing wrong in it."""
    file = YamlFile(path, error=CatalogError)
    if not isinstance(file.value, dict) or not isinstance(file.value.get("sources"), dict):
        raise file.fail("expected a mapping `sources:` of source names to their descriptions")
    if unknown := sorted(set(file.value) - {"sources"}):
        raise file.fail(f"unknown key '{unknown[0]}'; valid keys: sources", at=(unknown[0],))
    sources: dict[str, Source] = {}
    rows = file.value["sources"]
    assert isinstance(rows, dict)
    for name, row in rows.items():
        sources[name] = _parse_source(file, name, row)
    return Catalog(folder=path.resolve().parent, sources=sources)


def _parse_source(file: YamlFile, name: str, row: Any) -> Source:
    """A row as a Source. Keys of a part may stand in the row itself: they are the defaults of all its parts."""
    at = ("sources", name)
    if not isinstance(row, dict):
        raise file.fail("found no mapping, expected a description of the source", at=at)
    defaults = {key: value for key, value in row.items() if key in _PART_KEYS}
    own = {key: value for key, value in row.items() if key not in _PART_KEYS and key != "parts"}
    listed = row.get("parts", [{}])
    if not isinstance(listed, list) or not listed:
        raise file.fail("expected a list of parts", at=(*at, "parts"))
    parts: list[Part] = []
    for number, part in enumerate(listed):
        place = (*at, "parts", number) if "parts" in row else at
        if not isinstance(part, dict):
            raise file.fail("found no mapping, expected a part", at=place)
        parts.append(file.parse(Part, {**defaults, **part}, at=place))
    shell = Source.model_fields.keys() - {"name", "parts"}
    if unknown := [key for key in own if key not in shell]:
        valid = sorted(shell | _PART_KEYS | {"parts"})
        message = f"unknown key '{unknown[0]}'{nearest(unknown[0], valid)}; valid keys: {', '.join(valid)}"
        raise file.fail(message, at=(*at, unknown[0]))
    return file.parse(Source, {"name": name, **own, "parts": parts}, at=at)  # type: ignore[dict-item]


def _member(kind: type[StrEnum], value: object) -> object:
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            valid = [member.value for member in kind]
            name = kind.__name__.lower()
            raise ValueError(f"unknown {name} '{value}'{nearest(value, valid)}; valid: {', '.join(valid)}") from None
    return value


def expand_environment(text: str) -> str:
    """`text` with `${NAME}` and `${NAME:-default}` replaced from the environment.

    Raises CatalogError when a variable without default is not set.
    """

    def replace(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        if name not in os.environ and default is None:
            raise CatalogError(f"location '{text}': the environment variable {name} is not set")
        return os.environ.get(name, default or "")

    return re.sub(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}", replace, text)


def ingest_settings(source: Source) -> str:
    """Fingerprint of what in a row changes its samples: not its licence, prompt, category or expected counts.

    Locations take part by what their files hold, not by where they lie, so a checkout can move.
    """
    parts = [part.model_dump(mode="json", exclude={"location"}) for part in source.parts]
    patterns = [part.location.patterns for part in source.parts]
    return fingerprint({"name": source.name, "parts": parts, "patterns": patterns})
