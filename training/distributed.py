"""What several processes do together. Without torchrun or Ray Train there is one process and nothing happens.

Two ways to hold a model: a replica on each process (DDP), or weights, gradients and optimiser state split over them (FSDP2's
`fully_shard`): each decoder layer is gathered when it runs, and embeddings, head, connector and samplers once a step.
"""

import gc
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.nn.parallel import DistributedDataParallel

from training.model.cambrian import Cambrian

Value = TypeVar("Value")

_GLOO_SECONDS = 0.2
"""A thread of gloo's lets go of the last tensors a moment after they are there, and aborts the process if Python ends first."""


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the group that torchrun has prepared, if any, and leave it at the end. A group that is there already is used."""
    if distributed.is_initialized() or int(os.environ.get("WORLD_SIZE", "1")) <= 1:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield
        # A DistributedDataParallel that dies after its group can wait for ever in gloo's destructors, and so can a rank whose
        # peer has left: whatever the block made goes first, and all leave together. After an error nobody waits.
        gc.collect()
        distributed.barrier()
    finally:
        distributed.destroy_process_group()
        time.sleep(_GLOO_SECONDS)


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process among all."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_main() -> bool:
    """Whether this process writes files and talks."""
    return rank() == 0


def gather(value: Value) -> list[Value]:
    """The values of all ranks, in order, on every rank."""
    if not distributed.is_initialized():
        return [value]
    values: list[Value | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def wait_for_all() -> None:
    """Go on when all processes are here."""
    if distributed.is_initialized():
        distributed.barrier()


def shard(model: Cambrian, device: torch.device, dtype: torch.dtype) -> None:
    """Split a model over all processes, in place. It keeps float32; layers are gathered, and compute, in `dtype`."""
    mesh = init_device_mesh(device.type, (world_size(),))
    policy = MixedPrecisionPolicy(param_dtype=dtype, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for layer in model.decoder_layers:
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)


def replicate(model: Cambrian) -> nn.Module:
    """A module that averages gradients over all processes."""
    return DistributedDataParallel(model)


@contextmanager
def gradients_stay(module: nn.Module, *, is_last: bool) -> Iterator[None]:
    """Exchange gradients in the last batch of a step only."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(is_last)
        yield
    elif isinstance(module, DistributedDataParallel) and not is_last:
        with module.no_sync():
            yield
    else:
        yield
