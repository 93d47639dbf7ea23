"""What a run file says of single train steps: other weights from one on, and steps and samples to leave out.

Both may be added on the way: the run file is edited, and the run goes on from its last checkpoint. A checkpoint says what was
done of them before it; a run file that says otherwise of steps that lie behind is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training import distributed
from training.checkpoint import TrainState
from training.config import RunConfig
from training.data_config import DataConfig
from training.errors import CheckpointError, ConfigError, TrainingError
from training.keep import weights_version
from training.reader import SampleStream
from training.stream import MixtureStream


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """From train step `step` (from 1) on, `weights` by part; `version` names them in states and logs."""

    step: int
    weights: Mapping[str, float]
    version: str


class Course:
    """The changes and skips of a run, and which of them are done.

    Files are read here, once. Raises ConfigError where one cannot be used, or where ranks were given different ones.
    """

    def __init__(self, config: RunConfig, stream: SampleStream) -> None:
        self._changes = _read_changes(config.data, stream)
        self._done: dict[int, str] = {}
        self._samples = config.data.skip.samples
        self._steps = config.data.skip.all_steps()
        said = [(change.step, change.version) for change in self._changes], sorted(self._steps), self._samples
        others = distributed.gather(said)
        if any(other != said for other in others):
            wrong = [rank for rank, other in enumerate(others) if other != others[0]]
            raise ConfigError(
                f"keys 'data.changes' and 'data.skip': ranks {wrong[:8]} read something else than rank 0, so that samples "
                "would come twice or never; give all ranks the same run file and mixture files"
            )

    @property
    def done_changes(self) -> dict[str, str]:
        """Versions of weights by the step from which they count, of steps that are done."""
        return {str(step): version for step, version in self._done.items()}

    @property
    def skipped_steps(self) -> list[int]:
        """Steps that are left out, those done included."""
        return sorted(self._steps)

    def begin(self, stream: SampleStream, state: TrainState | None, *, steps_left: int, global_batch: int) -> None:
        """Hold the run file against a checkpoint, if there is one, and make the stream skip what it does not yet.

        `steps_left` is what the epoch has left without that. Raises CheckpointError or ConfigError for what cannot be done.
        """
        at, known = 0, frozenset[int]()
        if state is not None:
            at, known = state.step, frozenset(state.skipped_steps)
            self._check_changes(state)
        self._skip_steps(stream, at, known, steps_left, global_batch)
        gone = sorted(set(stream.skipped_ids) - set(self._samples))
        if gone:
            raise CheckpointError(
                f"key 'data.skip.samples' lacks {', '.join(gone[:5])}, which the checkpoint of step {at} leaves out: skipped "
                "samples stay skipped; put them back, or begin with another `output`"
            )
        stream.skip(samples=self._samples)
        if stream.num_left == 0 and steps_left:
            raise ConfigError("key 'data.skip' leaves out every sample that is left of the epoch; skip less")

    def _check_changes(self, state: TrainState) -> None:
        done = {int(step): version for step, version in state.changes.items()}
        said = {change.step: change.version for change in self._changes if change.step <= state.step}
        for step in sorted(done.keys() | said.keys()):
            if done.get(step) != said.get(step):
                raise CheckpointError(
                    f"key 'data.changes': the run file has {_shown(said.get(step))} at step {step}, but the checkpoint of step "
                    f"{state.step} took that step with {_shown(done.get(step))}. What lies behind cannot change: name a step "
                    f"behind {state.step}, undo the edit, or delete the checkpoints that are not before step {step}"
                )
        self._done = done

    def _skip_steps(self, stream: SampleStream, at: int, known: frozenset[int], steps_left: int, global_batch: int) -> None:
        if gone := sorted(known - self._steps):
            raise CheckpointError(
                f"key 'data.skip.steps' lacks {gone[:5]}, which the checkpoint of step {at} leaves out: skipped steps stay "
                "skipped; put them back, or go on from a checkpoint made before they were named"
            )
        new = sorted(self._steps - known)
        if not new:
            return
        if new[0] <= at or new[-1] > at + steps_left:
            raise ConfigError(
                f"key 'data.skip.steps': steps {new[0]} to {new[-1]} cannot be skipped by a run that stands behind step {at} "
                f"in an epoch that ends with step {at + steps_left}. Steps that are done need an earlier checkpoint (delete "
                "those behind it); name steps of a later epoch when the run has come to it"
            )
        firsts = (np.array(new, dtype=np.int64) - 1 - at) * global_batch
        places = (firsts[:, None] + np.arange(global_batch)).ravel()
        stream.skip_places(places[places < stream.num_left])

    def steps_before_change(self, step: int) -> int | None:
        """How many steps come from `step` on before weights change; None where they stay."""
        ahead = [change.step - step for change in self._changes if change.step > step]
        return min(ahead, default=None)

    def change_at(self, stream: SampleStream, step: int) -> Change | None:
        """Make the change that counts from `step` on, which is the stream's next, and tell it; None where there is none."""
        found = next((change for change in self._changes if change.step == step), None)
        if found is not None:
            assert isinstance(stream, MixtureStream)
            stream.change_weights(found.weights, version=found.version)
            self._done[step] = found.version
        return found


def _read_changes(data: DataConfig, stream: SampleStream) -> tuple[Change, ...]:
    """The changes of a run, ascending by step."""
    changes = []
    for step, given in sorted(data.changes.items()):
        assert isinstance(stream, MixtureStream)  # build_stream refuses others
        try:
            weights = stream.weights_of(given)
        except TrainingError as error:
            raise ConfigError(f"key 'data.changes', step {step}: {error}") from error
        name = given.name if isinstance(given, Path) else "weights"
        changes.append(Change(step=step, weights=weights, version=weights_version(name, weights)))
    return tuple(changes)


def _shown(version: str | None) -> str:
    return "no change of weights" if version is None else f"the weights '{version}'"
