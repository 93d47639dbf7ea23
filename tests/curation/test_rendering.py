import json

from curation.catalog import Prompt
from curation.rendering import SourceFacts, rendered_row

TURNS = ["<image>\nWhich?\nA. a\nB. b", "B", "Why?", "It is larger than the other one.", "How many?\nBe brief.", "Two"]


def questions(*prompts: Prompt) -> list[str]:
    sample = {
        "sample_id": "0" * 32,
        "conversations": [{"from": ("human", "gpt")[number % 2], "value": text} for number, text in enumerate(TURNS)],
        "images": [],
        "origin_file": "a.json",
        "origin_position": 0,
        "origin_id": None,
        "num_images": 0,
        "num_tokens": 1,
    }
    row = rendered_row(sample, 0, 0, SourceFacts("chats", "general", "MIT", prompts))
    turns = json.loads(row["payload"])["conversations"]
    assert [turn["value"] for turn in turns[1::2]] == TURNS[1::2]
    return [turn["value"] for turn in turns[::2]]


def test_each_question_is_given_the_first_prompt_that_fits_it_and_its_answer():
    letter, brief = Prompt(text="Only the letter.", answer="^[A-Z]$"), Prompt(text="Be brief.", answer=r"^\w+$")
    assert questions(letter, brief) == [f"{TURNS[0]}\nOnly the letter.", TURNS[2], TURNS[4]]
    assert questions(Prompt(text="Be brief.")) == [f"{TURNS[0]}\nBe brief.", f"{TURNS[2]}\nBe brief.", TURNS[4]]
    assert questions() == TURNS[::2]
