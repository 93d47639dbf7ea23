"""The mixture spec: which samples of the pool, in which shares, make a release. No data is touched here.

`curation/mixture/file.py` reads one from YAML; `docs/mixtures.md` lists every key.
"""

import math
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from curation.catalog.spec import Category, Source
from curation.mixture.conditions import Where
from curation.mixture.decontamination import DecontaminationSpec
from curation.mixture.dedup import DedupSpec
from curation.yaml_file import Settings, nearest

RATIO_TOLERANCE = 1e-6
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,47}")
Count = Annotated[int, Field(ge=1)]
Weight = Annotated[int | float, Field(gt=0, allow_inf_nan=False)]


class Selector(Settings):
    """Sources by name, category, licence or tag; licences and tags may be patterns such as `CC-BY-NC*`."""

    sources: list[str] | None = None
    categories: list[str] | None = None
    licenses: list[str] | None = None
    tags: list[str] | None = None

    @model_validator(mode="before")
    @classmethod
    def _names_alone(cls, value: object) -> object:
        return {"sources": value} if isinstance(value, list) else value

    @field_validator("categories")
    @classmethod
    def _known_categories(cls, value: list[str] | None) -> list[str] | None:
        for name in value or ():
            check_category(name)
        return value

    def criteria(self, source: Source) -> list[bool]:
        """For each criterion that is stated, whether `source` meets it."""
        found: list[bool] = []
        if self.sources is not None:
            found.append(source.name in self.sources)
        if self.categories is not None:
            found.append(source.category.value in self.categories)
        if self.licenses is not None:
            found.append(any(fnmatchcase(source.license, pattern) for pattern in self.licenses))
        if self.tags is not None:
            found.append(any(fnmatchcase(tag, pattern) for tag in source.tags for pattern in self.tags))
        return found


class SourceRule(Settings):
    """An exception for one source.

    `take`: how many distinct samples, in place of any cap; the source must hold them. `cap`: in place of the mixture's cap.
    `repeat`: how often each may appear. `weight`: its share of its category, relative to what it would be. `exclude`: the
    source has no part in the mixture, nor in its de-duplication. `where`: conditions besides the mixture's.
    `format_prompts`: in place of the mixture's.
    """

    take: Count | None = None
    cap: Count | None = None
    repeat: Count = 1
    weight: Weight = 1
    exclude: bool = False
    where: Where | None = None
    format_prompts: bool | None = None

    @model_validator(mode="after")
    def _one_limit(self) -> "SourceRule":
        if self.take is not None and self.cap is not None:
            raise ValueError("`take` and `cap` both limit the source; give one of them")
        return self


class CategoryRule(Settings):
    """An exception for one category.

    `cap`: in place of the mixture's cap for each of its sources. `total`: most distinct samples of the category in all, shared
    among its sources in proportion. `weight`: its share, relative to what it would be. `where`: further conditions.
    """

    cap: Count | None = None
    total: Count | None = None
    weight: Weight = 1
    where: Where | None = None


class Guard(Settings):
    """`max_drop_share`: a build stops when cleaning and de-duplication drop more than this share of a source."""

    max_drop_share: Annotated[int | float, Field(ge=0, le=1)]


class Reproduces(Settings):
    """A figure that the mixture is meant to come to, and where it is printed; plans show it beside their own."""

    total: Count
    source: Annotated[str, Field(min_length=1)]


class Mixture(Settings):
    """A mixture as resolved. Without further keys it takes every kept sample of every source once.

    `cap`: most distinct samples from one source, or from each annotation file of one (the paper's t). `ratios`: category
    shares, which sum to 1. `size`: samples in all, repeats counted; without it as many as caps, ratios and weights allow.
    `alpha`: a source's share follows what it offers to this power. `max_repeat`: how often a sample may appear to fill a
    category that is too small. `dedup`: what counts as a duplicate; without it, only exact repetition. `decontaminate`: the
    benchmarks that the samples are held against. `tokenizer`: a local tokenizer.json, or a folder with one, that counts the
    release's tokens. `shard_bytes`: target size of a shard.
    """

    name: str
    reproduces: Reproduces | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    size: Count | None = None
    cap: Count | None = None
    cap_unit: Literal["source", "annotation_file"] = "source"
    normalise_ratios: bool = False
    ratios: dict[str, float | int] | None = None
    alpha: Annotated[int | float, Field(ge=0, le=8)] = 1
    max_repeat: Count = 1
    warn_repeat: Count = 1
    include: Selector | None = None
    exclude: Selector | None = None
    where: Where | None = None
    categories: dict[str, CategoryRule] = {}
    sources: dict[str, SourceRule] = {}
    dedup: DedupSpec | None = None
    decontaminate: DecontaminationSpec | None = None
    format_prompts: bool = True
    prompt_placement: Literal["after", "before"] = "after"
    guard: Guard | None = None
    tokenizer: Annotated[str, Field(min_length=1)] | None = None
    shard_bytes: Annotated[int, Field(ge=1 << 12, le=1 << 36)] = 256 << 20

    @field_validator("name")
    @classmethod
    def _usable_name(cls, value: str) -> str:
        if not _NAME.fullmatch(value) or ".." in value:
            raise ValueError(f"name '{value}' must be lower-case letters, digits, '-', '_' and '.', at most 48 signs")
        return value

    @field_validator("ratios")
    @classmethod
    def _ratios_are_shares(cls, value: dict[str, float | int] | None, info: ValidationInfo) -> dict[str, float | int] | None:
        if value is None:
            return value
        for name, ratio in value.items():
            check_category(name)
            if not math.isfinite(ratio) or ratio < 0:
                raise ValueError(f"{name} is {ratio}; a share is a finite number of at least 0")
        total = math.fsum(value.values())
        if total <= 0:
            raise ValueError("all are 0; at least one category must have a share")
        if not info.data.get("normalise_ratios") and abs(total - 1) > RATIO_TOLERANCE:
            raise ValueError(f"sum to {total:.6g}, expected 1; mend them or set `normalise_ratios: true`")
        return value

    @field_validator("categories")
    @classmethod
    def _known_categories(cls, value: dict[str, CategoryRule]) -> dict[str, CategoryRule]:
        for name in value:
            check_category(name)
        return value

    @model_validator(mode="after")
    def _keys_go_together(self) -> "Mixture":
        if self.ratios is None and self.normalise_ratios:
            raise ValueError("normalise_ratios: there are no ratios to normalise")
        weighted = [name for name, rule in self.categories.items() if rule.weight != 1]
        if self.ratios is not None and weighted:
            raise ValueError(f"categories.{weighted[0]}.weight: `ratios` say what share a category has; keep one of the two")
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

    def category_rule(self, category: Category) -> CategoryRule:
        """The exceptions for `category`, or none."""
        return self.categories.get(category.value, CategoryRule())

    def cap_of(self, source: str, category: Category) -> int | None:
        """Most distinct samples from one unit of `source`: its own rule first, then its category's, then the mixture's."""
        rule = self.rule(source)
        if rule.take is not None:
            return None
        return next((cap for cap in (rule.cap, self.category_rule(category).cap, self.cap) if cap is not None), None)

    def conditions(self, source: str, category: Category) -> list[Where]:
        """Everything that samples of `source` must meet."""
        stated = (self.where, self.category_rule(category).where, self.rule(source).where)
        return [where for where in stated if where is not None]

    def prompts(self, source: str) -> bool:
        """Whether the response-format prompts of `source` are added."""
        own = self.rule(source).format_prompts
        return self.format_prompts if own is None else own

    def takes_part(self, source: Source) -> bool:
        """Whether `source` belongs to the mixture and its pool: all criteria of `include` hold and none of `exclude`."""
        wanted = self.include is None or all(self.include.criteria(source))
        unwanted = self.exclude is not None and any(self.exclude.criteria(source))
        return wanted and not unwanted and not self.rule(source.name).exclude

    @property
    def is_weighted(self) -> bool:
        """Whether sources share by anything but how much they offer."""
        weights = [rule.weight for rule in self.sources.values()] + [rule.weight for rule in self.categories.values()]
        return self.alpha != 1 or any(weight != 1 for weight in weights)


def participants(mixture: Mixture, sources: Mapping[str, Source]) -> dict[str, Source]:
    """The sources that take part, by name."""
    return {name: source for name, source in sources.items() if mixture.takes_part(source)}


def check_category(name: str) -> None:
    """Raises ValueError for a name that is no category."""
    valid = [category.value for category in Category]
    if name not in valid:
        raise ValueError(f"unknown category '{name}'{nearest(name, valid)}; valid: {', '.join(valid)}")
