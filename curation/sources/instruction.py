"""Layout `instruction` (Alpaca): an instruction, perhaps an input for it, an output. Fields: instruction, input, output."""

from collections.abc import Sequence

from curation.catalog.spec import Part
from curation.catalog.template import Record
from curation.sources.columns import Adapted, Cell, optional_column, single_turns, text_column


def instruction(records: Sequence[Record], part: Part) -> Adapted:
    """The input follows the instruction after an empty line; a record without one is the instruction alone."""
    assert part.fields.instruction is not None and part.fields.output is not None
    asked = text_column(records, part.fields.instruction)
    given = optional_column(records, part.fields.input)
    questions: list[Cell] = [
        f"{question}\n\n{extra}" if extra and not extra.isspace() and type(question) is str else question
        for question, extra in zip(asked, given, strict=True)
    ]
    return Adapted(single_turns(questions, text_column(records, part.fields.output, part.values.get("output"))))
