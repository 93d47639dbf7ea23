"""Which evaluation sets a mixture is held against, and what counts as leaked: the settings under its `decontaminate:` key."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from curation.yaml_file import Settings

LEAKAGE_NAME = "leakage.parquet"
"""File of a pool that says what of each benchmark its sources hold."""


class Signal(StrEnum):
    """What a sample and an item of a benchmark may share. `text_` signals are of items that have no picture at all."""

    IMAGE = "image"
    IMAGE_AND_QUESTION = "image_and_question"
    QUESTION = "question"
    COVER = "cover"
    TEXT_QUESTION = "text_question"
    TEXT_COVER = "text_cover"


DEFAULT_DROP = [Signal.IMAGE, Signal.IMAGE_AND_QUESTION, Signal.TEXT_QUESTION, Signal.TEXT_COVER]


class DecontaminationSpec(Settings):
    """What is held against what. In a mixture also `all`, or a list of benchmarks, for these settings with their defaults.

    `benchmarks`: names in the catalog, or `all`. `drop`: the signals for which a sample is dropped; the others are reported
    only. `rules`: other signals for single benchmarks. `near_images`: whether pictures that look alike count as the same, or
    only equal pixels. `ngram`: words of an n-gram. `cover`: the share of an item's n-grams from which its text counts as
    seen. `template_share`: n-grams in more than this share of a benchmark's items (and at least 3) are its template and
    count for nothing.
    """

    benchmarks: Literal["all"] | Annotated[list[str], Field(min_length=1)] = "all"
    drop: list[Signal] = DEFAULT_DROP
    rules: dict[str, list[Signal]] = {}
    near_images: bool = True
    ngram: Annotated[int, Field(ge=2, le=64)] = 13
    cover: Annotated[float, Field(gt=0, le=1)] = 0.8
    template_share: Annotated[float, Field(ge=0, le=1)] = 0.01

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"benchmarks": value} if isinstance(value, str | list) else value

    @field_validator("drop", mode="before")
    @classmethod
    def _known_signals(cls, value: Any) -> Any:
        return _signals(value)

    @field_validator("rules", mode="before")
    @classmethod
    def _known_rules(cls, value: Any) -> Any:
        return {name: _signals(signals) for name, signals in value.items()} if isinstance(value, dict) else value

    def names(self, known: Sequence[str]) -> list[str]:
        """The benchmarks that take part, of those that the catalog has, in its order."""
        return [name for name in known if self.benchmarks == "all" or name in self.benchmarks]

    def dropping(self, benchmark: str) -> list[Signal]:
        """The signals for which a sample is dropped that meets `benchmark`."""
        return self.rules.get(benchmark, self.drop)


def _signals(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    valid = [signal.value for signal in Signal]
    for name in value:
        if name not in valid:
            raise ValueError(f"unknown signal '{name}'; valid: {', '.join(valid)}")
    return [Signal(name) for name in value]
