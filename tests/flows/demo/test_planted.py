"""Duplicates are counted by the plain definition."""

from PIL import Image

from flows.demo.pictures import png, webp
from flows.demo.planted import WORD_PROMPT, Planted, PlantedSource, SampleKey
from flows.demo.text_sources import respelled

RED, BLUE = Image.new("RGB", (8, 6), "red"), Image.new("RGB", (8, 6), "blue")


def key(question: str, image: Image.Image | None = None, answer: str = "yes") -> SampleKey:
    return SampleKey.of([question, answer], [] if image is None else [png(image)])


def test_case_width_spaces_and_prompt_do_not_matter() -> None:
    question = "Is the door open?"
    same = [question, *(respelled(number, question) for number in range(4)), f"{question}\n{WORD_PROMPT}"]
    assert len(set(same)) == 5
    assert {key(text) for text in same} == {key(question)}


def test_encoding_does_not_matter_but_pixels_and_words_do() -> None:
    assert SampleKey.of(["a", "b"], [png(RED, level=0)]) == SampleKey.of(["a", "b"], [webp(RED)])
    assert len({key("a", RED), key("a", BLUE), key("b", RED), key("a"), key("a", RED, "no")}) == 5


def test_duplicates_are_counted_once_within_and_once_between() -> None:
    first = PlantedSource(records=4, samples=3, keys=[key("a", RED), key("a", RED), key("b", RED)])
    first.rejected["bad_json"] = 1
    second = PlantedSource(records=2, samples=2, keys=[key("b", RED), key("b", BLUE)])
    planted = Planted.of({"one": first, "two": second}, seed=0, scale=1)
    assert (first.duplicates_within, second.duplicates_within) == (1, 0)
    assert planted.duplicates_between == {"one + two": 1}
    assert (planted.records, planted.samples, planted.kept) == (6, 5, 3)
    assert (planted.same_image_other_text, planted.same_text_other_image) == (2, 2)
