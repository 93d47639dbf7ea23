"""The rules every sample obeys, whatever its source: no empty turn, and one `<image>` marker for each picture.

Text without pictures is looked at as one Arrow column: only turns that begin like a blank one, or hold a marker, are looked
at one by one, so that a batch costs the same whether or not something is wrong in it.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.catalog.spec import Images, Layout, Part
from curation.catalog.template import Unusable
from curation.errors import RejectReason
from curation.shard_format import IMAGE_MARKER
from curation.sources.columns import Row, Said, Turns, all_usable
from curation.sources.pictures import Refs
from curation.tables import Int64s, string_offsets

_IS_SOLID = np.zeros(256, np.bool_)
_IS_SOLID[0x21:0x80] = True
_IS_SOLID[[*range(0xC3, 0xE1), *range(0xE4, 0xF5)]] = True
"""First bytes of signs that are not white space. All white space is below 0x21 or begins with 0xC2, 0xE1, 0xE2 or 0xE3."""


def checked(rows: list[Row], refs: Sequence[Refs], part: Part) -> list[Row]:
    """`rows` with markers in place; those that break a rule are unusable. The first rule broken is the one named."""
    if part.images is not None:
        rows = [_first_problem(row, found) for row, found in zip(rows, refs, strict=True)]
    marker = part.images.marker if part.images else None
    if marker:
        rows = [row if isinstance(row, Unusable) else [text.replace(marker, IMAGE_MARKER) for text in row] for row in rows]
    return [
        row if isinstance(row, Unusable) or isinstance(found, Unusable) else _judge(row, len(found), part)
        for row, found in zip(rows, refs, strict=True)
    ]


def checked_text(rows: list[Row], part: Part) -> tuple[list[Row], Said]:
    """`checked` for a part without pictures, and what the rows that are usable say."""
    said = Said.of(_usable(rows))
    suspects = _suspects(said.texts)
    if not len(suspects):
        return rows, said
    places = np.flatnonzero([not isinstance(row, Unusable) for row in rows])
    rows = list(rows)
    for place in places[np.unique(np.searchsorted(said.ends, suspects, "right") - 1)].tolist():
        row = rows[place]
        assert not isinstance(row, Unusable)
        rows[place] = _judge(row, 0, part)
    return rows, Said.of(_usable(rows))


def _usable(rows: Sequence[Row]) -> Sequence[Turns]:
    return rows if all_usable(rows) else [row for row in rows if not isinstance(row, Unusable)]


def _suspects(texts: pa.StringArray) -> Int64s:
    """Places of the texts that are blank or hold a marker."""
    offsets = string_offsets(texts)
    signs = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[: offsets[-1]]
    if not len(signs):
        return np.arange(len(texts))
    # An empty text's first byte is the next text's (or the last one of all): it is told by its length.
    first = signs[np.minimum(offsets[:-1], len(signs) - 1)]
    likely = np.flatnonzero(~_IS_SOLID[first] | (np.diff(offsets) == 0))
    blank: npt.NDArray[np.int64] = likely[[not text.strip() for text in texts.take(pa.array(likely)).to_pylist()]]
    said = signs.tobytes()
    if b"<" not in said or IMAGE_MARKER.encode() not in said:  # one sign is found ten times as fast as seven
        return blank
    return np.union1d(blank, np.flatnonzero(pc.match_substring(texts, IMAGE_MARKER).to_numpy(zero_copy_only=False)))


def _first_problem(row: Row, refs: Refs) -> Row:
    return refs if isinstance(refs, Unusable) and not isinstance(row, Unusable) else row


def _judge(row: Turns, num_images: int, part: Part) -> Row:
    for number, turn in enumerate(row):
        if not turn.replace(IMAGE_MARKER, "").strip():
            kind, name = (RejectReason.EMPTY_ANSWER, "answer") if number % 2 else (RejectReason.EMPTY_QUESTION, "question")
            return Unusable(kind, f"the {name} of turn {number} holds no text")
    markers = [turn.count(IMAGE_MARKER) for turn in row]
    if sum(markers[1::2]):
        return Unusable(RejectReason.MARKER_MISMATCH, f"an answer holds the marker {IMAGE_MARKER}")
    found = sum(markers)
    if found == num_images:
        return row
    if found == 0 and _may_add_markers(part.images, part.layout):
        return [f"{IMAGE_MARKER}\n" * num_images + row[0], *row[1:]]
    return Unusable(RejectReason.MARKER_MISMATCH, f"{found} {IMAGE_MARKER} markers for {num_images} images")


def _may_add_markers(images: Images | None, layout: Layout) -> bool:
    """Only conversations publish markers of their own; in other layouts the pictures stand before the question."""
    return images is not None and (layout is not Layout.CONVERSATIONS or images.add_markers)
