"""What a drawing says of itself is true of its pixels, as far as a plain look at them can tell."""

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageDraw

from curation.catalog.template import Template
from flows.demo.charts import LABELS, bar_chart, chart, line_chart, pie_chart
from flows.demo.documents import html_text, html_tokens, receipt, table, text_page
from flows.demo.figures import cell, circuit, geometry, shapes
from flows.demo.pictures import COLOURS, Drawing
from flows.demo.scenes import scene

DRAWERS: dict[str, Callable[[Random], Drawing]] = {
    "bar_chart": bar_chart,
    "line_chart": line_chart,
    "pie_chart": pie_chart,
    "shapes": shapes,
    "geometry": geometry,
    "circuit": circuit,
    "cell": cell,
    "scene": scene,
    "receipt": lambda rng: receipt(rng).drawing,
    "table": lambda rng: table(rng).drawing,
    "text_page": text_page,
}


def answers(drawing: Drawing) -> dict[str, str]:
    return {fact.question: fact.answer for fact in drawing.facts}


def has_colour(image: Image.Image, colour: str) -> bool:
    return bool((np.asarray(image) == ImageColor.getrgb(COLOURS[colour])).all(axis=2).any())


def num_regions(image: Image.Image, colour: str) -> int:
    """Connected regions of exactly this colour."""
    image = image.copy()
    count = 0
    while True:
        places = np.argwhere((np.asarray(image) == ImageColor.getrgb(COLOURS[colour])).all(axis=2))
        if not len(places):
            return count
        ImageDraw.floodfill(image, (int(places[0][1]), int(places[0][0])), (1, 2, 3))
        count += 1


@pytest.mark.parametrize("name", DRAWERS)
def test_drawings_are_repeatable_small_and_have_usable_facts(name: str) -> None:
    for seed in range(40):
        drawing = DRAWERS[name](Random(seed))
        again = DRAWERS[name](Random(seed))
        assert (drawing.image.tobytes(), drawing.facts) == (again.image.tobytes(), again.facts)
        assert 50 <= min(drawing.image.size) <= max(drawing.image.size) <= 320
        assert len(answers(drawing)) == len(drawing.facts)
        for fact in drawing.facts:
            assert fact.question.strip()
            assert fact.answer.strip()


@pytest.mark.parametrize("name", ["geometry", "circuit", "cell"])
def test_wrong_options_are_wrong_and_different(name: str) -> None:
    for seed in range(60):
        for fact in DRAWERS[name](Random(seed)).facts:
            assert fact.wrong
            assert len({fact.answer, *fact.wrong}) == 1 + len(fact.wrong), fact


@pytest.mark.parametrize("seed", range(12))
def test_shapes_can_be_counted_in_the_pixels(seed: int) -> None:
    drawing = shapes(Random(seed))
    said = {question: int(answer) for question, answer in answers(drawing).items() if answer.isdigit()}
    found = {colour: num_regions(drawing.image, colour) for colour in COLOURS}
    assert said["How many shapes are there?"] == sum(found.values())
    for colour, number in found.items():
        assert said.get(f"How many {colour} shapes are there?", 0) == number


@pytest.mark.parametrize("seed", range(12))
def test_tallest_bar_is_the_tallest(seed: int) -> None:
    drawing = bar_chart(Random(seed))
    said = answers(drawing)
    labels = [label for label in LABELS if f"What is the value of {label}?" in said]
    pixels = np.asarray(drawing.image)
    heights = {}
    for label in labels:
        colour = ImageColor.getrgb(COLOURS[said[f"What colour is the bar of {label}?"]])
        heights[label] = int((pixels == colour).all(axis=2).sum(axis=0).max())
    assert max(heights, key=heights.__getitem__) == said["Which bar is the tallest?"]
    assert min(heights, key=heights.__getitem__) == said["Which bar is the shortest?"]
    assert said["How many bars are in the chart?"] == str(len(labels))


@pytest.mark.parametrize("seed", range(12))
def test_things_in_a_scene_have_the_colour_they_are_said_to_have(seed: int) -> None:
    drawing = scene(Random(seed))
    for question, answer in answers(drawing).items():
        if question.startswith("What colour is"):
            assert has_colour(drawing.image, answer)
            assert f"{answer} {question.split()[-1].strip('?')}" in drawing.text


def test_charts_are_of_all_kinds() -> None:
    kinds = {chart(Random(seed)).text.split()[1] for seed in range(40)}
    assert {"bar", "pie"} < kinds


def test_html_tokens_spell_the_html_of_the_table() -> None:
    for seed in range(10):
        rows = table(Random(seed)).rows
        assert Template("{html|table_html}").render({"html": html_tokens(rows)}) == html_text(rows)
