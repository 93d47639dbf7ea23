"""Where the pictures of a source's records are."""

from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from curation.catalog.hub_path import hub_path
from curation.catalog.locations import Name, check_below, is_remote
from curation.catalog.values import Text, Value
from curation.yaml_file import Settings

Packed = Name | Annotated[list[Name], Field(min_length=1)]
"""An archive, or the archives, of pictures: names or patterns below the part's location, or URLs."""


class Images(Settings):
    """Where a record's pictures are.

    `path` names them (a field, a template, or a list field); they are looked up in `folder`, or inside the archives `zip` or
    `tar`, which lie with the records (on the Hub: in the same repository at the same commit) or at URLs, or, for rows of a
    release, in the archives of its image folders (`archives: true`). `strip` are folders before the names that records give
    and the archives do not.
    `url` gives addresses of pictures on the web. `bytes` names a Parquet column that holds them. `members` lists the extensions
    of picture members in a WebDataset tar.

    `by_reference` names the collection that the names in `path` are of (`coco2017`, or `url` where they are URLs): a picture
    that is not there is then known by its name, to all rows that say the same collection. Its samples are planned with and
    held against benchmarks, and enter no shard until the picture is there.
    """

    path: Value | None = None
    count: Annotated[int, Field(ge=1)] | None = None
    folder: str | None = None
    zip: Packed | None = None
    tar: Packed | None = None
    strip: Name | None = None
    archives: Literal[True] | None = None
    url: Value | None = None
    bytes: str | None = None
    members: list[str] | None = None
    marker: str | None = None
    add_markers: bool = False
    optional: bool = False
    by_reference: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]*$")] | None = None
    limit: Annotated[int, Field(ge=1)] = 16
    max_pixels: Annotated[int, Field(ge=1)] = 100_000_000

    @property
    def packed(self) -> tuple[str, ...]:
        """The archives of pictures: names, patterns or URLs; none where pictures are not in archives of the part's own."""
        named = self.zip if self.zip is not None else self.tar
        return tuple(named) if isinstance(named, list) else () if named is None else (named,)

    @property
    def packed_here(self) -> tuple[str, ...]:
        """Those of the archives that lie with the records."""
        return tuple(name for name in self.packed if not is_remote(name))

    @property
    def is_loose(self) -> bool:
        """Whether pictures are files by themselves."""
        return self.path is not None and not self.packed and not self.archives

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        places = [name for name in ("folder", "zip", "tar", "archives") if getattr(self, name) is not None]
        if len(places) > 1:
            raise ValueError(f"pictures are in one place, found {' and '.join(places)}")
        ways = [name for name in ("path", "url", "bytes", "members") if getattr(self, name) is not None]
        if len(ways) != 1:
            raise ValueError("say how pictures are found by exactly one of `path`, `url`, `bytes` and `members`")
        if places and self.path is None:
            raise ValueError(f"`{places[0]}` needs `path`, the name of a picture in it")
        if self.strip is not None and not self.packed:
            raise ValueError("strip: stands before names of pictures in `zip` or `tar`; elsewhere write a template in `path`")
        if self.by_reference is not None and self.path is None:
            raise ValueError("by_reference needs `path`: only a picture with a name can be known by it")
        for name, value in (("path", self.path), ("url", self.url)):
            if isinstance(value, Text):
                raise ValueError(f"{name}: expected a field or a template that names each record's picture")
        return self

    @model_validator(mode="after")
    def _places_stay(self) -> Self:
        for name in (self.folder, self.strip, *self.packed_here):
            check_below(name or ".")
        for url in self.packed:
            if is_remote(url) and url.startswith("hf://"):
                place = hub_path(url)
                if place is None or not place.path:
                    raise ValueError(f"found '{url}', expected an archive on the Hub: hf://datasets/owner/name[@revision]/file")
        return self
