"""Tensors of one or many processes in one folder of safetensors files, by torch.distributed.checkpoint.

Every process writes its own part of what is split and a share of what is replicated; a folder can be read into any other number
of processes. safetensors hold tensors and nothing else, so that reading one cannot run code.
"""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, distributed
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from training.errors import CheckpointError


def save_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors to a new folder; all processes call it with their parts of the same names."""
    with _alone():
        writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
        save(dict(tensors), storage_writer=writer, no_dist=not distributed.is_initialized())


def load_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors from a folder, in place. Raises CheckpointError where a name is missing or has another shape."""
    try:
        with _alone():
            reader = HuggingFaceStorageReader(str(folder))
            _check(reader, tensors)
            load(dict(tensors), storage_reader=reader, no_dist=not distributed.is_initialized())
    except CheckpointError as error:
        raise CheckpointError(f"'{folder}' does not fit: {error}") from error
    except (CheckpointException, SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"tensors in '{folder}' cannot be read: {str(error).splitlines()[0]}") from error


def _check(reader: HuggingFaceStorageReader, tensors: Mapping[str, Tensor]) -> None:
    found = reader.read_metadata().state_dict_metadata
    missing = sorted(tensors.keys() - found.keys())
    if missing:
        raise CheckpointError(f"{len(missing)} tensors are missing ({', '.join(missing[:3])}); it was made for another model")
    wrong = [name for name, value in tensors.items() if tuple(getattr(found[name], "size", ())) != tuple(value.shape)]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{len(wrong)} tensors have another shape ('{name}' {list(getattr(found[name], 'size', ()))}, the model "
            f"{list(tensors[name].shape)}); it was made for another model"
        )


@contextmanager
def _alone() -> Iterator[None]:
    """torch warns when there is one process only, which is what we mean."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled, unavailable or uninitialized")
        yield
