"""The rules every sample obeys, whatever its source: no empty turn, and one `<image>` marker for each picture.

A batch of text in which no turn is empty and none holds a marker, which is nearly every batch of text, passes at once.
"""

from collections.abc import Sequence
from itertools import chain

from curation.catalog import Images, Layout, Part
from curation.errors import RejectReason
from curation.shard_format import IMAGE_MARKER
from curation.sources.columns import Row, Turns, all_usable
from curation.sources.pictures import Refs
from curation.template import Unusable


def checked(rows: list[Row], refs: Sequence[Refs], part: Part) -> list[Row]:
    """`rows` with markers in place; those that break a rule are unusable. The first rule broken is the one named."""
    if part.images is not None:
        rows = [_first_problem(row, found) for row, found in zip(rows, refs, strict=True)]
    marker = part.images.marker if part.images else None
    if marker:
        rows = [row if isinstance(row, Unusable) else [text.replace(marker, IMAGE_MARKER) for text in row] for row in rows]
    if part.images is None and _is_plain_text(rows):
        return rows
    return [
        row if isinstance(row, Unusable) or isinstance(found, Unusable) else _judge(row, len(found), part)
        for row, found in zip(rows, refs, strict=True)
    ]


def _is_plain_text(rows: Sequence[Row]) -> bool:
    """Whether no turn of the batch is empty and none holds a marker."""
    turns = list(chain.from_iterable(rows if all_usable(rows) else [row for row in rows if not isinstance(row, Unusable)]))
    return "" not in turns and not any(map(str.isspace, turns)) and not any(IMAGE_MARKER in turn for turn in turns)


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
