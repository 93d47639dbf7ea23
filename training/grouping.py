"""Batches of samples of like length and kind, as an order: positions are rearranged, nothing else changes.

Inside windows of the underlying order, samples are sorted by kind (text-only or with images, as the paper's loader groups
them) and length, cut into global batches of `batch` samples, and the batches put in random order. Because the outcome is
again an order, everything that holds for orders holds: exactly once, resumable, the same for any ranks and workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from training.errors import ConfigError
from training.index import Release
from training.order import Cursor, Int64s, Order, derive_key, permute


@dataclass(frozen=True, kw_only=True, slots=True)
class Grouping:
    """How to group: `batch` samples a train step over all ranks, sorted inside windows of `batches_a_window` of them.

    A sample's length is its `num_tokens` in the index and `tokens_per_image` for each image. `by_kind` keeps text-only
    samples apart from those with images.
    """

    batch: int
    batches_a_window: int = 64
    tokens_per_image: int = 0
    by_kind: bool = True

    def __post_init__(self) -> None:
        if self.batch < 1 or self.batches_a_window < 1 or self.tokens_per_image < 0:
            raise ConfigError(
                f"grouping: batch {self.batch}, batches_a_window {self.batches_a_window}, tokens_per_image "
                f"{self.tokens_per_image}; expected positive numbers"
            )


def sample_lengths(
    releases: Sequence[Release], *, tokens_per_image: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
    """Tokens of every row, releases laid end to end, and whether it has images."""
    lengths, has_images = [], []
    for release in releases:
        table = release.columns("num_tokens", "num_images")
        images = np.asarray(table["num_images"].to_numpy(), dtype=np.int32)
        lengths.append(np.asarray(table["num_tokens"].to_numpy(), dtype=np.int32) + images * tokens_per_image)
        has_images.append(images > 0)
    return np.concatenate(lengths), np.concatenate(has_images)


class GroupedOrder:
    """Another order with its samples grouped; cursors are those of the other order at a window's first position."""

    def __init__(self, order: Order, releases: Sequence[Release], grouping: Grouping) -> None:
        self._order = order
        self._grouping = grouping
        self._lengths, self._has_images = sample_lengths(releases, tokens_per_image=grouping.tokens_per_image)
        self._window = grouping.batch * grouping.batches_a_window
        self._window_rows = lru_cache(maxsize=2)(self._sorted_window)

    @property
    def num_positions(self) -> int:
        """Positions of an epoch."""
        return self._order.num_positions

    def describe(self) -> dict[str, object]:
        """What the order depends on besides the epoch."""
        grouping = self._grouping
        about = [grouping.batch, grouping.batches_a_window, grouping.tokens_per_image, grouping.by_kind]
        return {**self._order.describe(), "grouping": about}

    def start(self) -> Cursor:
        """The cursor of position 0."""
        return self._order.start()

    def rows(self, epoch: int, positions: Int64s, cursor: Cursor) -> tuple[Int64s, Cursor]:
        """Rows at ascending positions; a window is sorted when the first of its positions is asked for."""
        rows = np.empty_like(positions)
        windows = positions // self._window
        for window in np.unique(windows).tolist():
            inside = windows == window
            found, behind = self._window_rows(epoch, window, cursor)
            rows[inside] = found[positions[inside] - window * self._window]
            if inside[-1] and int(positions[-1]) + 1 < (window + 1) * self._window:
                break  # the window is not used up: the next call needs its beginning again
            cursor = behind
        return rows, cursor

    def _sorted_window(self, epoch: int, window: int, cursor: Cursor) -> tuple[Int64s, Cursor]:
        first = window * self._window
        stop = min(first + self._window, self.num_positions)
        rows, behind = self._order.rows(epoch, np.arange(first, stop, dtype=np.int64), cursor)
        keys: list[npt.NDArray[np.generic]] = [np.arange(len(rows)), self._lengths[rows]]
        if self._grouping.by_kind:
            keys.append(self._has_images[rows])
        rows = rows[np.lexsort(keys)]
        num_whole = len(rows) // self._grouping.batch
        places = permute(np.arange(num_whole, dtype=np.int64), num_whole, derive_key(epoch, window, 3))
        whole = rows[: num_whole * self._grouping.batch].reshape(num_whole, self._grouping.batch)[places]
        return np.concatenate([whole.ravel(), rows[num_whole * self._grouping.batch :]]), behind

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_window_rows"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._window_rows = lru_cache(maxsize=2)(self._sorted_window)
