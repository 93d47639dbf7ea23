import pytest

from curation.catalog.spec import Prompt
from curation.format_prompts import PAPER_PROMPTS, prompt_for, with_prompt


def test_a_prompt_is_added_once_on_a_line_of_its_own():
    asked = with_prompt("<image>\nWhat is it? \n", "Be brief.")
    assert asked == "<image>\nWhat is it?\nBe brief."
    assert with_prompt(asked, "Be brief.") == asked
    assert with_prompt("BE BRIEF. What is it?", "Be brief.") == "BE BRIEF. What is it?"


def test_the_first_prompt_that_fits_question_and_answer_is_taken():
    prompts = (Prompt(text="Letter.", answer="^[A-Z]$"), Prompt(text="Number.", question="(?i)how many"), Prompt(text="Brief."))
    assert prompt_for(prompts, "How many?", "B") == "Letter."
    assert prompt_for(prompts, "How many?", "12") == "Number."
    assert prompt_for(prompts, "What?", "A cat") == "Brief."
    assert prompt_for(prompts[:2], "What?", "A cat") is None
    assert prompt_for((), "What?", "A cat") is None


def test_prompts_of_the_paper_are_all_different():
    assert len({prompt.casefold() for prompt in PAPER_PROMPTS}) == len(PAPER_PROMPTS) == 9


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What is it?", "Be brief.\nWhat is it?"),
        ("<image>\nWhat is it?", "<image>\nBe brief.\nWhat is it?"),
        ("<image> What is it?", "<image> Be brief.\nWhat is it?"),
        ("<image>\n<image>\nWhat differs?", "<image>\n<image>\nBe brief.\nWhat differs?"),
        ("What is it?\n<image>", "Be brief.\nWhat is it?\n<image>"),
        ("<image>\nbe BRIEF. What is it?", "<image>\nbe BRIEF. What is it?"),
    ],
)
def test_a_prompt_before_a_question_stands_behind_opening_markers(question: str, expected: str):
    once = with_prompt(question, "Be brief.", "before")
    assert once == expected
    assert with_prompt(once, "Be brief.", "before") == with_prompt(once, "Be brief.") == expected
