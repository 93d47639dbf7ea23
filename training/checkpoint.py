"""Checkpoints of a run, and weights under their published names.

A checkpoint is a folder `step-00000040` with the weights (safetensors, published names), the optimiser and random states
(read back with weights_only=True, so a file cannot run code) and `state.json` with the step and the stream's position. It is
written under a temporary name and renamed: a folder with a final name is whole.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from training.errors import CheckpointError
from training.model.cambrian import Cambrian
from training.model.names import PREFIX, is_adapter

WEIGHTS_NAME = "model.safetensors"
OPTIMISER_NAME = "optimiser.pt"
STATE_NAME = "state.json"
_STEP_PREFIX = "step-"


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainState:
    """What a run needs besides weights and optimiser to go on as if it had not stopped.

    `stream` is a stream state, `fingerprint` that of the settings that must not change, `samples` counts those trained on by
    category.
    """

    step: int
    stream: dict[str, Any]
    fingerprint: str
    first_loss: float
    last_loss: float
    samples: dict[str, int]


def export_cambrian(model: Cambrian) -> dict[str, Tensor]:
    """All weights but the towers' under their published names, as contiguous copies-on-demand of the live ones."""
    adapter = {PREFIX + name: value for name, value in model.connector.state_dict().items()}
    return {**adapter, **model.language.state_dict()}


def load_cambrian(model: Cambrian, state_dict: Mapping[str, Tensor]) -> None:
    """Load published names: a whole model, or a stage-1 file of the vision side alone (with or without `model.`).

    Raises CheckpointError, before anything is loaded, where names or shapes differ.
    """
    given = {name.removeprefix("module."): value for name, value in state_dict.items()}
    expected = export_cambrian(model)
    if given and all(is_adapter(name) for name in given):
        given = {name if name.startswith(PREFIX) else PREFIX + name: value for name, value in given.items()}
        expected = {name: value for name, value in expected.items() if is_adapter(name)}
    elif model.language.config.tie_word_embeddings:
        given.setdefault("lm_head.weight", expected["lm_head.weight"])
    _check_names(given, expected)
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(given[name])


def _check_names(given: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    missing, unknown = sorted(expected.keys() - given.keys()), sorted(given.keys() - expected.keys())
    if missing or unknown:
        raise CheckpointError(
            f"the weights do not fit the model: {len(missing)} names missing ({_first(missing)}), {len(unknown)} unknown "
            f"({_first(unknown)}); give a whole model of this configuration, or its vision side alone"
        )
    for name, value in expected.items():
        if given[name].shape != value.shape:
            raise CheckpointError(
                f"weight '{name}' has shape {list(given[name].shape)}, the model {list(value.shape)}; check the configuration"
            )


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def save_checkpoint(folder: Path, model: Cambrian, optimiser: torch.optim.Optimizer, state: TrainState, *, keep: int) -> Path:
    """Publish a checkpoint of `state.step` below `folder` and drop all but the last `keep`. Returns its path."""
    final = folder / f"{_STEP_PREFIX}{state.step:08d}"
    temporary = folder / f".{final.name}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        weights = {name: value.detach().contiguous().clone() for name, value in export_cambrian(model).items()}
        save_file(weights, temporary / WEIGHTS_NAME)
        saved = {"optimiser": optimiser.state_dict(), "torch_rng": torch.get_rng_state(), "cuda_rng": _cuda_rng()}
        torch.save(saved, temporary / OPTIMISER_NAME)
        fields = {name: getattr(state, name) for name in TrainState.__dataclass_fields__}
        (temporary / STATE_NAME).write_text(json.dumps(fields))
        for path in temporary.iterdir():
            _flush(path)
        if final.exists():  # a run that went back to an older checkpoint comes by again
            shutil.rmtree(final)
        temporary.rename(final)
        _flush(folder)
    except OSError as error:
        raise CheckpointError(f"checkpoint '{final}' cannot be written: {error}; free space or change `output`") from error
    for old in list_checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def _cuda_rng() -> Tensor | None:
    return torch.cuda.get_rng_state() if torch.cuda.is_available() else None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints below a folder, oldest first."""
    return sorted(path for path in folder.glob(f"{_STEP_PREFIX}*") if path.is_dir())


def read_state(path: Path) -> TrainState:
    """The state of a checkpoint. Raises CheckpointError where it cannot be read."""
    try:
        return TrainState(**json.loads((path / STATE_NAME).read_text()))
    except (OSError, ValueError, TypeError) as error:
        raise CheckpointError(f"checkpoint '{path}' cannot be read ({error}); delete the folder to go on without it") from error


def load_checkpoint(path: Path, model: Cambrian, optimiser: torch.optim.Optimizer) -> TrainState:
    """Put weights, optimiser and random state back. Raises CheckpointError where they are broken or of another model."""
    state = read_state(path)
    try:
        weights = load_file(path / WEIGHTS_NAME)
        saved = torch.load(path / OPTIMISER_NAME, weights_only=True, map_location="cpu")
        load_cambrian(model, weights)
        optimiser.load_state_dict(saved["optimiser"])
        torch.set_rng_state(saved["torch_rng"])
        if saved["cuda_rng"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(saved["cuda_rng"])
    except UnpicklingError as error:
        raise CheckpointError(
            f"'{path / OPTIMISER_NAME}' holds something else than tensors and numbers, or is broken; delete the folder to go "
            "on without it"
        ) from error
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise CheckpointError(
            f"checkpoint '{path}' cannot be loaded ({error}); delete the folder to go on without it"
        ) from error
    return state
