"""Samples of a release in a shuffled order, each exactly once an epoch over all ranks and DataLoader workers.

The order is a function of (seed, epoch) alone; position p of it goes to rank p % world_size, and a rank's positions
go to its workers in runs of `batch_size`, so with the DataLoader's batch size given here even the batches are the
same for any number of workers. A sample is one or two positioned reads: no tar is scanned, nothing is buffered, resuming
costs what starting costs. How states work: `training/progress.py` and docs/streaming.md. Weighted mixing of releases:
`training/mixing.py`.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

from training.errors import ConfigError, StreamError
from training.grouping import GroupedOrder, Grouping
from training.index import Location, Release, open_release
from training.keep import Keep, by_category, keep_rows, read_ratios, weights_version
from training.mixing import AtEnd, MixtureOrder, mixture_order
from training.order import Order, ShardOrder, Shuffle, derive_key
from training.ordered import ReadOptions
from training.progress import Progress, merge_progress
from training.reader import SampleStream
from training.shares import integer_shares
from training.storage import Storage

WINDOW = 1024
"""Rows of a shuffle block; at 64 KB a sample a block spans 64 MB."""


class StreamOptions(TypedDict, total=False):
    """Keywords of both streams.

    `shuffle` is True or "block" (windows of `window` rows shuffled, then rows inside them), "full" (any row may follow
    any), False or "file" (file order). Rank and world size come from torch.distributed, else from RANK and WORLD_SIZE,
    else there is one rank. `decode`: "pil" or "turbo" give RGB images, None their bytes, a function what it makes of the
    bytes; `side_px` is the side that they will be resized to. `batch_size` is the DataLoader's, so that its batches do not
    depend on the number of workers. `tail`: "even", "drop" or "pad", what becomes of samples that do not divide by the
    number of ranks. `keep` restricts the stream to some samples; `group` makes batches of like length and
    kind. `storage` is for releases behind URLs.
    """

    seed: int
    shuffle: bool | str
    window: int
    rank: int | None
    world_size: int | None
    decode: Literal["pil", "turbo"] | Callable[[bytes], Any] | None
    side_px: int | None
    on_error: Literal["raise", "skip"]
    max_image_pixels: int
    batch_size: int
    tail: str
    keep: Keep | None
    group: Grouping | None
    storage: Storage | None


_ORDERING = frozenset({"group", "seed", "shuffle", "window", "keep", "storage"})


def _read_options(options: StreamOptions) -> ReadOptions:
    unknown = options.keys() - StreamOptions.__annotations__.keys()
    if unknown:
        raise TypeError(f"unknown argument {', '.join(sorted(unknown))}; valid are {', '.join(StreamOptions.__annotations__)}")
    chosen: dict[str, Any] = {name: value for name, value in options.items() if name not in _ORDERING}
    return ReadOptions(**chosen)


def _parse_shuffle(options: StreamOptions) -> Shuffle:
    shuffle = options.get("shuffle", True)
    if isinstance(shuffle, bool):
        return Shuffle.BLOCK if shuffle else Shuffle.FILE
    try:
        return Shuffle(shuffle)
    except ValueError as error:
        raise ConfigError(f"shuffle is {shuffle!r}; expected True ('block'), False ('file') or 'full'") from error


def _open(location: Location, options: StreamOptions) -> Release:
    """The release at a location, restricted to what is kept; behind a URL, full shuffle reads by ranges."""
    storage = options.get("storage") or Storage(whole_shards=_parse_shuffle(options) is not Shuffle.FULL)
    release = open_release(location, storage=storage)
    keep = options.get("keep")
    return release if keep is None else release.keep(keep_rows(release, keep))


def _order(options: StreamOptions, num_positions: int, *, seed: int) -> ShardOrder:
    window = options.get("window", WINDOW)
    if window < 1:
        raise ConfigError(f"window is {window}; expected at least 1 row")
    return ShardOrder(num_positions=num_positions, seed=seed, shuffle=_parse_shuffle(options), window=window)


def _grouped(order: Order, releases: Sequence[Release], options: StreamOptions) -> Order:
    grouping = options.get("group")
    return order if grouping is None else GroupedOrder(order, releases, grouping)


class ShardStream(SampleStream):
    """All samples of one release, or of several laid end to end, once an epoch; keywords: StreamOptions.

    Raises StreamError for an unusable release.
    """

    def __init__(self, release: Location | Sequence[Location], **options: Unpack[StreamOptions]) -> None:
        locations = [release] if isinstance(release, str | os.PathLike) else list(release)
        if not locations:
            raise ConfigError("no release given; give the path of at least one")
        read = _read_options(options)
        releases = [_open(location, options) for location in locations]
        order = _order(options, sum(opened.num_samples for opened in releases), seed=options.get("seed", 0))
        super().__init__(releases, _grouped(order, releases, options), read)


Weights = Mapping[str, float] | Mapping[os.PathLike[str], float]


class MixtureStream(SampleStream):
    """Several releases in shares proportional to their weights; other keywords: StreamOptions.

    At every prefix each release is within one sample of its share. An epoch is `num_samples` long (by default as many as
    all releases hold together). `at_end` says what happens when a release has been passed through: "repeat" it (the next
    epoch goes on where this one stopped in every release), "stop" the epoch, or "reweight": go on without it. `schedule`
    gives weights by samples seen over the run, linear in between: [(0, {...}), (1_000_000, {...})], and takes the place of
    `weights`' values. A release's own order is keyed by the seed and the name of its mixture. `version` names the weights
    in states and logs.
    """

    order: MixtureOrder
    _is_rotating = True

    def __init__(
        self,
        weights: Weights,
        *,
        num_samples: int | None = None,
        at_end: str = "repeat",
        schedule: Sequence[tuple[int, Weights]] | None = None,
        version: str = "",
        **options: Unpack[StreamOptions],
    ) -> None:
        if not weights:
            raise ConfigError("no release given; give {release: weight} with at least one")
        parts = {os.fspath(location): _open(location, options) for location in weights}
        self._mix(parts, weights, num_samples, at_end, schedule, version, options)

    @classmethod
    def of_ratios(
        cls,
        release: Location,
        mixture: os.PathLike[str] | str,
        *,
        num_samples: int | None = None,
        at_end: str = "repeat",
        **options: Unpack[StreamOptions],
    ) -> "MixtureStream":
        """The categories of one release in the `ratios` of a mixture YAML, whatever shares the release was built with.

        Raises ConfigError for a category that the release does not have, or that has no ratio.
        """
        parts = by_category(_open(release, options))
        ratios = read_ratios(Path(mixture))
        stream = cls.__new__(cls)
        stream._mix(parts, ratios, num_samples, at_end, None, weights_version(Path(mixture).name, ratios), options)
        return stream

    def _mix(
        self,
        parts: Mapping[str, Release],
        weights: Weights,
        num_samples: int | None,
        at_end: str,
        schedule: Sequence[tuple[int, Weights]] | None,
        version: str,
        options: StreamOptions,
    ) -> None:
        read = _read_options(options)
        if options.get("group") is not None:
            raise ConfigError("a mixture with weights has no `group`; group a ShardStream, or pack the mixture (PackedStream)")
        if at_end not in list(AtEnd):
            raise ConfigError(f"at_end is {at_end!r}; expected {', '.join(repr(str(way)) for way in AtEnd)}")
        self._names = tuple(parts)
        own_names = [part.name if part.kept is None else f"{part.name} {name}" for name, part in parts.items()]
        seeds = [derive_key(options.get("seed", 0), int.from_bytes(name.encode())) for name in own_names]
        order = mixture_order(
            [_order(options, part.num_samples, seed=seed) for part, seed in zip(parts.values(), seeds, strict=True)],
            [(slot, self._by_part(given)) for slot, given in (schedule or [(0, weights)])],
            at_end=AtEnd(at_end),
            num_positions=num_samples,
            version=version,
        )
        super().__init__(list(parts.values()), order, read)

    def _by_part(self, weights: Weights) -> list[float]:
        given = {os.fspath(name): weight for name, weight in weights.items()}
        if given.keys() != set(self._names):
            raise ConfigError(
                f"weights are given for {', '.join(sorted(given))}; this mixture mixes {', '.join(sorted(self._names))}: give "
                "each of them one (0 leaves it out)"
            )
        return [given[name] for name in self._names]

    def change_weights(
        self, weights: Weights | os.PathLike[str] | str, *, at_step: int | None = None, version: str = ""
    ) -> None:
        """Take other weights from train step `at_step` (from 0) of this epoch on, by default from the next sample on.

        Releases go on where they are. `weights` may name a mixture YAML, whose ratios count. The change is part of the state,
        with its `version` (by default the file's name and a digest). Call it before an iteration begins, and after loading a
        state, alike on all ranks. Raises ConfigError where the step, in this stream's world size and batch size, has begun
        already.
        """
        name = Path(weights).name if isinstance(weights, str | os.PathLike) else ""
        given = self.weights_of(weights)
        _, world_size = self._rank_and_world_size()
        begun = self._standing()
        delivered_to = begun.start.next
        position = delivered_to if at_step is None else at_step * world_size * self._options.batch_size
        if position < delivered_to:
            raise ConfigError(
                f"weights cannot change at step {at_step}, sample {position:,}: {delivered_to:,} samples of this epoch "
                f"are given out; the next step is {-(-delivered_to // (world_size * self._options.batch_size))}"
            )
        self.order = self.order.changed(
            [(0, self._by_part(given))],
            at_slot=self.order.slot(begun.epoch, position),
            version=version or (weights_version(name, given) if name else ""),
        )
        self._resume = replace(begun, order=self._order_state())
        self._progress = None

    def weights_of(self, weights: Weights | os.PathLike[str] | str) -> dict[str, float]:
        """Weights by part as `change_weights` would take them. Raises ConfigError for any that it would refuse."""
        given = read_ratios(Path(weights)) if isinstance(weights, str | os.PathLike) else weights
        found = dict(zip(self._names, self._by_part(given), strict=True))
        integer_shares(list(found.values()))
        return found

    @property
    def version(self) -> str:
        """Version of the weights by which the next sample is taken."""
        begun = self._standing()
        return self.order.segment_at(self.order.slot(begun.epoch, begun.start.next)).version

    def weights_at(self, num_samples: int) -> tuple[str, dict[str, float]]:
        """Version and shares that count after `num_samples` samples of this epoch, for a run's log."""
        segment = self.order.segment_at(self.order.slot(self.epoch, num_samples))
        slot = self.order.slot(self.epoch, num_samples) - segment.start
        shares = [float(segment.plan.due(part, slot + 1) - segment.plan.due(part, slot)) for part in range(len(self._names))]
        return segment.version, dict(zip(self._names, shares, strict=True))

    def _order_of_state(self, about: Mapping[str, Any]) -> Order:
        return self.order.taking_up(about)


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
