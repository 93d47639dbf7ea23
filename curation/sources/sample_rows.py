"""Samples as Arrow rows: building the tables of `curation.tables` from turns and facts about pictures."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation.sources.columns import Said
from curation.sources.records import Reject
from curation.tables import IMAGE, REJECTED, ROLES, SAMPLES, TURN, Int64s, content_ids, record_id, string_offsets

_LAST_SPACE = 32  # in UTF-8 and ASCII, white space and control signs come before all others


@dataclass(frozen=True, slots=True)
class Origins:
    """Where each sample of a table was found: file (relative to the source's root), position in it, upstream id.

    `annotations` are the annotation files that a release says its records were taken from; None elsewhere.
    """

    files: Sequence[str]
    positions: Sequence[int]
    ids: Sequence[str | None]
    annotations: Sequence[str | None] | None = None


def sample_table(source: str, said: Said, images: Sequence[Sequence[Mapping[str, Any]]] | None, origins: Origins) -> pa.Table:
    """Rows of SAMPLES, one for each sample of `said`; ids are by content and may repeat within a source.

    `images` is None for a source without pictures.
    """
    num_samples, ends = len(said.counts), said.ends
    offsets = string_offsets(said.texts)
    shown = None if images is None else ["".join(image["sha256"] or image["pixels"] for image in seen) for seen in images]
    num_images = np.zeros(num_samples, np.int32) if images is None else np.fromiter(map(len, images), np.int32, num_samples)
    columns = [
        content_ids(source, said.texts, ends, shown),
        pa.repeat(source, num_samples),
        _conversations(said, ends),
        _no_images(num_samples) if images is None else pa.array(images, pa.list_(IMAGE)),
        pa.array(num_images),
        pa.array(said.counts.astype(np.int32)),
        pa.array(_num_words(said.texts, ends).astype(np.int32)),
        pa.array(np.diff(offsets[ends]).astype(np.int32)),
        pa.array(origins.files, pa.string()),
        pa.array(origins.positions, pa.int64()),
        pa.array(origins.ids, pa.string()),
        pa.array(origins.annotations or [None] * num_samples, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SAMPLES)


def _no_images(length: int) -> pa.ListArray:
    return pa.ListArray.from_arrays(pa.array(np.zeros(length + 1, np.int32)), pa.array([], IMAGE))


def _conversations(said: Said, ends: Int64s) -> pa.ListArray:
    places = np.arange(len(said.texts)) - np.repeat(ends[:-1], said.counts)
    roles = pa.array(ROLES).take(pa.array(places % 2))
    structs = pa.StructArray.from_arrays([roles, said.texts], fields=list(TURN))
    return pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), structs)


def _num_words(texts: pa.StringArray, ends: Int64s) -> Int64s:
    """Words between ASCII white space in each sample's turns: bytes of a word that follow white space or begin a text.

    All texts are looked at as one row of bits, so that a count between two places costs the same however far they are apart.
    """
    offsets = string_offsets(texts)
    first, last = int(offsets[0]), int(offsets[-1])
    if last == first:
        return np.zeros(len(ends) - 1, np.int64)
    is_word = np.frombuffer(texts.buffers()[2], np.uint8)[first:last] > _LAST_SPACE
    is_start = np.empty(len(is_word), np.bool_)
    np.greater(is_word[1:], is_word[:-1], out=is_start[1:])
    begins = offsets[:-1][np.diff(offsets) > 0] - first
    is_start[begins] = is_word[begins]
    return np.diff(_bits_before(is_start, offsets[ends] - first))


def _bits_before(bits: npt.NDArray[np.bool_], places: Int64s) -> Int64s:
    """How many of `bits` before each of `places` are set."""
    packed = np.packbits(bits, bitorder="little")
    words = np.concatenate([packed, np.zeros(16 - len(packed) % 8, np.uint8)]).view("<u8")
    counts = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.bitwise_count(words), dtype=np.int64)])
    below = (np.uint64(1) << (places % 64).astype(np.uint64)) - np.uint64(1)
    found: Int64s = counts[places // 64] + np.bitwise_count(words[places // 64] & below)
    return found


def rejected_table(source: str, rejects: Iterable[Reject]) -> pa.Table:
    """Rows of REJECTED."""
    rows = [
        {
            "record_id": record_id(source, reject.file, reject.position),
            "source": source,
            "origin_file": reject.file,
            "origin_position": reject.position,
            "reason": reject.reason.value,
            "detail": reject.detail,
            "raw": reject.raw,
        }
        for reject in rejects
    ]
    return pa.Table.from_pylist(rows, schema=REJECTED)
