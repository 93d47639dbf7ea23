"""The train loop: batches in order, an optimiser step for every few of them, a checkpoint now and then, exactly resumable.

A step is counted in `train_step`s, from 1. Ranks step together: one that has run out of samples in an epoch's last step takes
part with empty batches. After a stop at any moment the run goes on from its last checkpoint as if nothing had happened, and in
another number of processes with exactly the samples that were left.
"""

import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from training import distributed
from training.build import (
    WARMUP_RATIOS,
    build_collator,
    build_loader,
    build_model,
    build_optimiser,
    build_stream,
    build_tokenizer,
    check_images,
    freeze,
    global_batch_size,
)
from training.checkpoint import (
    TrainState,
    list_checkpoints,
    load_checkpoint,
    load_weights,
    read_state,
    save_checkpoint,
    trained_names,
)
from training.collate import Batch
from training.config import RunConfig
from training.course import Change, Course
from training.errors import CheckpointError, LossError
from training.export import export_model
from training.metrics import MetricsFile, StepReport, Tally, merge, report
from training.model.cambrian import Output
from training.stream import merge_states

CHECKPOINT_FOLDER = "checkpoints"
EXPORT_FOLDER = "export"
logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """A finished run. `too_long` counts samples left out because no answer stood before the limit of tokens."""

    first_loss: float
    last_loss: float
    num_train_steps: int
    checkpoint: str
    export: str
    samples_by_category: dict[str, int]
    num_skipped: int
    too_long: int


@dataclass(kw_only=True, slots=True)
class _Run:
    """What changes while a run goes; counts are over all ranks."""

    step: int = 0
    first_loss: float = math.nan
    last_loss: float = math.nan
    samples: Counter[str]
    too_long: int = 0


class Trainer:
    """A run put together from its settings; `total_steps` train steps long."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        tokenizer = build_tokenizer(config)
        self.stream = build_stream(config)
        check_images(config, self.stream)
        self._device = torch.device(config.device)
        self._dtype = torch.float32 if config.precision == "float32" else torch.bfloat16
        self.model = build_model(config, vocab_size=len(tokenizer))
        if config.start_from is not None:
            load_weights(self.model, config.start_from)
        freeze(config, self.model)
        if config.gradient_checkpointing:
            self.model.checkpoint_gradients()
        self.model.to(self._device)
        self.model.move_towers(self._device, self._dtype)
        self._module = self._spread()
        self.optimiser = build_optimiser(config, self.model)
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self._collator = build_collator(config, tokenizer, self.model.towers)
        self._loader = build_loader(config, self.stream, self._collator)
        self._folder = config.output / CHECKPOINT_FOLDER
        self._run = _Run(samples=Counter())
        self._course = Course(config, self.stream)
        found = self._resume()
        left = self._steps_left()
        self._course.begin(self.stream, found, steps_left=left, global_batch=global_batch_size(config))
        self._delivered = 0
        self.total_steps = config.optimisation.num_train_steps or self._run.step + self._steps_left()

    def _spread(self) -> nn.Module:
        """What is called for a batch: the model itself, or one that works together with other processes."""
        if distributed.world_size() == 1:
            return self.model
        if self.config.parallel.mode == "shard":
            distributed.shard(self.model, self._device, self._dtype)
            return self.model
        return distributed.replicate(self.model)

    def _steps_left(self) -> int:
        """Train steps until the epoch ends, the same on every rank."""
        chosen = self.config.optimisation
        of_rank = math.ceil(self.stream.num_left / distributed.world_size())
        return math.ceil(math.ceil(of_rank / chosen.batch_size) / chosen.accumulation)

    def _resume(self) -> TrainState | None:
        found = list_checkpoints(self._folder)
        if not found:
            return None
        state = read_state(found[-1])
        if state.fingerprint != self.config.fingerprint():
            raise CheckpointError(
                f"checkpoint '{found[-1]}' was made with other settings; undo the change, or give another `output`"
            )
        now = global_batch_size(self.config)
        if state.global_batch != now:
            logger.warning("steps had %d samples until step %d, they have %d from here on", state.global_batch, state.step, now)
        load_checkpoint(found[-1], self.model, self.optimiser)
        self.stream.load_state_dict(state.stream)
        self._run = _Run(
            step=state.step,
            first_loss=state.first_loss,
            last_loss=state.last_loss,
            samples=Counter(state.samples),
            too_long=state.too_long,
        )
        return state

    def train(self, watch: Callable[[StepReport], None]) -> RunReport:
        """Train to the end; `watch` is told of every step. Raises LossError for a loss that is no number."""
        metrics = None
        if distributed.is_main():
            metrics = MetricsFile(self.config.output, after_step=self._run.step, tensorboard=self.config.tensorboard)
        self.model.train()
        while self._run.step < self.total_steps:
            for step in self._train_epoch():
                if metrics is not None:
                    metrics.write(step)
                    watch(step)
            self.stream.set_epoch(self.stream.epoch + 1)
        if metrics is not None:
            metrics.close()
        export = self.config.output / EXPORT_FOLDER
        export_model(export, self.model, self.config)
        return RunReport(
            first_loss=self._run.first_loss,
            last_loss=self._run.last_loss,
            num_train_steps=self._run.step,
            checkpoint=str(list_checkpoints(self._folder)[-1]),
            export=str(export),
            samples_by_category=dict(sorted(self._run.samples.items())),
            num_skipped=sum(distributed.gather(self.stream.num_skipped)),
            too_long=self._run.too_long,
        )

    def _train_epoch(self) -> Iterator[StepReport]:
        """Steps until the epoch or the run ends, in pieces of the same weights."""
        left = min(self._steps_left(), self.total_steps - self._run.step)
        while left:
            if change := self._course.change_at(self.stream, self._run.step + 1):
                self._tell_of(change)
                self._loader = build_loader(self.config, self.stream, self._collator)  # workers have the stream as it was
            before_change = self._course.steps_before_change(self._run.step + 1)
            piece = left if before_change is None else min(left, before_change)
            yield from self._train_piece(piece)
            left -= piece
            if left:
                self.stream.load_state_dict(self._stream_state())

    def _train_piece(self, num_steps: int) -> Iterator[StepReport]:
        """Some steps of one iteration of the stream; a step's checkpoint is written after its report was taken."""
        self._delivered = 0
        self._weights = self.stream.version
        batches = iter(self._loader)
        for _ in range(num_steps):
            begun = time.perf_counter()
            given = [self._next_batch(batches) for _ in range(self.config.optimisation.accumulation)]
            waited = time.perf_counter() - begun
            self._delivered += sum(batch.num_given for batch in given)
            yield self._train_step(given, begun=begun, waited=waited)
            if self._run.step == self.total_steps or self._run.step % self.config.checkpoint.every == 0:
                self._save()

    def _tell_of(self, change: Change) -> None:
        if distributed.is_main():
            shares = ", ".join(f"{name} {weight:g}" for name, weight in change.weights.items())
            logger.warning("from step %d on samples are taken by the weights %s: %s", change.step, change.version, shares)

    def _next_batch(self, batches: Iterator[Batch]) -> Batch:
        """The next batch, or an empty one where only other ranks still have some."""
        batch = next(batches, None)
        return self._collator([]) if batch is None else batch

    def _train_step(self, batches: list[Batch], *, begun: float, waited: float) -> StepReport:
        run = self._run
        factor = schedule_factor(run.step, self.total_steps, self._warmup_ratio())
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        tally = Tally(wait_seconds=waited)
        for number, batch in enumerate(batches):
            self._learn(batch, tally, share=1 / len(batches), is_last=number == len(batches) - 1)
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        norm = _number(nn.utils.clip_grad_norm_(trained, self.config.optimisation.clip_norm))
        tally.seconds = time.perf_counter() - begun
        whole = merge(distributed.gather(tally))
        self._check_numbers(whole, norm, batches)
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        run.step += 1
        step = report(
            whole,
            step=run.step,
            learning_rate=max(group["lr"] for group in self.optimiser.param_groups),
            gradient_norm=norm,
            num_ranks=distributed.world_size(),
            weights=self._weights,
        )
        run.samples.update(step.samples_by_category)
        run.too_long += step.too_long
        if step.num_targets:
            run.last_loss = step.loss
        if run.step == 1:
            run.first_loss = step.loss
        return step

    def _learn(self, batch: Batch, tally: Tally, *, share: float, is_last: bool) -> None:
        """Forward and backward of one batch of a step."""
        batch = batch.to(self._device)
        with distributed.gradients_stay(self._module, is_last=is_last):
            with self._autocast():
                out: Output = self._module(batch.layout, batch.pixels, batch.image_sizes)
            (out.loss * share).backward()  # type: ignore[no-untyped-call]
        figures = (out.sample_losses.tolist(), out.num_targets.tolist())
        for source, category, loss, count in zip(batch.sources, batch.categories, *figures, strict=True):
            tally.add(source, category, loss, count)
        tally.num_tokens += int(batch.layout.attention_BT.sum())
        tally.too_long += len(batch.too_long)
        if not torch.isfinite(out.loss):
            tally.bad_samples += batch.sample_ids

    def _warmup_ratio(self) -> float:
        chosen = self.config.optimisation.warmup_ratio
        return WARMUP_RATIOS[self.config.stage] if chosen is None else chosen

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=self._dtype)

    def _check_numbers(self, whole: Tally, norm: float, batches: list[Batch]) -> None:
        """All ranks stop together, before a step that would spoil the weights."""
        bad = whole.bad_samples
        if not bad and math.isfinite(norm):
            return
        what = "the loss is no finite number"
        if not bad:
            what = f"the gradient's norm is {norm}"
            bad = tuple(name for ids in distributed.gather([b.sample_ids for b in batches]) for part in ids for name in part)
        raise LossError(
            f"train step {self._run.step + 1}: {what} on the samples {', '.join(bad)}; "
            "look at them with `curate why`, or lower the learning rate"
        )

    def _stream_state(self) -> dict[str, Any]:
        """Where the stream stands over all ranks."""
        skipping = self.config.data.on_error == "skip"
        own = self.stream.state_dict() if skipping else self.stream.state_after(self._delivered)
        return merge_states(distributed.gather(own))

    def _save(self) -> None:
        """Publish a checkpoint."""
        state = TrainState(
            step=self._run.step,
            stream=self._stream_state(),
            fingerprint=self.config.fingerprint(),
            first_loss=self._run.first_loss,
            last_loss=self._run.last_loss,
            global_batch=global_batch_size(self.config),
            samples=dict(sorted(self._run.samples.items())),
            too_long=self._run.too_long,
            trained=trained_names(self.model),
            changes=self._course.done_changes,
            skipped_steps=self._course.skipped_steps,
        )
        save_checkpoint(self._folder, self.model, self.optimiser, state, self.config)


def _number(value: Tensor) -> float:
    """A scalar of one process or of a tensor split over several."""
    whole: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return float(whole)


def schedule_factor(step: int, total_steps: int, warmup_ratio: float) -> float:
    """Share of the learning rate at a step (from 0): linear warm-up from 0, then half a cosine to 0, as transformers has it."""
    warmup = math.ceil(total_steps * warmup_ratio)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))
