"""Layout `qa`: one question, one answer. Fields: question, answer, id."""

from collections.abc import Sequence

from curation.catalog.spec import Part
from curation.catalog.template import Record
from curation.sources.columns import Adapted, single_turns, text_column


def qa(records: Sequence[Record], part: Part) -> Adapted:
    """One turn each; `values` may translate answers (`{"0": "no", "1": "yes"}`)."""
    assert part.fields.question is not None and part.fields.answer is not None
    questions = text_column(records, part.fields.question, part.values.get("question"))
    answers = text_column(records, part.fields.answer, part.values.get("answer"))
    return Adapted(single_turns(questions, answers))
