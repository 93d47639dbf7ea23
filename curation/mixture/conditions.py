"""Conditions on the facts of a sample, as a mixture states them: bounds and lists of values, never an expression to run."""

import math
from collections.abc import Mapping
from typing import Annotated

import polars as pl
from pydantic import Field, field_validator, model_validator

from curation.yaml_file import Settings

PICTURE_COLUMNS = ("width", "height")
"""Facts of pictures: a sample meets a condition on them when all its pictures do, so one without pictures does."""

Number = int | float


class Condition(Settings):
    """What a number may be: at least `min`, at most `max`, one of `any`. A bare number or list in the YAML means `any`."""

    min: Number | None = None
    max: Number | None = None
    any: Annotated[list[Number], Field(min_length=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int | float | list | Mapping | Condition):
            raise ValueError(f"found {value!r}; expected a number, a list of numbers, or {{min: ..., max: ...}}")
        if isinstance(value, int | float):
            return {"any": [value]}
        return {"any": value} if isinstance(value, list) else value

    @model_validator(mode="after")
    def _can_be_met(self) -> "Condition":
        numbers = [number for number in (self.min, self.max, *(self.any or ())) if number is not None]
        if not numbers:
            raise ValueError("says nothing; give a number, a list of numbers, `min` or `max`")
        if bad := [number for number in numbers if not math.isfinite(number) or number < 0]:
            raise ValueError(f"{bad[0]} is no finite number of at least 0")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:,} is above max {self.max:,}, so no sample can meet it")
        return self

    def holds(self, column: str) -> pl.Expr:
        """Whether each sample meets the condition; for facts of pictures the table has `min_` and `max_` of `column`."""
        low, high = (f"min_{column}", f"max_{column}") if column in PICTURE_COLUMNS else (column, column)
        parts = [pl.lit(value=True)]
        if self.min is not None:
            parts.append(pl.col(low) >= self.min)
        if self.max is not None:
            parts.append(pl.col(high) <= self.max)
        if self.any is not None:
            parts.append(pl.col(low).is_in(self.any) & pl.col(high).is_in(self.any))
        return pl.all_horizontal(parts).fill_null(value=True)

    def __str__(self) -> str:
        words = [f"at least {self.min:,}"] if self.min is not None else []
        words += [f"at most {self.max:,}"] if self.max is not None else []
        words += [f"one of {', '.join(f'{number:,}' for number in self.any)}"] if self.any is not None else []
        return " and ".join(words)


class Where(Settings):
    """Conditions that all must hold for a sample to be picked; one field a fact of FACTS (curation/facts.py)."""

    num_tokens: Condition | None = None
    num_images: Condition | None = None
    num_turns: Condition | None = None
    num_text_bytes: Condition | None = None
    width: Condition | None = None
    height: Condition | None = None
    annotation_file: list[str] | None = None

    @field_validator("annotation_file", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _pictures_have_bounds(self) -> "Where":
        for name in PICTURE_COLUMNS:
            condition = getattr(self, name)
            if condition is not None and condition.any is not None and len(condition.any) > 1:
                raise ValueError(f"{name}: pictures are held against `min`, `max` or one number, not a list")
        return self

    def conditions(self) -> dict[str, Condition]:
        """The conditions on numbers that are stated, by fact."""
        stated = {name: getattr(self, name) for name in Where.model_fields if name != "annotation_file"}
        return {name: condition for name, condition in stated.items() if condition is not None}

    def columns(self) -> list[str]:
        """The columns of FACTS that the conditions read."""
        names = [
            column
            for name in self.conditions()
            for column in ((f"min_{name}", f"max_{name}") if name in PICTURE_COLUMNS else (name,))
        ]
        return [*names, "annotation_file"] if self.annotation_file is not None else names

    def checks(self) -> list[tuple[pl.Expr, str]]:
        """Each condition as an expression over FACTS, and what is said of a sample that fails it."""
        found = [(condition.holds(name), f"{name} is not {condition}") for name, condition in self.conditions().items()]
        if self.annotation_file is not None:
            files = self.annotation_file
            found.append((pl.col("annotation_file").is_in(files), f"annotation_file is not {' or '.join(files)}"))
        return found
