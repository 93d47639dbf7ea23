"""The mixture spec: which samples of the pool, in which shares, make a release. No data is touched here."""

import math
import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from curation.catalog import Catalog, Category
from curation.errors import MixtureError
from curation.yaml_file import Settings, YamlFile, nearest

RATIO_TOLERANCE = 1e-6
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,47}")
Count = Annotated[int, Field(ge=1)]


class SourceRule(Settings):
    """An exception for one source.

    `take`: how many distinct samples at most, in place of the mixture's cap. `repeat`: how often each may appear.
    `exclude`: the source has no part in the mixture, nor in its de-duplication.
    """

    take: Count | None = None
    repeat: Count = 1
    exclude: bool = False


class Mixture(Settings):
    """A mixture as written. Without further keys it takes every kept sample of every source once.

    `cap`: most distinct samples from one source (the paper's t). `ratios`: category shares, which sum to 1. `size`: samples in
    all, repeats counted; without it as many as cap and ratios allow. `max_repeat`: how often a sample may appear to fill a
    category that is too small. `shard_bytes`: target size of a shard.
    """

    name: str
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    size: Count | None = None
    cap: Count | None = None
    ratios: dict[str, float | int] | None = None
    normalise_ratios: bool = False
    max_repeat: Count = 1
    include: list[str] | None = None
    sources: dict[str, SourceRule] = {}
    format_prompts: bool = True
    shard_bytes: Annotated[int, Field(ge=1 << 12, le=1 << 36)] = 256 << 20

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or ".." in value:
            raise ValueError(f"name '{value}' must be lower-case letters, digits, '-', '_' and '.', at most 48 signs")
        return value

    @model_validator(mode="after")
    def _ratios_are_shares(self) -> "Mixture":
        if self.ratios is None:
            if self.normalise_ratios:
                raise ValueError("normalise_ratios: there are no ratios to normalise")
            return self
        valid = [category.value for category in Category]
        for name, ratio in self.ratios.items():
            if name not in valid:
                raise ValueError(f"ratios: unknown category '{name}'{nearest(name, valid)}; valid: {', '.join(valid)}")
            if not math.isfinite(ratio) or ratio < 0:
                raise ValueError(f"ratios: {name} is {ratio}; a share is a finite number of at least 0")
        total = math.fsum(self.ratios.values())
        if total <= 0:
            raise ValueError("ratios: all are 0; at least one category must have a share")
        if not self.normalise_ratios and abs(total - 1) > RATIO_TOLERANCE:
            raise ValueError(f"ratios: sum to {total:.6g}, expected 1; mend them or set `normalise_ratios: true`")
        return self

    def shares(self) -> dict[Category, float] | None:
        """Category shares that sum to 1, or None when the mixture has no ratios."""
        if self.ratios is None:
            return None
        total = math.fsum(self.ratios.values())
        return {Category(name): ratio / total for name, ratio in self.ratios.items() if ratio > 0}

    def rule(self, source: str) -> SourceRule:
        """The exceptions for `source`, or none."""
        return self.sources.get(source, SourceRule())

    def takes_part(self, source: str) -> bool:
        """Whether `source` belongs to the mixture and its pool."""
        return (self.include is None or source in self.include) and not self.rule(source).exclude


def load_mixture(path: Path, catalog: Catalog) -> Mixture:
    """The mixture at `path`. Raises MixtureError, with file and line, when it is malformed or names unknown sources."""
    file = YamlFile(path, error=MixtureError)
    mixture = file.parse(Mixture, file.value)
    valid = sorted(catalog.sources)
    for key, names in (("sources", mixture.sources), ("include", mixture.include or ())):
        for number, name in enumerate(names):
            if name not in catalog.sources:
                at = (key, name) if key == "sources" else (key, number)
                raise file.fail(f"unknown source '{name}'{nearest(name, valid)}; the catalog has {', '.join(valid)}", at=at)
    if not any(mixture.takes_part(name) for name in catalog.sources):
        raise file.fail("every source is excluded; leave at least one in")
    return mixture
