"""The catalog: which public sources there are, and how their records become samples.

A source is described, not programmed: *where* its files lie (`location`), *how* records are cut out of them (`reader`),
what else belongs to a record (`join`), which *layout* a record has and which of its fields mean what (`fields`), and where
the pictures are (`images`). A dataset of a known layout needs a row here and no code. `docs/catalog.md` lists every key.

Beside `sources` a catalog has `upstreams`, releases that serve many sources, and `benchmarks`, the evaluation sets that
training data is held against.
"""

import os
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

from pydantic import Field, StringConstraints, field_validator, model_validator

from curation.catalog.images import Images
from curation.catalog.locations import HubDataset, LocalFiles, Location, ReleaseRows, Upstream, check_pattern, is_remote
from curation.catalog.parts import Fields, Join, Layout, Part, Reader, member
from curation.catalog.values import Text, Value
from curation.errors import CatalogError
from curation.fingerprint import fingerprint
from curation.yaml_file import Settings, nearest

__all__ = [
    "ALL_ORIGINALS", "UNKNOWN_LICENSE", "Benchmark", "Catalog", "Category", "Expected", "Fields", "HubDataset", "Images",
    "Join", "Layout", "LocalFiles", "Location", "Original", "Part", "Prompt", "Reader", "ReleaseRows", "Row", "Source",
    "Text", "Upstream", "Value", "expand_environment", "ingest_settings",
]  # fmt: skip

ROW_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
UNKNOWN_LICENSE = "unknown"
ALL_ORIGINALS = "all"
ROUNDED_TO = 1_000
"""Records to which the paper rounds its counts."""
Count = Annotated[int, Field(ge=0)]
Tag = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Category(StrEnum):
    """The kind of skill a source teaches (paper, Figure 9)."""

    LANGUAGE = "language"
    GENERAL = "general"
    OCR = "ocr"
    COUNTING = "counting"
    MATH = "math"
    CODE = "code"
    SCIENCE = "science"


class Expected(Settings):
    """What the publisher says a source holds; used by `plan --counts published` and to warn when ingestion differs.

    `records`: in all; `samples_7m`: of these in Cambrian-7M; `rounded`: the figures are. `annotation_files`: records by
    annotation file, for a source that has several (a cap may count by them). `images`: distinct pictures.
    """

    records: Count | None = None
    samples_7m: Count | None = None
    rounded: bool = False
    annotation_files: Annotated[dict[str, Count], Field(min_length=2)] | None = None
    images: Count | None = None

    @model_validator(mode="after")
    def _figures_agree(self) -> "Expected":
        if self.annotation_files is not None and sum(self.annotation_files.values()) != self.records:
            total = sum(self.annotation_files.values())
            raise ValueError(f"annotation_files: sum to {total:,}, but records is {self.records}; they are parts of it")
        if self.samples_7m is not None and self.samples_7m > (self.records or 0):
            raise ValueError(f"samples_7m: {self.samples_7m:,} is more than records, {self.records}")
        return self

    def agrees_with(self, records: int) -> bool:
        """Whether so many records are what was expected; a rounded figure allows for 1,000 more or fewer."""
        return self.records is None or abs(self.records - records) <= (ROUNDED_TO if self.rounded else 0)


class Prompt(Settings):
    """A response-format prompt, for turns whose question and answer match the regular expressions that are given."""

    text: Annotated[str, StringConstraints(min_length=1)]
    question: str | None = None
    answer: str | None = None

    @model_validator(mode="after")
    def _usable(self) -> "Prompt":
        check_pattern("question", self.question)
        check_pattern("answer", self.answer)
        return self


class Row(Settings):
    """What sources and benchmarks have in common."""

    name: str
    license: str = UNKNOWN_LICENSE
    revision: str | None = None
    homepage: str | None = None
    tags: list[Tag] = []
    expected: Expected = Expected()
    parts: Annotated[list[Part], Field(min_length=1)]
    reads_original: bool = False

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not ROW_NAME.fullmatch(value):
            raise ValueError(f"source name '{value}' must be lower-case letters, digits, '-' and '_', at most 48")
        return value

    @field_validator("category", mode="before", check_fields=False)
    @classmethod
    def _known_category(cls, value: object) -> object:
        return member(Category, value)


class Original(Settings):
    """Where a part of a source was published first; `part` says how records are read there, when that is known."""

    location: Location
    part: Part | None = None


class Source(Row):
    """A source of training samples. `original`: where it was published first, which may be read in place of its `parts`."""

    category: Category
    prompt: str | Annotated[list[Prompt], Field(min_length=1)] | None = None
    original: list[Original] = []

    @property
    def prompts(self) -> tuple[Prompt, ...]:
        """Its response-format prompts; a turn is given the first one that matches it, or none."""
        if isinstance(self.prompt, str):
            return (Prompt(text=self.prompt),)
        return tuple(self.prompt or ())

    @property
    def prompt_texts(self) -> tuple[str, ...]:
        """What its prompts say: to be ignored where questions are compared."""
        return tuple(prompt.text for prompt in self.prompts)

    @property
    def annotation_files(self) -> Mapping[str, int | None]:
        """Expected records by annotation file. A source that names none is one file, whatever it shares with others."""
        return self.expected.annotation_files or {self.name: self.expected.records}

    def from_original(self) -> "Source":
        """The same row, read from its original. Raises CatalogError when it names none, or not how records are read there."""
        if self.reads_original:
            return self
        if not self.original:
            raise CatalogError(f"source '{self.name}' names no `original` to be read from")
        parts = [original.part for original in self.original]
        known = [part for part in parts if part is not None]
        if len(known) < len(parts):
            raise CatalogError(
                f"source '{self.name}': of its original {self.original[parts.index(None)].location} only the place is known; "
                "add to its `original` how records are read there: `layout`, `fields` and, for pictures, `images`"
            )
        return self.model_copy(update={"parts": known, "reads_original": True})


class Benchmark(Row):
    """An evaluation set, read like a source; never trained on."""

    category: Category | None = None


class Catalog(Settings):
    """All rows of one catalog file, in file order. `folder` is what relative locations start from."""

    folder: Path
    sources: dict[str, Source]
    upstreams: dict[str, Upstream] = {}
    benchmarks: dict[str, Benchmark] = {}

    def source(self, name: str) -> Source:
        """The row called `name`. Raises CatalogError naming the valid ones."""
        if name not in self.sources:
            valid = ", ".join(sorted(self.sources))
            raise CatalogError(f"no source '{name}' in the catalog{nearest(name, list(self.sources))}; it has {valid}")
        return self.sources[name]

    def reading_originals(self, names: Sequence[str]) -> "Catalog":
        """The catalog in which the sources `names` are read from their originals; ALL_ORIGINALS means all that can be.

        Raises CatalogError for a source that has none.
        """
        if list(names) == [ALL_ORIGINALS]:
            names = [name for name, source in self.sources.items() if source.original and all(o.part for o in source.original)]
        chosen = {name: self.source(name).from_original() for name in names}
        return self.model_copy(update={"sources": self.sources | chosen}) if chosen else self

    def root_of(self, place: Part | Upstream) -> Path:
        """The folder that a part's or upstream's patterns start from, with `${NAME}` replaced from the environment.

        Raises CatalogError when a variable is not set, or the place is no folder of this machine.
        """
        holder = place.location if isinstance(place, Part) else place
        root = getattr(holder, "root", None)
        if not isinstance(root, str) or (isinstance(holder, LocalFiles) and not holder.is_here):
            raise CatalogError(f"location '{holder}' is no folder of this machine")
        return (self.folder / expand_environment(root)).resolve()

    def local_roots(self) -> list[Path]:
        """The folders of this machine that its rows are read from, as far as they are there; sorted."""
        parts = [part for row in (*self.sources.values(), *self.benchmarks.values()) for part in row.parts]
        places: list[Part | Upstream] = [*self.upstreams.values()]
        places += [part for part in parts if isinstance(part.location, LocalFiles) and part.location.is_here]
        found: set[Path] = set()
        for place in places:
            try:
                found.add(self.root_of(place))
            except CatalogError:  # a variable that only other runs need
                continue
        return sorted(path for path in found if path.is_dir())

    def claims(self, upstream: str) -> list[tuple[Row, int, ReleaseRows]]:
        """Who has rows of `upstream`: row, number of its part, and which; in the order in which they are asked."""
        found = [
            (row, number, part.location)
            for row in (*self.sources.values(), *self.benchmarks.values())
            for number, part in enumerate(row.parts)
            if isinstance(part.location, ReleaseRows) and part.location.release == upstream
        ]
        return sorted(found, key=lambda claim: claim[2].is_rest)


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


def ingest_settings(row: Row) -> str:
    """Fingerprint of what in a row changes its samples: not its licence, prompt, category or expected counts.

    Locations take part by what their files hold, not by where they lie, so a checkout or a mirror can move. Keys that a row
    does not use do not take part, so a later version may know more of them.
    """
    parts = [_part_settings(part) for part in row.parts]
    return fingerprint({"name": row.name, "parts": parts, "locations": [part.location.identity for part in row.parts]})


def _part_settings(part: Part) -> dict[str, Any]:
    """A part without its places: an archive that lies elsewhere is known by its name alone."""
    found = part.model_dump(mode="json", exclude={"location"}, exclude_defaults=True)
    for name in ("zip", "tar"):
        if part.images is not None and getattr(part.images, name) is not None and any(map(is_remote, part.images.packed)):
            found["images"][name] = [PurePosixPath(place).name if is_remote(place) else place for place in part.images.packed]
    return found
