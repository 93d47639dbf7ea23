"""What every rank of a job will be given, from counts alone: before anything is read, and before anyone waits."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

from training.errors import StreamError
from training.progress import Progress
from training.seats import Tail


@dataclass(frozen=True, kw_only=True, slots=True)
class StepPlan:
    """An epoch, or what is left of it, as ranks will see it.

    `samples` and `batches` have one entry a rank; `num_dropped` samples are left out by the tail, `num_padded` come a
    second time, `num_skipped` were asked to be left out.
    """

    num_samples: int
    batch_size: int
    samples: tuple[int, ...]
    batches: tuple[int, ...]
    tail: Tail
    num_dropped: int
    num_padded: int
    num_skipped: int

    @property
    def is_fair(self) -> bool:
        """Whether all ranks see the same number of batches."""
        return min(self.batches) == max(self.batches)

    def require_fair(self) -> "StepPlan":
        """The plan itself. Raises StreamError, with the numbers, where some ranks would wait for others."""
        if self.is_fair:
            return self
        most, least = max(self.batches), min(self.batches)
        short = [rank for rank, count in enumerate(self.batches) if count == least]
        world_size = len(self.samples)
        spare = self.num_samples % world_size
        raise StreamError(
            f"{self.num_samples:,} samples over {world_size} ranks in batches of {self.batch_size}: ranks {short[:8]} would "
            f"see {least:,} batches, the others {most:,}, and these would wait for ever; give tail='drop' (leaves out {spare} "
            f"samples) or tail='pad' ({world_size - spare} samples come twice)"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return asdict(self) | {"tail": str(self.tail), "is_fair": self.is_fair}


def plan_steps(progress: Progress, *, world_size: int, batch_size: int) -> StepPlan:
    """The plan of what `progress` has left, for every rank."""
    num_left = progress.num_left
    given = progress.tail.num_places(num_left, world_size)
    seats = (replace(progress.seat, rank=rank, world_size=world_size, worker=0, num_workers=1) for rank in range(world_size))
    samples = tuple(replace(progress, seat=seat).num_places(given) for seat in seats)
    return StepPlan(
        num_samples=num_left,
        batch_size=batch_size,
        samples=samples,
        batches=tuple(math.ceil(count / batch_size) for count in samples),
        tail=progress.tail,
        num_dropped=max(0, num_left - given),
        num_padded=max(0, given - num_left),
        num_skipped=sum(
            stop - max(first, progress.start.next) for first, stop in progress.start.holes if stop > progress.start.next
        ),
    )
