"""The few things several processes must agree on. Without torchrun there is one process and nothing happens."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import distributed

Value = TypeVar("Value")


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Join the group that torchrun has prepared, if any, and leave it at the end."""
    if int(os.environ.get("WORLD_SIZE", "1")) <= 1:
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


def world_size() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and talks."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def gather(value: Value) -> list[Value]:
    """The values of all ranks, in order, on every rank."""
    if not distributed.is_initialized():
        return [value]
    values: list[Value | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]
