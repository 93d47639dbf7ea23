"""Loops compiled to machine code: sets of hashes are ragged, and neither numpy nor polars has kernels for them.

The compiled code is cached beside the module, or in the user's cache folder where that cannot be written, so only the first
run on a machine pays for compiling. Where neither can be written, every process compiles for itself.
"""

from collections.abc import Callable
from typing import TypeVar, cast

import numba
import numpy as np

FunctionT = TypeVar("FunctionT", bound=Callable[..., object])


def compiled(function: FunctionT) -> FunctionT:
    """`function` compiled for its arguments' types at the first call; it runs without holding the interpreter's lock."""
    try:
        machine_code = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no place for a cache
        machine_code = numba.njit(nogil=True)(function)
    return cast(FunctionT, machine_code)


MULTIPLIER = np.uint64(0x9FB21C651E98DF25)
INCREMENT = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(32)


@compiled
def folded(state: np.uint64, value: np.uint64) -> np.uint64:
    """A 64-bit hash of a sequence, one value further; order counts."""
    mixed = (state ^ value) * MULTIPLIER + INCREMENT
    return mixed ^ (mixed >> SHIFT)
