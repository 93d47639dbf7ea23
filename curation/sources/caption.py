"""Layout `caption`: a text that describes a picture, without a question. Fields: caption, question, id."""

from collections.abc import Sequence

from curation.catalog.spec import Part, Text
from curation.catalog.template import Record
from curation.sources.columns import Adapted, single_turns, text_column

DEFAULT_QUESTION = Text(text="Describe the image.")


def caption(records: Sequence[Record], part: Part) -> Adapted:
    """The caption answers `question`, by default a request to describe the image."""
    assert part.fields.caption is not None
    questions = text_column(records, part.fields.question or DEFAULT_QUESTION)
    captions = text_column(records, part.fields.caption, part.values.get("caption"))
    marker = part.images.marker if part.images else None
    if marker:
        # The picture stands before the question; where the caption said it goes is of no use any more.
        captions = [cell.replace(marker, "").strip() if isinstance(cell, str) else cell for cell in captions]
    return Adapted(single_turns(questions, captions))
