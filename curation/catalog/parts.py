"""How records of one shape become samples: layout, reader, joins, fields and pictures of a source's part.

All of it is described, not programmed; `docs/catalog.md` lists every key.
"""

from collections.abc import Mapping
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, field_validator, model_validator

from curation.catalog.images import Images
from curation.catalog.locations import HttpFiles, HubDataset, LocalFiles, Location, ReleaseRows, check_below
from curation.catalog.template import Path as FieldPath
from curation.catalog.template import Template, TemplateError
from curation.catalog.values import TemplateText, Text, Value, check_template
from curation.yaml_file import Settings, nearest


class Layout(StrEnum):
    """The record shapes that have an adapter in `curation/sources`."""

    CONVERSATIONS = "conversations"
    QA = "qa"
    MULTIPLE_CHOICE = "multiple_choice"
    CAPTION = "caption"
    INSTRUCTION = "instruction"


class Reader(Settings):
    """How records are cut out of a file.

    `json` finds out by itself whether a file holds an array, an object keyed by id (the key becomes field `_key`) or one
    object a line; `records: one` takes the whole file as one record. A record that is no object is found under `_value`.
    `json_fields` are fields, of any format, that hold JSON as text: paths then lead into it (`ground_truth.text`).
    """

    format: Literal["json", "delimited", "parquet", "webdataset"] = "json"
    records: Literal["many", "one"] = "many"
    columns: list[str] | None = None
    separator: str = "\t"
    header: bool = False
    quoting: bool = False
    unescape: bool = False
    json_fields: list[Annotated[str, StringConstraints(min_length=1)]] = []

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
    Layout.CONVERSATIONS: ("id", "role", "content", "question", "answer", "preamble"),
    Layout.QA: ("id",),
    Layout.MULTIPLE_CHOICE: ("id", "options"),
    Layout.CAPTION: ("id", "question"),
    Layout.INSTRUCTION: ("id", "input"),
}


_TRANSLATED: Mapping[Layout, tuple[str, ...]] = {
    Layout.CONVERSATIONS: ("answer",),
    Layout.QA: ("question", "answer"),
    Layout.MULTIPLE_CHOICE: ("question", "answer"),
    Layout.CAPTION: ("caption",),
    Layout.INSTRUCTION: ("output",),
}
"""The fields that `values` may translate."""


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

    @model_validator(mode="before")
    @classmethod
    def _hub_datasets_come_as_parquet(cls, value: Any) -> Any:
        location = value.get("location") if isinstance(value, dict) else None
        if isinstance(location, dict) and "hub" in location:
            reader = value.get("reader")
            if reader is None or (isinstance(reader, dict) and "format" not in reader):
                return {**value, "reader": {"format": "parquet", **(reader or {})}}
        return value

    def is_aside(self, file: str) -> bool:
        """Whether a file of the part is one that its records refer to, and holds none itself."""
        images = self.images
        aside = {join.file for join in self.join.values()} | set(images.packed if images else ())
        return any(PurePosixPath(file).match(pattern) for pattern in aside)

    @field_validator("layout", mode="before")
    @classmethod
    def _known_layout(cls, value: object) -> object:
        return member(Layout, value)

    @model_validator(mode="after")
    def _fields_fit_the_layout(self) -> "Part":
        given = {name for name in Fields.model_fields if getattr(self.fields, name) is not None}
        required, optional = _REQUIRED_FIELDS[self.layout], _OPTIONAL_FIELDS[self.layout]
        if missing := [name for name in required if name not in given]:
            raise ValueError(f"layout {self.layout} needs fields: {', '.join(missing)}")
        if extra := sorted(given - {*required, *optional}):
            allowed = ", ".join((*required, *optional))
            raise ValueError(f"layout {self.layout} has no field {', '.join(extra)}; it has {allowed}")
        can = _TRANSLATED[self.layout]
        if unknown := sorted(set(self.values) - set(can)):
            raise ValueError(f"values: layout {self.layout} can translate {' and '.join(can)}, not {', '.join(unknown)}")
        if self.layout is Layout.CONVERSATIONS:
            _check_pair_keys(self.fields)
        for template in _templates(self):
            check_template(template)
        for name, value in (("turns", self.fields.turns), ("options", self.fields.options)):
            _check_paths(name, value)
        for join in self.join.values():
            _check_file_name(join.file)
        return self

    @model_validator(mode="after")
    def _fits_its_location(self) -> "Part":
        is_release = isinstance(self.location, ReleaseRows)
        if self.images is not None and is_release != (self.images.archives is True):
            raise ValueError("images: rows of a release find their pictures by `archives: true`, and only they do")
        if self.join and not isinstance(self.location, LocalFiles | HttpFiles):
            raise ValueError("join: rows of a release or Hub dataset have no files beside them")
        if isinstance(self.location, HubDataset) and self.reader.format != "parquet":
            raise ValueError("reader: a Hub dataset comes as `format: parquet`, and needs no `reader`")
        images = self.images
        if isinstance(self.location, HubDataset) and images is not None and images.is_loose and images.by_reference is None:
            raise ValueError(
                "images: a split of a Hub dataset has pictures in a column (`bytes`), at URLs (`url`) or in archives of its "
                "repository (`zip`, `tar`); for pictures that lie there as files, name the record files, too: "
                "location: {root: hf://datasets/owner/name, files: ...}"
            )
        if is_release and self.reader.format != "json":
            raise ValueError("reader: the records of a release come as `format: json`, and need no `reader`")
        return self


def _check_pair_keys(fields: Fields) -> None:
    """Raises ValueError unless turns are told apart either by role or by the keys of a question and its answer."""
    if (fields.question is None) != (fields.answer is None):
        raise ValueError("fields: `question` and `answer` are the keys of one turn's two texts; give both or neither")
    if fields.question is None:
        return
    if fields.role is not None or fields.content is not None:
        raise ValueError("fields: turns have either `role` and `content`, or `question` and `answer` together")
    for name in ("question", "answer"):
        if not isinstance(getattr(fields, name), str):
            raise ValueError(f"fields.{name}: expected the key of a text in each turn")


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
    check_below(text)


def _templates(part: Part) -> list[str]:
    keys = {"role", "content"} | ({"question", "answer"} if part.layout is Layout.CONVERSATIONS else set())
    values: list[Any] = [getattr(part.fields, name) for name in Fields.model_fields if name not in keys]
    values += [join.line for join in part.join.values()]
    values += [part.images.path, part.images.url] if part.images else []
    found: list[str] = []
    for value in values:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            found.extend(value)
        elif isinstance(value, dict):
            found.extend(value.values())
    return found


def member(kind: type[StrEnum], value: object) -> object:
    """`value` as a member of `kind`. Raises ValueError naming the valid ones."""
    if isinstance(value, str):
        try:
            return kind(value)
        except ValueError:
            valid = [each.value for each in kind]
            name = kind.__name__.lower()
            raise ValueError(f"unknown {name} '{value}'{nearest(value, valid)}; valid: {', '.join(valid)}") from None
    return value
