"""Checkpoints of a run, and weights under their published names.

A checkpoint is a folder `step-00000040`: `tensors/` with what is trained and the optimiser's state (`training/shards.py`), the
random state of every process, the run's settings, and `state.json` with the step and the stream's position. What a run leaves
frozen is not in it: it comes again from where it came. All processes write into a folder of a temporary name, which is renamed
when all are done: a folder with a final name is whole.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict, set_optimizer_state_dict

from training import distributed
from training.config import RunConfig
from training.errors import CheckpointError
from training.model.cambrian import Cambrian
from training.model.names import PREFIX, is_adapter, is_tower, published_name
from training.shards import load_tensors, save_tensors

STATE_NAME = "state.json"
RUN_NAME = "run.json"
TENSOR_FOLDER = "tensors"
_STEP_PREFIX = "step-"
_OPTIMISER_PREFIX = "optimiser."
_FLAT = StateDictOptions(flatten_optimizer_state_dict=True)


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """What a run needs besides tensors to go on as if it had not stopped.

    `stream` is a stream state, `fingerprint` that of the settings that must not change, `global_batch` the samples of a step,
    `samples` counts those trained on by category, `too_long` those left out, `trained` names the weights in the checkpoint.
    `changes` are versions of mixture weights by the step from which they count, `skipped_steps` those the run file leaves out.
    """

    step: int
    stream: dict[str, Any]
    fingerprint: str
    first_loss: float
    last_loss: float
    global_batch: int
    samples: dict[str, int]
    too_long: int
    trained: list[str]
    changes: dict[str, str] = field(default_factory=dict)
    skipped_steps: list[int] = field(default_factory=list)


def export_cambrian(model: Cambrian) -> dict[str, Tensor]:
    """All weights but frozen towers' under their published names, as contiguous copies-on-demand of the live ones."""
    return {published_name(name): value for name, value in model.state_dict().items()}


def load_cambrian(model: Cambrian, state_dict: Mapping[str, Tensor]) -> None:
    """Load published names: a whole model, or a stage-1 file of the vision side alone (with or without `model.`).

    Trained towers are taken where they are there. Raises CheckpointError, before anything is loaded, where names or shapes
    differ.
    """
    given = {name.removeprefix("module."): value for name, value in state_dict.items()}
    expected = export_cambrian(model)
    if not any(is_tower(name) for name in given):
        expected = {name: value for name, value in expected.items() if not is_tower(name)}
    if given and all(is_adapter(name) or is_tower(name) for name in given):
        given = {name if is_tower(name) or name.startswith(PREFIX) else PREFIX + name: value for name, value in given.items()}
        expected = {name: value for name, value in expected.items() if is_adapter(name) or is_tower(name)}
    elif model.language.config.tie_word_embeddings:
        given.setdefault("lm_head.weight", expected["lm_head.weight"])
    _check_names(given, expected)
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(given[name])


def _check_names(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    shapes = [
        f"{name} is {list(given[name].shape)}, the model's {list(expected[name].shape)}"
        for name in sorted(expected.keys() & given.keys())
        if given[name].shape != expected[name].shape
    ]
    if missing or unknown or shapes:
        raise CheckpointError(
            f"the weights do not fit the model: {len(missing)} names missing ({_first(missing)}), {len(unknown)} unknown "
            f"({_first(unknown)}), {len(shapes)} of another shape ({_first(shapes)}); give a whole model of this "
            "configuration, or its vision side alone"
        )


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def load_weights(model: Cambrian, path: Path) -> None:
    """Published names out of a safetensors file, a run's export or one of its checkpoints. Raises CheckpointError."""
    if (path / STATE_NAME).exists():
        live = {published_name(name): value.data for name, value in model.named_parameters()}
        saved = read_state(path).trained
        unknown = sorted(set(saved) - live.keys())
        if unknown:
            raise CheckpointError(f"checkpoint '{path}' holds {len(unknown)} weights the model has not ({_first(unknown)})")
        load_tensors(path / TENSOR_FOLDER, {name: live[name] for name in saved})
        return
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    try:
        weights = {name: value for file in files for name, value in load_file(file).items()}
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"weights '{path}' (`start_from`) cannot be read as safetensors: {error}") from error
    if not weights:
        raise CheckpointError(f"'{path}' holds no weights; expected a safetensors file, a run's export or a checkpoint of it")
    try:
        load_cambrian(model, weights)
    except CheckpointError as error:
        raise CheckpointError(f"'{path}': {error}") from error


def trained_names(model: Cambrian) -> list[str]:
    """Published names of what has gradients."""
    return sorted(published_name(name) for name, parameter in model.named_parameters() if parameter.requires_grad)


def _trained(model: Cambrian) -> dict[str, Tensor]:
    return {published_name(name): value.data for name, value in model.named_parameters() if value.requires_grad}


def save_checkpoint(
    folder: Path, model: Cambrian, optimiser: torch.optim.Optimizer, state: TrainState, config: RunConfig
) -> Path:
    """Publish a checkpoint of `state.step` below `folder` and drop all but the last `keep`. All processes call it together."""
    final = folder / f"{_STEP_PREFIX}{state.step:08d}"
    temporary = folder / f".{final.name}"
    try:
        if distributed.is_main():
            folder.mkdir(parents=True, exist_ok=True)
            for left_over in folder.glob(f".{_STEP_PREFIX}*"):
                shutil.rmtree(left_over)
            temporary.mkdir()
        distributed.wait_for_all()
        save_tensors(temporary / TENSOR_FOLDER, _trained(model) | _optimiser_tensors(model, optimiser))
        save_file(_random_state(), temporary / _random_name())
        distributed.wait_for_all()
        if distributed.is_main():
            (temporary / RUN_NAME).write_text(config.model_dump_json(indent=1))
            (temporary / STATE_NAME).write_text(json.dumps(asdict(state)))
            _publish(temporary, final)
            for old in list_checkpoints(folder)[: -config.checkpoint.keep]:
                shutil.rmtree(old)
    except OSError as error:
        raise CheckpointError(f"checkpoint '{final}' cannot be written: {error}; free space or change `output`") from error
    distributed.wait_for_all()  # nobody goes on, or looks for the checkpoint, before it is there
    return final


def _publish(temporary: Path, final: Path) -> None:
    for path in (*temporary.rglob("*"), temporary):
        _flush(path)
    if final.exists():  # a run that went back to an older checkpoint comes by again
        shutil.rmtree(final)
    temporary.rename(final)
    _flush(final.parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _optimiser_tensors(model: Cambrian, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's state by parameter; rates and the like are settings and not saved."""
    flat: dict[str, Any] = dict(get_optimizer_state_dict(model, optimiser, options=_FLAT))
    return {_OPTIMISER_PREFIX + name: value for name, value in flat.items() if isinstance(value, Tensor)}


def _random_name() -> str:
    return f"random-{distributed.rank():05d}.safetensors"


def _random_state() -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints below a folder, oldest first."""
    return sorted(path for path in folder.glob(f"{_STEP_PREFIX}*") if path.is_dir())


def read_state(path: Path) -> TrainState:
    """The state of a checkpoint. Raises CheckpointError where it cannot be read."""
    try:
        fields = json.loads((path / STATE_NAME).read_text())
        return TrainState(**{name: fields[name] for name in TrainState.__dataclass_fields__.keys() & fields.keys()})
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise CheckpointError(
            f"checkpoint '{path}' cannot be read ({error!r}); delete the folder to go on without it"
        ) from error


def load_checkpoint(path: Path, model: Cambrian, optimiser: torch.optim.Optimizer) -> TrainState:
    """Put trained weights, optimiser and this process's random state back, into any number of processes.

    Raises CheckpointError where they are broken or of another model. A new process keeps its random state.
    """
    state = read_state(path)
    try:
        flat: dict[str, Any] = dict(get_optimizer_state_dict(model, optimiser, options=_FLAT))
        tensors = {_OPTIMISER_PREFIX + name: value for name, value in flat.items() if isinstance(value, Tensor)}
        load_tensors(path / TENSOR_FOLDER, _trained(model) | tensors)
        set_optimizer_state_dict(model, optimiser, flat, options=_FLAT)
        if (path / _random_name()).exists():
            random = load_file(path / _random_name())
            torch.set_rng_state(random["cpu"])
            if "cuda" in random and torch.cuda.is_available():
                torch.cuda.set_rng_state(random["cuda"])
    except (CheckpointError, OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint '{path}' cannot be loaded ({error}); delete the folder to go on without it"
        ) from error
    return state
