"""Samples by their place in the shards of some releases, which are opened as they are needed."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from curation.shard_format import occurrence_key
from training.errors import StreamError
from training.foreign import parse_foreign
from training.index import Release
from training.members import Members, parse_members, read_members
from training.order import Int64s
from training.storage import read_at

MAX_OPEN_SHARDS = 128
"""Descriptors kept open a process; well under the usual limit of 1,024, enough for every shard of a shuffle window."""

_HEADER_NAME_BYTES = 100


_DESCRIBED = ("sample_id", "source", "category", "repeat", "shard", "offset_bytes", "num_bytes")


class ShardReader:
    """Reads samples; shards of all releases are numbered through, releases' rows laid end to end.

    A shard's first sample is held against the index when the shard is first opened, so a shard that has taken another's
    place is found even where sizes agree.
    """

    def __init__(self, releases: Sequence[Release]) -> None:
        self._releases = tuple(releases)
        self._shards = [(release, number) for release in releases for number in range(len(release.shards))]
        self._first_shards = np.cumsum([0] + [len(release.shards) for release in releases])
        self._first_rows = np.cumsum([0] + [release.num_samples for release in releases])
        self._has_foreign = any(release.is_foreign for release in releases)
        self._open: dict[int, int] = {}
        self._first_keys: dict[int, str] = {}
        self._checked: set[int] = set()

    def places(self, rows: Int64s) -> tuple[list[int], list[int], list[int]]:
        """Shard, first byte and length of the samples at some rows."""
        if len(self._releases) == 1:
            release = self._releases[0]
            return release.shard[rows].tolist(), release.offsets[rows].tolist(), release.num_bytes[rows].tolist()
        found = np.empty((3, len(rows)), dtype=np.int64)
        numbers = np.searchsorted(self._first_rows, rows, side="right") - 1
        for number in np.unique(numbers).tolist():
            release, chosen = self._releases[number], numbers == number
            own = rows[chosen] - self._first_rows[number]
            found[0, chosen] = release.shard[own] + self._first_shards[number]
            found[1, chosen] = release.offsets[own]
            found[2, chosen] = release.num_bytes[own]
        return found[0].tolist(), found[1].tolist(), found[2].tolist()

    def locate(self, row: int) -> tuple[Release, int]:
        """The release of a row, and its row in there."""
        number = int(np.searchsorted(self._first_rows, row, side="right")) - 1
        return self._releases[number], row - int(self._first_rows[number])

    def describe(self, rows: Int64s) -> list[dict[str, Any]]:
        """What the index says of the samples at some rows, in their order."""
        found: dict[int, dict[str, Any]] = {}
        for release, first in zip(self._releases, self._first_rows.tolist(), strict=False):
            own = rows[(rows >= first) & (rows < first + release.num_samples)]
            if len(own):
                table = release.columns(*_DESCRIBED).take(pa.array(own - first))
                found |= {row: _described(release, entry) for row, entry in zip(own.tolist(), table.to_pylist(), strict=True)}
        return [found[row] for row in rows.tolist()]

    def read(self, shard: int, start: int, num_bytes: int) -> Members:
        """The sample at a place. Raises SampleError for one that cannot be read, StreamError for the whole shard."""
        descriptor = self._open.get(shard)
        if descriptor is None:
            descriptor = self._open_shard(shard)
            if descriptor is None:
                release, number = self._shards[shard]
                return parse_members(release.files.read_range(release.shard_path(number), start, num_bytes), start)
        if self._has_foreign and self._shards[shard][0].is_foreign:
            return parse_foreign(read_at(descriptor, start, num_bytes), start)
        return read_members(descriptor, start, num_bytes)

    def place(self, shard: int, start: int) -> str:
        """Where a sample lies, for messages."""
        release, number = self._shards[shard]
        return release.place(number, start)

    def local_path(self, shard: int) -> str | None:
        """Where a shard lies on this machine for as long as the release does; None for one behind a URL."""
        release, number = self._shards[shard]
        return release.files.lasting_path(release.shard_path(number))

    def read_ahead(self, shards: Sequence[int]) -> None:
        """Prepare shards that will be read soon, soonest first."""
        by_release: dict[int, list[str]] = {}
        for shard in dict.fromkeys(shards):
            if shard not in self._open:
                release, number = self._shards[shard]
                by_release.setdefault(id(release.files), []).append(release.shard_path(number))
        for release in self._releases:
            if names := by_release.pop(id(release.files), None):
                release.files.read_ahead(names)

    def _open_shard(self, shard: int) -> int | None:
        release, number = self._shards[shard]
        descriptor = release.files.open_shard(release.shard_path(number))
        if shard not in self._checked and not release.is_foreign:
            try:
                self._check(shard, descriptor)
            except BaseException:
                if descriptor is not None:
                    os.close(descriptor)
                raise
            self._checked.add(shard)
        if descriptor is not None:
            self._open[shard] = descriptor
            if len(self._open) > MAX_OPEN_SHARDS:
                os.close(self._open.pop(next(iter(self._open))))
        return descriptor

    def _check(self, shard: int, descriptor: int | None) -> None:
        """Hold a shard's first sample against the index."""
        release, number = self._shards[shard]
        if shard not in self._first_keys:
            self._first_keys.update({shard - number + own: key for own, key in release.first_keys(number).items()})
        start = int(release.first_offsets[number])
        if descriptor is not None:
            header = os.pread(descriptor, _HEADER_NAME_BYTES, start)
        else:
            header = release.files.read_range(release.shard_path(number), start, _HEADER_NAME_BYTES)
        expected = f"{self._first_keys[shard]}.json"
        found = header.rstrip(b"\0")
        if found != expected.encode():
            shown = found[:60].decode("utf-8", "replace") if found.isascii() else repr(found[:20])
            raise StreamError(
                f"{release.place(number, start)}: the index has '{expected}' there, the shard '{shown}'; "
                "it is not the shard of this index: copy it there again or build the release again"
            )

    def close(self) -> None:
        """Close the shards; the next read opens them again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_open": {}}

    def __del__(self) -> None:
        self.close()


def _described(release: Release, entry: dict[str, Any]) -> dict[str, Any]:
    key = occurrence_key(entry["sample_id"], entry["repeat"])
    return {"id": key, **entry, "release": release.name, "shard": release.shards[entry["shard"]].name}
