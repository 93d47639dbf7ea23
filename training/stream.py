"""Samples of a release in a shuffled order, each exactly once an epoch over all ranks and DataLoader workers.

The order is a function of (seed, epoch) alone; position p of it goes to rank p % world_size, and a rank's positions
go to its workers in runs of `batch_size`, so with the DataLoader's batch size given here even the batches are the
same for any number of workers. A sample is one positioned read: no tar is scanned, nothing is buffered, resuming
costs what starting costs. How states work: `training/progress.py` and docs/training.md. Weighted mixing of releases:
`training/mixing.py`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, cast

from training.decode import MAX_IMAGE_PIXELS
from training.errors import ConfigError, StreamError
from training.index import Location, open_release
from training.mixing import MixtureOrder, integer_shares
from training.order import ShardOrder, Shuffle, derive_key
from training.progress import Progress, merge_progress
from training.reader import ReadOptions, SampleStream

WINDOW = 1024
"""Rows of a shuffle block; at 64 KB a sample a block spans 64 MB."""


def _parse_shuffle(shuffle: bool | str) -> Shuffle:
    if isinstance(shuffle, bool):
        return Shuffle.BLOCK if shuffle else Shuffle.FILE
    try:
        return Shuffle(shuffle)
    except ValueError as error:
        raise ConfigError(f"shuffle is {shuffle!r}; expected True ('block'), False ('file') or 'full'") from error


def _check_window(window: int) -> int:
    if window < 1:
        raise ConfigError(f"window is {window}; expected at least 1 row")
    return window


class ShardStream(SampleStream):
    """All samples of one release, or of several laid end to end, once an epoch.

    `shuffle` is True or "block" (windows of `window` rows shuffled, then rows inside them), "full" (any row may
    follow any), False or "file" (file order). `decode`: "pil" gives RGB images, None their bytes, a function what it
    makes of the bytes. `batch_size` is the DataLoader's, so that its batches do not depend on the number of workers.
    Rank and world size come from torch.distributed, else from RANK and WORLD_SIZE, else there is one rank. Raises
    StreamError for an unusable release.
    """

    def __init__(
        self,
        release: Location | Sequence[Location],
        *,
        seed: int = 0,
        shuffle: bool | str = True,
        rank: int | None = None,
        world_size: int | None = None,
        decode: Literal["pil"] | Callable[[bytes], Any] | None = "pil",
        on_error: Literal["raise", "skip"] = "raise",
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        batch_size: int = 1,
        window: int = WINDOW,
    ) -> None:
        locations = [release] if isinstance(release, str | os.PathLike) else list(release)
        if not locations:
            raise ConfigError("no release given; give the path of at least one")
        releases = [open_release(location) for location in locations]
        order = ShardOrder(
            num_positions=sum(opened.num_samples for opened in releases),
            seed=seed,
            shuffle=_parse_shuffle(shuffle),
            window=_check_window(window),
        )
        super().__init__(
            releases,
            order,
            rank=rank,
            world_size=world_size,
            options=ReadOptions(decode=decode, on_error=on_error, max_image_pixels=max_image_pixels, batch_size=batch_size),
        )


class MixtureStream(SampleStream):
    """Several releases in shares proportional to their weights, each passed through again and again.

    At every prefix of an epoch each release is within one sample of its share. An epoch is `num_samples` long (by
    default as many as all releases hold together); the next epoch goes on where it stopped in every release. A
    release's own order is keyed by the seed and the name of its mixture. Other arguments as for ShardStream.
    """

    def __init__(
        self,
        weights: Mapping[str, float] | Mapping[os.PathLike[str], float],
        *,
        seed: int = 0,
        num_samples: int | None = None,
        shuffle: bool | str = True,
        rank: int | None = None,
        world_size: int | None = None,
        decode: Literal["pil"] | Callable[[bytes], Any] | None = "pil",
        on_error: Literal["raise", "skip"] = "raise",
        max_image_pixels: int = MAX_IMAGE_PIXELS,
        batch_size: int = 1,
        window: int = WINDOW,
    ) -> None:
        if not weights:
            raise ConfigError("no release given; give {release: weight} with at least one")
        if num_samples is not None and num_samples < 1:
            raise ConfigError(f"num_samples is {num_samples}; expected at least 1")
        releases = [open_release(location) for location in cast("Mapping[str, float]", weights)]
        parts = tuple(
            ShardOrder(
                num_positions=opened.num_samples,
                seed=derive_key(seed, int.from_bytes(opened.name.encode())),
                shuffle=_parse_shuffle(shuffle),
                window=_check_window(window),
            )
            for opened in releases
        )
        order = MixtureOrder(
            num_positions=num_samples or sum(opened.num_samples for opened in releases),
            parts=parts,
            shares=integer_shares(list(weights.values())),
        )
        super().__init__(
            releases,
            order,
            rank=rank,
            world_size=world_size,
            options=ReadOptions(decode=decode, on_error=on_error, max_image_pixels=max_image_pixels, batch_size=batch_size),
        )


def merge_states(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One state that any number of ranks and workers can load, out of those of every rank.

    Takes what `state_dict` of a stream or of a torchdata StatefulDataLoader returned on each rank; exact also where
    some ranks or workers are ahead of others. Raises StreamError when a rank or worker is missing, or they are of
    different epochs.
    """
    found: list[Progress] = []
    for state in states:
        if state.get("_steps_since_snapshot", 0):
            raise StreamError("a StatefulDataLoader state is older than its loader's position; use snapshot_every_n_steps=1")
        found.extend(Progress.from_state(inner) for inner in _stream_states(state))
    return merge_progress(found).to_state()


def _stream_states(state: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The stream states inside nested mappings, whatever a loader wraps around them."""
    if "stream_state" in state:
        yield state
        return
    for value in state.values():
        if isinstance(value, Mapping):
            yield from _stream_states(value)
