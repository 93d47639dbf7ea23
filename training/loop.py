"""The train loop: batches in order, one optimiser step each, a checkpoint now and then, exactly resumable.

A step is counted in `train_step`s, from 1. Ranks step together: one that has run out of samples in an epoch's last step takes
part with an empty batch. After a stop at any moment the run goes on from its last checkpoint as if nothing had happened.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from training import distributed
from training.build import (
    WARMUP_RATIOS,
    build_collator,
    build_loader,
    build_model,
    build_optimiser,
    build_stream,
    build_tokenizer,
)
from training.checkpoint import (
    TrainState,
    list_checkpoints,
    load_cambrian,
    load_checkpoint,
    read_state,
    save_checkpoint,
)
from training.collate import Batch, Collator
from training.config import RunConfig
from training.errors import CheckpointError, LossError
from training.model.cambrian import Cambrian, Output
from training.reader import SampleStream
from training.stream import merge_states

METRICS_NAME = "metrics.jsonl"
CHECKPOINT_FOLDER = "checkpoints"


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """One train step: its loss over all ranks, and loss per trained token by source."""

    step: int
    loss: float
    learning_rate: float
    gradient_norm: float
    num_samples: int
    num_targets: int
    loss_by_source: dict[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunReport:
    """A finished run."""

    first_loss: float
    last_loss: float
    num_train_steps: int
    checkpoint: str
    samples_by_category: dict[str, int]
    num_skipped: int


@dataclass(kw_only=True, slots=True)
class _Run:
    """What changes while a run goes."""

    step: int = 0
    first_loss: float = math.nan
    last_loss: float = math.nan
    samples: Counter[str]


class Trainer:
    """A run put together from its settings; `total_steps` train steps long."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        tokenizer = build_tokenizer(config)
        self.stream: SampleStream = build_stream(config)
        self.model: Cambrian = build_model(config, vocab_size=len(tokenizer))
        if config.start_from is not None:
            _load_weights(self.model, config.start_from)
        self.optimiser = build_optimiser(config, self.model)
        self._collator: Collator = build_collator(config, tokenizer, self.model.towers)
        self._loader: DataLoader[Batch] = build_loader(config, self.stream, self._collator)
        self._folder = config.output / CHECKPOINT_FOLDER
        self._run = _Run(samples=Counter())
        self._device = torch.device(config.device)
        self.model.to(self._device)
        self.model.move_towers(self._device)
        self.total_steps = config.optimisation.num_train_steps or self._batches_left()
        self._resume()
        self._module: nn.Module = self.model
        if distributed.world_size() > 1:
            self._module = DistributedDataParallel(self.model)

    def _batches_left(self) -> int:
        """Batches until the epoch ends, the same on every rank."""
        of_rank = math.ceil(self.stream.num_left / distributed.world_size())
        return math.ceil(of_rank / self.config.optimisation.batch_size)

    def _resume(self) -> None:
        found = list_checkpoints(self._folder)
        if not found:
            return
        state = read_state(found[-1])
        if state.fingerprint != self.config.fingerprint():
            raise CheckpointError(
                f"checkpoint '{found[-1]}' was made with other settings; undo the change, or give another `output`"
            )
        load_checkpoint(found[-1], self.model, self.optimiser)
        self.stream.load_state_dict(state.stream)
        mine = state.samples if distributed.is_main() else {}
        self._run = _Run(step=state.step, first_loss=state.first_loss, last_loss=state.last_loss, samples=Counter(mine))

    def train(self, watch: Callable[[StepReport], None]) -> RunReport:
        """Train to the end; `watch` is told of every step. Raises LossError for a loss that is no number."""
        metrics = self.config.output / METRICS_NAME
        if distributed.is_main():
            self.config.output.mkdir(parents=True, exist_ok=True)
            _forget_steps_after(metrics, self._run.step)
        self.model.train()
        while self._run.step < self.total_steps:
            self._train_epoch(metrics, watch)
            self.stream.set_epoch(self.stream.epoch + 1)
        counts = sum(distributed.gather(self._run.samples), Counter())
        return RunReport(
            first_loss=self._run.first_loss,
            last_loss=self._run.last_loss,
            num_train_steps=self._run.step,
            checkpoint=str(list_checkpoints(self._folder)[-1]),
            samples_by_category=dict(sorted(counts.items())),
            num_skipped=sum(distributed.gather(self.stream.num_skipped)),
        )

    def _train_epoch(self, metrics: Path, watch: Callable[[StepReport], None]) -> None:
        delivered = 0
        for batch in self._padded(self._batches_left()):
            report = self._train_step(batch)
            delivered += len(batch.sample_ids)
            self._run.samples.update(batch.categories)
            if distributed.is_main():
                with metrics.open("a") as file:
                    file.write(json.dumps(asdict(report)) + "\n")
                watch(report)
            is_last = self._run.step == self.total_steps
            if is_last or self._run.step % self.config.checkpoint.every == 0:
                self._save(delivered)
            if is_last:
                return

    def _padded(self, num_batches: int) -> Iterator[Batch]:
        """The epoch's batches, then empty ones where other ranks still have some."""
        num_given = 0
        for batch in self._loader:
            yield batch
            num_given += 1
        for _ in range(num_given, num_batches):
            yield self._collator([])

    def _train_step(self, batch: Batch) -> StepReport:
        run, config = self._run, self.config
        factor = schedule_factor(run.step, self.total_steps, self._warmup_ratio())
        for group in self.optimiser.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
        batch = batch.to(self._device)
        with self._autocast():
            out: Output = self._module(batch.layout, batch.pixels, batch.image_sizes)
        self._check_loss(out, batch)
        out.loss.backward()  # type: ignore[no-untyped-call]
        trained = [parameter for group in self.optimiser.param_groups for parameter in group["params"]]
        norm = float(nn.utils.clip_grad_norm_(trained, config.optimisation.clip_norm))
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        run.step += 1
        report = self._report(out, batch, learning_rate=max(g["lr"] for g in self.optimiser.param_groups), norm=norm)
        if report.num_targets:
            run.last_loss = report.loss
        if run.step == 1:
            run.first_loss = report.loss
        return report

    def _warmup_ratio(self) -> float:
        chosen = self.config.optimisation.warmup_ratio
        return WARMUP_RATIOS[self.config.stage] if chosen is None else chosen

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.config.precision == "float32":
            return nullcontext()
        return torch.autocast(self._device.type, dtype=torch.bfloat16)

    def _check_loss(self, out: Output, batch: Batch) -> None:
        if not torch.isfinite(out.loss):
            raise LossError(
                f"train step {self._run.step + 1}: the loss is {out.loss.item()} on the samples {', '.join(batch.sample_ids)}; "
                "look at them with `curate why`, or lower the learning rate"
            )

    def _report(self, out: Output, batch: Batch, *, learning_rate: float, norm: float) -> StepReport:
        sums: Counter[str] = Counter()
        targets: Counter[str] = Counter()
        losses = out.token_losses.sum(dim=1).tolist()
        for source, loss, count in zip(batch.sources, losses, out.num_targets.tolist(), strict=True):
            sums[source] += loss
            targets[source] += count
        gathered = distributed.gather((sums, targets, len(batch.sample_ids)))
        all_sums: Counter[str] = Counter()
        all_targets: Counter[str] = Counter()
        for rank_sums, rank_targets, _ in gathered:
            all_sums.update(rank_sums)
            all_targets.update(rank_targets)
        return StepReport(
            step=self._run.step,
            loss=all_sums.total() / max(1, all_targets.total()),
            learning_rate=learning_rate,
            gradient_norm=norm,
            num_samples=sum(count for _, _, count in gathered),
            num_targets=all_targets.total(),
            loss_by_source={name: all_sums[name] / count for name, count in sorted(all_targets.items()) if count},
        )

    def _save(self, delivered: int) -> None:
        """Publish a checkpoint; `delivered` counts this rank's samples of the current iteration."""
        skipping = self.config.data.on_error == "skip"
        own = self.stream.state_dict() if skipping else self.stream.state_after(delivered)
        state = TrainState(
            step=self._run.step,
            stream=merge_states(distributed.gather(own)),
            fingerprint=self.config.fingerprint(),
            first_loss=self._run.first_loss,
            last_loss=self._run.last_loss,
            samples=dict(sorted(sum(distributed.gather(self._run.samples), Counter()).items())),
        )
        if distributed.is_main():
            save_checkpoint(self._folder, self.model, self.optimiser, state, keep=self.config.checkpoint.keep)
        distributed.gather(None)  # nobody goes on, or looks for the checkpoint, before it is there


def schedule_factor(step: int, total_steps: int, warmup_ratio: float) -> float:
    """Share of the learning rate at a step (from 0): linear warm-up from 0, then half a cosine to 0, as transformers has it."""
    warmup = math.ceil(total_steps * warmup_ratio)
    if step < warmup:
        return step / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total_steps - warmup)))


def _load_weights(model: Cambrian, path: Path) -> None:
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"`start_from` names '{path}', which cannot be read as safetensors: {error}") from error
    load_cambrian(model, weights)


def _forget_steps_after(metrics: Path, step: int) -> None:
    """Drop lines of steps that will be taken again."""
    if metrics.exists():
        lines = [line for line in metrics.read_text().splitlines() if _step_of(line) <= step]
        metrics.write_text("".join(line + "\n" for line in lines))


def _step_of(line: str) -> float:
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):  # the last line of a run that was killed while writing
        return math.inf
