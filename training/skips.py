"""Where samples that are to be left out lie: by id, in the releases of a stream and in the order of an epoch."""

from collections.abc import Sequence

import numpy as np

from training.errors import StreamError
from training.index import Release
from training.order import Int64s, Order

_SCANNED_POSITIONS = 1 << 16


def find_rows(releases: Sequence[Release], sample_ids: Sequence[str]) -> Int64s:
    """Rows of some samples, all their occurrences, in releases laid end to end. Raises StreamError for unknown ids."""
    first, rows, missing = 0, [], set(sample_ids)
    for release in releases:
        own, found = release.find(sample_ids)
        missing -= found
        rows.append(own + first)
        first += release.num_samples
    if missing:
        raise StreamError(f"no sample of this stream has the id {', '.join(sorted(missing)[:5])}; skip ids that it has")
    return np.concatenate(rows)


def find_positions(order: Order, epoch: int, rows: Int64s) -> Int64s:
    """Positions, ascending, at which an epoch has any of some rows; the whole epoch's order is gone through."""
    found, cursor = [np.empty(0, dtype=np.int64)], order.start()
    for first in range(0, order.num_positions, _SCANNED_POSITIONS):
        positions = np.arange(first, min(first + _SCANNED_POSITIONS, order.num_positions), dtype=np.int64)
        here, cursor = order.rows(epoch, positions, cursor)
        found.append(positions[np.isin(here, rows)])
    return np.concatenate(found)
