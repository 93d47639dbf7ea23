"""What a run tells of itself, step by step: a line of JSON, and TensorBoard where asked for.

The loss is told by source and by category too: that is what somebody who edits the mixture has to see.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from training.errors import ConfigError

METRICS_NAME = "metrics.jsonl"
TENSORBOARD_FOLDER = "tensorboard"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """One train step over all ranks.

    `loss` is that per trained token; `num_tokens` counts places of the language model, `too_long` samples left out; what is by
    source or category counts this step's samples or averages over their trained tokens. `data_wait_share` is the part of the
    step's time that ranks waited for batches. `weights` is the version of a mixture's weights by which its samples were taken.
    """

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    num_samples: int
    num_tokens: int
    num_targets: int
    too_long: int
    loss_by_source: dict[str, float]
    loss_by_category: dict[str, float]
    samples_by_source: dict[str, int]
    samples_by_category: dict[str, int]
    tokens_per_second: float
    data_wait_share: float
    weights: str


@dataclass(slots=True)
class Tally:
    """Counts of one rank in one step; tallies of ranks add up."""

    losses: Counter[tuple[str, str]] = field(default_factory=Counter)
    targets: Counter[tuple[str, str]] = field(default_factory=Counter)
    samples: Counter[tuple[str, str]] = field(default_factory=Counter)
    num_tokens: int = 0
    too_long: int = 0
    wait_seconds: float = 0.0
    seconds: float = 0.0
    bad_samples: tuple[str, ...] = ()

    def add(self, source: str, category: str, loss: float, num_targets: int) -> None:
        """Count a sample with the sum of its token losses."""
        key = (source, category)
        self.losses[key] += loss  # type: ignore[assignment]
        self.targets[key] += num_targets
        self.samples[key] += 1


def merge(tallies: Iterable[Tally]) -> Tally:
    """The sum of ranks' tallies."""
    whole = Tally()
    for tally in tallies:
        whole.losses.update(tally.losses)
        whole.targets.update(tally.targets)
        whole.samples.update(tally.samples)
        whole.num_tokens += tally.num_tokens
        whole.too_long += tally.too_long
        whole.wait_seconds += tally.wait_seconds
        whole.seconds += tally.seconds
        whole.bad_samples += tally.bad_samples
    return whole


def report(tally: Tally, *, step: int, learning_rate: float, gradient_norm: float, num_ranks: int, weights: str) -> StepReport:
    """A step's report from the sum of all ranks."""
    seconds = tally.seconds / num_ranks
    return StepReport(
        step=step,
        loss=tally.losses.total() / max(1, tally.targets.total()),
        learning_rate=learning_rate,
        gradient_norm=gradient_norm,
        num_samples=tally.samples.total(),
        num_tokens=tally.num_tokens,
        num_targets=tally.targets.total(),
        too_long=tally.too_long,
        loss_by_source=_means(tally, 0),
        loss_by_category=_means(tally, 1),
        samples_by_source=dict(sorted(_sum(tally.samples, 0).items())),
        samples_by_category=dict(sorted(_sum(tally.samples, 1).items())),
        tokens_per_second=round(tally.num_tokens / seconds, 1) if seconds else 0.0,
        data_wait_share=round(tally.wait_seconds / tally.seconds, 4) if tally.seconds else 0.0,
        weights=weights,
    )


def _sum(counts: Counter[tuple[str, str]], part: int) -> Counter[str]:
    summed: Counter[str] = Counter()
    for key in sorted(counts):
        summed[key[part]] += counts[key]
    return summed


def _means(tally: Tally, part: int) -> dict[str, float]:
    losses, targets = _sum(tally.losses, part), _sum(tally.targets, part)
    return {name: losses[name] / count for name, count in sorted(targets.items()) if count}


class MetricsFile:
    """`metrics.jsonl`, and TensorBoard's files beside it."""

    def __init__(self, output: Path, *, after_step: int, tensorboard: bool) -> None:
        output.mkdir(parents=True, exist_ok=True)
        self._path = output / METRICS_NAME
        _forget_steps_after(self._path, after_step)
        self._board = _open_board(output / TENSORBOARD_FOLDER, after_step) if tensorboard else None

    def write(self, step: StepReport) -> None:
        """Add a step."""
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(step)) + "\n")
        if self._board is None:
            return
        for name, value in asdict(step).items():
            if name in ("step", "weights"):
                continue
            values = {f"{name}/{key}": part for key, part in value.items()} if isinstance(value, dict) else {name: value}
            for tag, scalar in values.items():
                self._board.add_scalar(tag, scalar, step.step)

    def close(self) -> None:
        """Flush everything."""
        if self._board is not None:
            self._board.close()


def _open_board(folder: Path, after_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "key 'tensorboard' needs the package tensorboard: pip install 'cambrian-curation[tensorboard]'"
        ) from error
    return SummaryWriter(str(folder), purge_step=after_step + 1)


def _forget_steps_after(path: Path, step: int) -> None:
    """Drop lines of steps that will be taken again."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _step_of(line) <= step]
        path.write_text("".join(line + "\n" for line in lines))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed while writing
        return math.inf
