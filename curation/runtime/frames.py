"""Tables larger than memory: pieces are read one by one, each reduced to a small frame, and the frames summed as a tree.

dask.dataframe keeps only as many pieces in memory as there are threads. On a Ray cluster the same graph runs as Ray tasks.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

import dask
import dask.dataframe as dd
import pandas as pd

from curation.runtime.cluster import start_ray
from curation.runtime.settings import runtime_settings

PieceT = TypeVar("PieceT")
_SPLIT_EVERY = 8


def summed(
    pieces: Sequence[PieceT], reduce_piece: Callable[[PieceT], pd.DataFrame], empty: pd.DataFrame, keys: Sequence[str]
) -> pd.DataFrame:
    """The frames of all pieces, with rows of equal `keys` added up, sorted by `keys`; the same for any number of workers.

    `reduce_piece` returns a frame with the columns of `empty`: `keys`, and numbers to be added. It must be a module-level
    function, since it may run in other processes.
    """
    if not pieces:
        return empty
    with dask.config.set({"dataframe.convert-string": False}):
        frames = dd.from_map(reduce_piece, list(pieces), meta=empty)  # type: ignore[no-untyped-call]
        total = frames.groupby(list(keys), sort=False).sum(split_every=_SPLIT_EVERY)
        found: pd.DataFrame = total.compute(scheduler=_scheduler())
    return found.reset_index().sort_values(list(keys), ignore_index=True)


def _scheduler() -> object:
    """Ray's where the project runs on Ray and Ray is up already or an address is given; else threads of this process.

    Starting a cluster takes longer than most statistics do.
    """
    settings = runtime_settings()
    if settings.runtime == "ray":
        import ray
        from ray.util.dask import ray_dask_get

        if settings.is_cluster:
            start_ray(settings)
        if ray.is_initialized():
            return ray_dask_get
    return "threads"
