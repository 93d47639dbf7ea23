import json
from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from curation.catalog.spec import Prompt
from curation.shard_format import IMAGE_MARKER
from curation.sharding.rendering import SourceFacts, rendered_row, without_turns

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


def sample(*said: str) -> dict:
    turns = [{"from": ("human", "gpt")[place % 2], "value": text} for place, text in enumerate(said)]
    return {"sample_id": "s-1", "conversations": turns, "num_turns": len(turns), "num_tokens": 0, "images": []}


def said(of: dict) -> list[str]:
    return [turn["value"] for turn in of["conversations"]]


def test_markers_go_before_the_next_question_that_stays():
    whole = sample("<image>\nWhat?", "This.", "Where? <image>", "Here.", "Who?", "They.")
    assert said(without_turns(whole, [0])) == ["<image>\nWhere? <image>", "Here.", "Who?", "They."]
    assert said(without_turns(whole, [0, 1])) == ["<image>\n<image>\nWho?", "They."]


def test_markers_of_the_last_turns_go_behind_the_last_question():
    assert said(without_turns(sample("What?", "This.", "Where? <image>", "Here."), [1])) == ["What?\n<image>", "This."]


def test_what_is_known_of_the_sample_stays_and_counts_follow():
    found = without_turns(sample("One two?", "Three.", "Four?", "Five."), [0])
    assert (found["sample_id"], found["num_turns"], found["num_tokens"]) == ("s-1", 2, 2)


@given(turns=st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=6))
def test_no_marker_is_lost_and_roles_alternate(turns: list[tuple[int, bool]]):
    whole = sample(
        *chain.from_iterable((f"{IMAGE_MARKER}" * markers + f"q{n}", f"a{n}") for n, (markers, _) in enumerate(turns))
    )
    removed = [number for number, (_, is_removed) in enumerate(turns) if is_removed][: len(turns) - 1]
    found = without_turns(whole, removed)
    assert "".join(said(found)).count(IMAGE_MARKER) == sum(markers for markers, _ in turns)
    assert [turn["from"] for turn in found["conversations"]] == ["human", "gpt"] * (len(turns) - len(removed))
    assert said(found)[1::2] == [f"a{number}" for number in range(len(turns)) if number not in removed]
