"""Pictures of shapes and words with questions that only the picture answers, each with four answers of equal share.

Place, size, colours and background are random, so that a held-out picture is none that was learnt by heart.
"""

import io
import random
from collections.abc import Callable

from PIL import Image, ImageDraw, ImageFont

from tests.support.releases import TinySample

SIDE_PX = 48
COLOURS = {"red": (210, 40, 40), "green": (40, 150, 60), "blue": (50, 80, 220), "yellow": (230, 200, 30)}
KINDS = ("circle", "square", "bar", "ring")
WORDS = ("map", "joy", "six", "web")
NUM_ANSWERS = 4


def picture_samples(count: int, *, seed: int, num_questions: int = 4) -> list[TinySample]:
    """Counting, colours, kinds of shapes and rendered words in turn, or the first of them."""
    source = random.Random(seed)
    makers: tuple[Callable[[random.Random], tuple[Image.Image, str, str, str]], ...] = (_count, _colour, _kind, _word)
    samples = []
    for number in range(count):
        image, name, question, answer = makers[number % num_questions](source)
        data = io.BytesIO()
        image.save(data, "PNG")
        samples.append(
            TinySample(
                sample_id=f"{seed:03d}{number:06d}", source=name, category="general", question=question, answer=answer,
                images=(data.getvalue(),),
            )
        )  # fmt: skip
    return samples


def _paper(source: random.Random) -> Image.Image:
    return Image.new("RGB", (SIDE_PX, SIDE_PX), tuple(source.randint(225, 255) for _ in range(3)))


def _draw(image: Image.Image, kind: str, box: tuple[int, int, int, int], colour: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(image)
    left, top, right, bottom = box
    if kind == "circle":
        draw.ellipse(box, fill=colour)
    elif kind == "ring":
        draw.ellipse(box, outline=colour, width=3)
    elif kind == "square":
        draw.rectangle(box, fill=colour)
    else:
        middle = (top + bottom) // 2
        draw.rectangle((left, middle - 2, right, middle + 2), fill=colour)


def _box(
    source: random.Random, low: int, high: int, cell: int = SIDE_PX, left: int = 0, top: int = 0
) -> tuple[int, int, int, int]:
    size = source.randint(low, high)
    x, y = left + source.randint(1, cell - size - 2), top + source.randint(1, cell - size - 2)
    return x, y, x + size, y + size


def _count(source: random.Random) -> tuple[Image.Image, str, str, str]:
    image, number = _paper(source), source.randint(1, NUM_ANSWERS)
    for place in source.sample(range(9), number):  # cells of a 3 x 3 grid, so that shapes do not cover each other
        box = _box(source, 8, 11, 16, 16 * (place % 3), 16 * (place // 3))
        _draw(image, "circle", box, source.choice(list(COLOURS.values())))
    return image, "counting", "How many?", str(number)


def _colour(source: random.Random) -> tuple[Image.Image, str, str, str]:
    image, name = _paper(source), source.choice(list(COLOURS))
    _draw(image, source.choice(KINDS), _box(source, 14, 28), COLOURS[name])
    return image, "colours", "What colour?", name


def _kind(source: random.Random) -> tuple[Image.Image, str, str, str]:
    image, name = _paper(source), source.choice(KINDS)
    _draw(image, name, _box(source, 14, 28), source.choice(list(COLOURS.values())))
    return image, "shapes", "What shape?", name


def _word(source: random.Random) -> tuple[Image.Image, str, str, str]:
    image, word = _paper(source), source.choice(WORDS)
    font = ImageFont.load_default(source.randint(14, 17))
    ink = tuple(source.randint(0, 90) for _ in range(3))
    ImageDraw.Draw(image).text((source.randint(1, 10), source.randint(1, 26)), word, fill=ink, font=font)
    return image, "words", "Which word?", word
