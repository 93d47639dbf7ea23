"""Layout `multiple_choice`: a question, options, and which of them is right. Fields: question, options, answer, id.

Options come as a list, as a mapping of letters to texts, as fields of their own, or not at all, when they stand in the
question's text already (or a record has none, or an empty list of them, and is a plain question).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from curation.catalog.spec import Part
from curation.catalog.template import LETTERS, Path, Record, Unusable, scalar_text
from curation.errors import RejectReason
from curation.sources.columns import Adapted, Cell, Row, text_column, value_column


def multiple_choice(records: Sequence[Record], part: Part) -> Adapted:
    """Options are listed under the question as `A. ...`; the answer is the letter or the text, as `respond` says."""
    assert part.fields.question is not None and part.fields.answer is not None
    questions = text_column(records, part.fields.question, part.values.get("question"))
    answers = text_column(records, part.fields.answer, part.values.get("answer"))
    listed = _options_column(records, part)
    return Adapted([_row(*cells, part) for cells in zip(questions, answers, listed, strict=True)])


def _options_column(records: Sequence[Record], part: Part) -> list[Any]:
    options = part.fields.options
    if isinstance(options, dict):
        paths = {letter: Path.parse(text) for letter, text in options.items()}
        return [{letter: path.get(record) for letter, path in paths.items()} for record in records]
    return value_column(records, options) if isinstance(options, str) else [None] * len(records)


def _row(question: Cell, answer: Cell, listed: Any, part: Part) -> Row:
    if isinstance(question, Unusable):
        return question
    if isinstance(answer, Unusable):
        return answer
    if listed is None or listed == []:
        return [question, answer]
    if not question.strip():
        return Unusable(RejectReason.EMPTY_QUESTION, "the question before the options holds no text")
    try:
        letters, options = _lettered_texts(listed)
        number = _right_option(answer.strip(), letters, options, part.answer_as)
    except Unusable as problem:
        return problem
    shown = "\n".join(f"{LETTERS[place]}. {text}" for place, text in enumerate(options))
    return [f"{question}\n{shown}", LETTERS[number] if part.respond == "letter" else options[number]]


def _lettered_texts(listed: Any) -> tuple[Sequence[str], list[str]]:
    """The publisher's letters of the options that are there, and their texts."""
    letters: Sequence[str] = LETTERS
    if isinstance(listed, Mapping):
        letters = [letter for letter in sorted(listed) if listed[letter] is not None]
        listed = [listed[letter] for letter in letters]
    if not isinstance(listed, list) or not 2 <= len(listed) <= len(LETTERS):
        found = f"{len(listed)} options" if isinstance(listed, list) else f"a {type(listed).__name__}"
        raise Unusable(RejectReason.UNSUPPORTED_VALUE, f"options: found {found}, expected 2 to {len(LETTERS)} in a list")
    return letters[: len(listed)], [scalar_text(option) for option in listed]


def _right_option(answer: str, letters: Sequence[str], options: Sequence[str], answer_as: str) -> int:
    if answer_as == "text":
        places = [place for place, text in enumerate(options) if text.strip() == answer]
        if places:
            return places[0]
    elif answer_as == "index" and answer.isascii() and answer.isdigit():
        if int(answer) < len(options):
            return int(answer)
    elif answer_as == "letter":
        letter = answer.strip("().").upper()
        places = [place for place, name in enumerate(letters) if name.upper() == letter]
        if places:
            return places[0]
    detail = f"answer '{answer[:80]}' is no {answer_as} of the {len(options)} options"
    raise Unusable(RejectReason.UNSUPPORTED_VALUE, detail)
