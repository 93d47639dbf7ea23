"""The `data` section of a run: which samples are streamed and how, in the words of `training/stream.py`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, model_validator

from curation.shard_format import INDEX_COLUMNS
from training.decode import MAX_IMAGE_PIXELS
from training.grouping import Grouping
from training.keep import Keep
from training.mixing import AtEnd
from training.seats import Tail
from training.stream import WINDOW, StreamOptions

Positive = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """A section of a run file: frozen, and without a key that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class RangeConfig(Settings):
    """Values from `min` to `max`, both included; either may be left out."""

    min: int | None = None
    max: int | None = None


class GroupConfig(Settings):
    """Batches of like length and kind (`training.grouping.Grouping`); `batch` is by default a step's samples over all ranks."""

    batch: Positive | None = None
    batches_a_window: Positive = 64
    tokens_per_image: Annotated[int, Field(ge=0)] = 0
    by_kind: bool = True


class SkipConfig(Settings):
    """Samples by id, and train steps by number or as [first, last], that a run leaves out."""

    samples: tuple[str, ...] = ()
    steps: tuple[Positive | tuple[Positive, Positive], ...] = ()

    @model_validator(mode="after")
    def _ascending(self) -> "SkipConfig":
        for given in self.steps:
            if isinstance(given, tuple) and given[0] > given[1]:
                raise ValueError(f"steps {list(given)} end before they begin; give [first, last]")
        return self

    def all_steps(self) -> frozenset[int]:
        """Every step that is left out."""
        pairs = ((given, given) if isinstance(given, int) else given for given in self.steps)
        return frozenset(step for first, last in pairs for step in range(first, last + 1))


Condition = Annotated[dict[str, RangeConfig | tuple[str | int, ...]], Field(min_length=1)]


class DataConfig(Settings):
    """How samples are streamed; `num_samples`, `at_end`, `schedule` and `changes` are for weighted releases.

    `ratios` is a mixture YAML: the categories of one release are taken by its ratios. `changes` gives other weights from a
    train step on: those of a mixture YAML, or {part: weight}. `skip` leaves out samples and steps.

    `keep` is a Parquet file with a column `sample_id`, or a condition: index columns, each with a list of values or a range.
    `packing` lays several samples into a row of `text.max_tokens`, chosen inside windows of that many samples.
    `side_px` lets JPEGs be decoded smaller where that still covers this side. `text_only` allows releases without an image.
    """

    shuffle: Literal["block", "full", "file"] = "block"
    window: Positive = WINDOW
    tail: Tail = Tail.EVEN
    keep: Path | Condition | None = None
    group: GroupConfig | None = None
    packing: Positive | None = None
    decode: Literal["pil", "turbo"] = "pil"
    side_px: Positive | None = None
    num_samples: Positive | None = None
    at_end: AtEnd = AtEnd.REPEAT
    schedule: dict[Annotated[int, Field(ge=0)], dict[str, float]] | None = None
    ratios: Path | None = None
    changes: dict[Positive, dict[str, float] | Path] = {}
    skip: SkipConfig = SkipConfig()
    num_workers: Annotated[int, Field(ge=0)] = 0
    on_error: Literal["raise", "skip"] = "raise"
    max_image_pixels: Positive = MAX_IMAGE_PIXELS
    text_only: bool = False

    @model_validator(mode="after")
    def _skip_needs_one_process(self) -> "DataConfig":
        if self.on_error == "skip" and self.num_workers:
            raise ValueError("on_error 'skip' needs num_workers 0, or positions could not be counted exactly")
        return self

    @model_validator(mode="after")
    def _one_arrangement(self) -> "DataConfig":
        if self.group is not None and self.packing is not None:
            raise ValueError("give either group or packing: rows that are full have no use for samples of like length")
        if self.packing is not None and (self.changes or self.skip.samples):
            raise ValueError(
                "packing goes with neither changes nor skip.samples: packs are made before the run, of weights and samples "
                "that stay; leave packing out, or skip steps"
            )
        if self.changes and self.at_end is not AtEnd.REPEAT:
            raise ValueError(f"changes need at_end 'repeat', where parts go on for ever; found '{self.at_end}'")
        if self.ratios is not None and self.schedule is not None:
            raise ValueError("ratios are one set of weights: give changes to move them, or weighted releases with a schedule")
        return self

    @model_validator(mode="after")
    def _known_columns(self) -> "DataConfig":
        unknown = self.keep.keys() - set(INDEX_COLUMNS) if isinstance(self.keep, dict) else set()
        if unknown:
            raise ValueError(f"keep names {', '.join(sorted(unknown))}; columns of an index are {', '.join(INDEX_COLUMNS)}")
        return self

    def mixture_keys(self) -> list[str]:
        """Keys that say something and count for weighted releases only."""
        fields = type(self).model_fields
        return [
            name for name in ("num_samples", "at_end", "schedule", "changes") if getattr(self, name) != fields[name].default
        ]

    def stream_options(self, *, seed: int, batch_size: int, global_batch: int) -> StreamOptions:
        """The keywords of a stream. `batch_size` is a rank's, `global_batch` a step's over all ranks."""
        return StreamOptions(
            seed=seed,
            shuffle=self.shuffle,
            window=self.window,
            decode=self.decode,
            side_px=self.side_px,
            on_error=self.on_error,
            max_image_pixels=self.max_image_pixels,
            batch_size=batch_size,
            tail=self.tail,
            keep=self._keep(),
            group=self._grouping(global_batch),
        )

    def _keep(self) -> Keep | None:
        if not isinstance(self.keep, dict):
            return self.keep
        condition: Any = pc.scalar(True)
        for name, wanted in self.keep.items():
            column = pc.field(name)
            if not isinstance(wanted, RangeConfig):
                condition &= column.isin(list(wanted))
                continue
            if wanted.min is not None:
                condition &= column >= wanted.min
            if wanted.max is not None:
                condition &= column <= wanted.max
        return condition

    def _grouping(self, global_batch: int) -> Grouping | None:
        if self.group is None:
            return None
        return Grouping(**self.group.model_dump(exclude={"batch"}), batch=self.group.batch or global_batch)
