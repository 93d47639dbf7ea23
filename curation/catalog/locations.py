"""Where a part's record files lie: files in a folder, a Hub dataset, a list of URLs, or rows of a release.

A *release* is one upstream that serves many sources: record files in which each record names its annotation file and its
picture, and one archive of pictures an image folder. It is described once, under `upstreams:`, and sources claim rows of it.
Nothing is read or fetched here.
"""

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, Discriminator, Field, StringConstraints, Tag, field_validator, model_validator

from curation.yaml_file import Settings, nearest

ANY = "*"
"""Matches every annotation file, or every image folder."""

_DATASET = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NOT_LINEAR = re.compile(r"\(\?(?:[=!]|<[=!]|P=)|\\[1-9]")
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(min_length=1)]


ItemT = TypeVar("ItemT")


def _as_list(value: ItemT | list[ItemT]) -> tuple[ItemT, ...]:
    return tuple(value) if isinstance(value, list) else (value,)


def is_remote(place: str) -> bool:
    """Whether `place` is a URL (any scheme) rather than a path."""
    return "://" in place


def check_below(text: str) -> None:
    """Raises ValueError for a path that is absolute or climbs: it would leave the place it is relative to."""
    if PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts:
        raise ValueError(f"'{text}' leaves the location; name a place below `root`")


def _check_dataset(name: str) -> None:
    if not _DATASET.fullmatch(name):
        raise ValueError(f"hub: found '{name}', expected the name of a dataset, `owner/name`")


def _check_root(root: str) -> None:
    if root.startswith(("http://", "https://")):
        raise ValueError(f"root: a web server does not list its files, found '{root}'; name each under `http: [{{url: ...}}]`")


class LocalFiles(Settings):
    """Glob patterns below `root`: a folder, relative to the catalog's, or any fsspec URL such as `s3://bucket/prefix`."""

    root: str = "."
    files: str | Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _listable(self) -> Self:
        _check_root(self.root)
        return self

    @property
    def patterns(self) -> tuple[str, ...]:
        """The glob patterns as a tuple."""
        return _as_list(self.files)

    @property
    def is_here(self) -> bool:
        """Whether the files lie on a file system of this machine."""
        return not is_remote(self.root)

    @property
    def identity(self) -> Any:
        """What of the location names its samples: the patterns. The files' content does the rest, wherever they lie."""
        return self.patterns

    def __str__(self) -> str:
        return self.root


class HubDataset(Settings):
    """One split of a dataset on the Hugging Face Hub, at a `revision`: a commit, or a branch that is resolved once."""

    hub: str
    config: Name | None = None
    split: Name = "train"
    revision: Name = "main"

    @model_validator(mode="after")
    def _dataset_name(self) -> Self:
        _check_dataset(self.hub)
        return self

    @property
    def identity(self) -> Any:
        """Which split it is. Its content does the rest, at whatever revision and by whatever name that has."""
        return {"hub": self.hub, "config": self.config, "split": self.split}

    def __str__(self) -> str:
        config = f"/{self.config}" if self.config else ""
        return f"hub:{self.hub}{config}:{self.split}@{self.revision}"


class HttpFile(Settings):
    """One file at a URL. `size` (bytes) and `sha256` are what it must have; `name` is what it is called here."""

    url: str
    size: Annotated[int, Field(ge=0)] | None = None
    sha256: Sha256 | None = None
    name: Name | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url: found '{self.url}', expected http://... or https://...")
        if parts.username or parts.password:
            raise ValueError("url: holds a user name or password; credentials come from the environment only")
        if self.file in ("", "."):
            raise ValueError(f"url: '{self.url}' ends in no file name; set `name`")
        check_below(self.file)
        return self

    @property
    def file(self) -> str:
        """`name`, or the last segment of the URL's path."""
        return self.name or unquote(PurePosixPath(urlsplit(self.url).path).name)


class HttpFiles(Settings):
    """Files at URLs, each named below one folder here."""

    http: Annotated[list[HttpFile], Field(min_length=1)]

    @model_validator(mode="after")
    def _named_apart(self) -> Self:
        names = [item.file for item in self.http]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"http: two files are called '{twice[0]}'; set `name` for one of them")
        return self

    @property
    def identity(self) -> Any:
        """The files' names: their content does the rest, whichever server gave it."""
        return sorted(item.file for item in self.http)

    def __str__(self) -> str:
        more = f" and {len(self.http) - 1} more" if len(self.http) > 1 else ""
        return f"{self.http[0].url}{more}"


class Where(Settings):
    """What else a record must be, for sources that share annotation file and image folder.

    `question` and `answer` are regular expressions, searched in the first question and the first answer; `questions` is the
    number of questions in the conversation. All that are given must hold. `rest` takes what no other row's rule takes.
    """

    question: Name | None = None
    answer: Name | None = None
    questions: Annotated[int, Field(ge=1)] | None = None
    rest: Literal[True] | None = None

    @model_validator(mode="after")
    def _rules(self) -> Self:
        rules = [name for name in ("question", "answer", "questions") if getattr(self, name) is not None]
        if bool(rules) == bool(self.rest):
            raise ValueError("where: give rules (`question`, `answer`, `questions`) or `rest: true`, and not both")
        for name in ("question", "answer"):
            check_pattern(name, getattr(self, name))
        return self


def check_pattern(name: str, pattern: str | None) -> None:
    """Raises ValueError for what is no regular expression, or one that needs more than linear time on long texts."""
    if pattern is None:
        return
    if _NOT_LINEAR.search(pattern):
        raise ValueError(f"{name}: look-around and back-references are not used here, found '{pattern}'")
    try:
        re.compile(pattern)
    except re.error as problem:
        raise ValueError(f"{name}: '{pattern}' is no regular expression: {problem}") from None


class ReleaseRows(Settings):
    """Rows of the upstream `release`: those whose annotation file is in `source` and whose image folder is in `folder`.

    Both are one glob pattern or a list of them. `folder` is matched against the path of the record's (first) picture and
    holds as many components as it names (`hfdata/iconqa` two); null, or no `folder`, stands for records without a picture.
    Rows are asked in the order of the catalog, those with `where: {rest: true}` last; the first that matches has the record.
    """

    release: str
    source: Name | Annotated[list[Name], Field(min_length=1)] = ANY
    folder: Name | Annotated[list[Name | None], Field(min_length=1)] | None = None
    where: Where | None = None

    @field_validator("folder")
    @classmethod
    def _below(cls, value: str | list[str | None] | None) -> str | list[str | None] | None:
        for folder in _as_list(value):
            if folder is not None:
                check_below(folder)
        return value

    @property
    def sources(self) -> tuple[str, ...]:
        """The patterns of annotation files."""
        return _as_list(self.source)

    @property
    def folders(self) -> tuple[str | None, ...]:
        """The patterns of image folders; None for no picture."""
        return _as_list(self.folder)

    @property
    def is_rest(self) -> bool:
        """Whether these rows are what the others leave."""
        return self.where is not None and self.where.rest is True

    def claims(self, source: str | None, image: str | None) -> bool:
        """Whether a record of annotation file `source` whose first picture has the path `image` may be one of these rows."""
        if not any(fnmatchcase(source or "", pattern) for pattern in self.sources):
            return False
        return any(_in_folder(image, pattern) for pattern in self.folders)

    @property
    def identity(self) -> Any:
        """All of it, but not where the upstream lies: a mirror gives the same samples."""
        return self.model_dump(exclude_defaults=True)

    def __str__(self) -> str:
        return f"{self.release}:{','.join(self.sources)}"


def _in_folder(image: str | None, pattern: str | None) -> bool:
    if image is None or pattern is None:
        return image is None and pattern is None
    depth = pattern.count("/") + 1
    folders = PurePosixPath(image).parts[:-1]
    return len(folders) >= depth and fnmatchcase("/".join(folders[:depth]), pattern)


_KINDS: Mapping[str, type[Settings]] = {"files": LocalFiles, "hub": HubDataset, "http": HttpFiles, "release": ReleaseRows}


def _kind(value: Any) -> str:
    if isinstance(value, Settings):
        return type(value).__name__
    return next(kind.__name__ for kind in _kinds(value))


def _kinds(keys: Mapping[str, Any]) -> Iterator[type[Settings]]:
    for key, kind in _KINDS.items():
        if key in keys or (key == "files" and "root" in keys):
            yield kind


def _one_kind(value: object) -> object:
    if isinstance(value, Settings):
        return value
    if not isinstance(value, dict):
        raise ValueError(f"expected a mapping with one of {', '.join(_KINDS)}")
    found = len(list(_kinds(value)))
    if found != 1:
        keys = ", ".join(map(str, value)) or "nothing"
        hint = nearest(str(next(iter(value), "")), list(_KINDS)) if not found else ""
        valid = "`files` (below `root`), `hub`, `http` and `release`"
        raise ValueError(f"a location is exactly one of {valid}; found {keys}{hint}")
    return value


Location = Annotated[
    Annotated[LocalFiles, Tag("LocalFiles")]
    | Annotated[HubDataset, Tag("HubDataset")]
    | Annotated[HttpFiles, Tag("HttpFiles")]
    | Annotated[ReleaseRows, Tag("ReleaseRows")],
    Discriminator(_kind),
    BeforeValidator(_one_kind),
]
"""One of the four kinds; which one follows from its keys."""


class Upstream(Settings):
    """A release that serves many sources: on the Hub, or as a mirror in a folder or below an fsspec URL.

    `records`: its record files, as patterns below it. `archives`: for an image folder (the first component of a picture's
    path), the archive that holds it; `default` for all others, with `{folder}` in it. A list names several archives; a pattern
    names the parts of one archive, which are joined in the order of their numbers. A URL lies elsewhere and is taken as it is.
    """

    name: str
    hub: str | None = None
    root: str | None = None
    revision: Name = "main"
    homepage: str | None = None
    records: Name | Annotated[list[Name], Field(min_length=1)]
    archives: dict[str, Name | Annotated[list[Name], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.hub is None) == (self.root is None):
            raise ValueError("an upstream lies in one place: give either `hub` or `root`")
        if self.hub is not None:
            _check_dataset(self.hub)
        if self.root is not None:
            _check_root(self.root)
            if "revision" in self.model_fields_set:
                raise ValueError("`revision` belongs to `hub`; a folder has none")
        for name in (*self.record_patterns, *(item for value in self.archives.values() for item in _as_list(value))):
            if not is_remote(name):
                check_below(name)
        return self

    @property
    def record_patterns(self) -> tuple[str, ...]:
        """The patterns of its record files."""
        return _as_list(self.records)

    def archives_of(self, folder: str) -> tuple[str, ...]:
        """The archives of the pictures whose paths begin with `folder`; none when the release has no such archive."""
        listed = self.archives.get(folder, self.archives.get("default", []))
        return tuple(item.replace("{folder}", folder) for item in _as_list(listed))
