"""Response-format prompts: sentences that tie a short answer to the request for one (paper, section 5.3 and Table 17).

They are added to questions when shards are written and ignored when duplicates are sought, so that the same question with
and without one counts as the same.
"""

import re
from collections.abc import Sequence
from typing import Literal

from curation.catalog.spec import Prompt
from curation.shard_format import IMAGE_MARKER

_OPENING_MARKERS = re.compile(rf"(?:\s*{re.escape(IMAGE_MARKER)}[ \t]*\n?)+")

PAPER_PROMPTS = (
    "Answer the question using a single word or phrase.",
    "Answer the question using a single number or phrase.",
    "Answer with the option's letter from the given choices directly.",
    "Give the short answer directly.",
    "When the provided information is insufficient, respond with <no answer>.",
    "Directly provide the HTML code.",
    "First show your reasoning process and then give the final answer.",
    "When the provided information is insufficient, respond with 'Unanswerable'. "
    "Answer the question using a single word or phrase.",
    "Answer with the letter.",
)
"""Table 17 prints ten; the fifth repeats the first and is left out."""


def prompt_for(prompts: Sequence[Prompt], question: str, answer: str) -> str | None:
    """The text of the first of a source's prompts that fits this question and its answer, or None."""
    for prompt in prompts:
        if _fits(prompt.question, question) and _fits(prompt.answer, answer):
            return prompt.text
    return None


def _fits(pattern: str | None, text: str) -> bool:
    return pattern is None or re.search(pattern, text) is not None


def with_prompt(question: str, prompt: str, placement: Literal["after", "before"] = "after") -> str:
    """`question` with `prompt` on a line of its own behind it or before its words, unless it is there already.

    Image markers that open the question stay in front.
    """
    if prompt.casefold() in question.casefold():
        return question
    if placement == "after":
        return f"{question.rstrip()}\n{prompt}"
    opening = _OPENING_MARKERS.match(question)
    start = opening.end() if opening else 0
    return f"{question[:start]}{prompt}\n{question[start:].lstrip()}"
