from curation.format_prompts import PAPER_PROMPTS, with_prompt


def test_a_prompt_is_added_once_on_a_line_of_its_own():
    asked = with_prompt("<image>\nWhat is it? \n", "Be brief.")
    assert asked == "<image>\nWhat is it?\nBe brief."
    assert with_prompt(asked, "Be brief.") == asked
    assert with_prompt("BE BRIEF. What is it?", "Be brief.") == "BE BRIEF. What is it?"


def test_prompts_of_the_paper_are_all_different():
    assert len({prompt.casefold() for prompt in PAPER_PROMPTS}) == len(PAPER_PROMPTS) == 9
