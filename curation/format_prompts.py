"""Response-format prompts: sentences that tie a short answer to the request for one (paper, section 5.3 and Table 17).

They are added to questions when shards are written and ignored when duplicates are sought, so that the same question with
and without one counts as the same.
"""

PAPER_PROMPTS = (
    "Answer the question using a single word or phrase.",
    "Answer the question using a single number or phrase.",
    "Answer with the option's letter from the given choices directly.",
    "Give the short answer directly.",
    "When the provided information is insufficient, respond with <no answer>.",
    "Directly provide the HTML code.",
    "First show your reasoning process and then give the final answer.",
    "When the provided information is insufficient, respond with 'Unanswerable'.",
    "Answer with the letter.",
)


def with_prompt(question: str, prompt: str) -> str:
    """`question` with `prompt` on a line of its own behind it, unless it is there already."""
    if prompt.casefold() in question.casefold():
        return question
    return f"{question.rstrip()}\n{prompt}"
