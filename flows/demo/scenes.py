"""Scenes: sky and ground, day or night, with a few things standing from left to right."""

from random import Random

from PIL import Image, ImageDraw

from flows.demo.figures import corners
from flows.demo.pictures import COLOURS, INK, Drawing, Fact, article

THINGS = ("house", "tree", "car", "boat", "flower", "flag")
PAINTS = ("red", "blue", "yellow", "orange", "purple")


def scene(rng: Random) -> Drawing:
    """A scene with two or three different things; a caption of it is the drawing's text."""
    width, height = rng.randint(200, 320), rng.randint(140, 220)
    is_night = rng.random() < 0.4
    sky = (20 + rng.randint(0, 20), 24 + rng.randint(0, 20), 70) if is_night else (150, 200 + rng.randint(0, 30), 250)
    image = Image.new("RGB", (width, height), sky)
    draw = ImageDraw.Draw(image)
    horizon = height * rng.uniform(0.6, 0.7)
    draw.rectangle((0, horizon, width, height), fill=(60, 130 + rng.randint(0, 40), 60))
    light = (width * rng.uniform(0.1, 0.9), height * 0.16)
    _light(draw, light, sky, is_night=is_night)
    things = rng.sample(THINGS, rng.randint(2, 3))
    colours = rng.sample(PAINTS, len(things))
    for place, (thing, colour) in enumerate(zip(things, colours, strict=True)):
        x = width * (place + 0.5) / len(things)
        _DRAWERS[thing](draw, (x, horizon + height * 0.14), height * rng.uniform(0.2, 0.26), COLOURS[colour])
    facts = [
        Fact(question="Is it day or night?", answer="night" if is_night else "day"),
        Fact(question="What shines in the sky?", answer="moon" if is_night else "sun", wrong=("lamp", "star")),
        Fact(question="How many things stand on the ground?", answer=str(len(things))),
        Fact(question="What stands on the far left?", answer=things[0], wrong=tuple(things[1:])),
        Fact(question="What stands on the far right?", answer=things[-1], wrong=tuple(things[:-1])),
    ]
    for thing, colour in zip(things, colours, strict=True):
        facts.append(Fact(question=f"What colour is the {thing}?", answer=colour))
    for first, second in ((things[0], things[1]), (things[1], things[0])):
        is_left = things.index(first) < things.index(second)
        answer = "yes" if is_left else "no"
        facts.append(Fact(question=f"Is the {first} to the left of the {second}?", answer=answer))
    absent = rng.choice([thing for thing in THINGS if thing not in things])
    facts.append(Fact(question=f"Is there a {absent} in the picture?", answer="no"))
    named = " and ".join(f"{article(colour)} {colour} {thing}" for thing, colour in zip(things, colours, strict=True))
    return Drawing(image=image, facts=tuple(facts), text=f"{named} {'at night' if is_night else 'by day'}")


def _light(draw: ImageDraw.ImageDraw, middle: tuple[float, float], sky: tuple[int, int, int], *, is_night: bool) -> None:
    x, y = middle
    draw.ellipse((x - 14, y - 14, x + 14, y + 14), fill="#f4f0d0" if is_night else "#ffd820")
    if is_night:
        draw.ellipse((x - 6, y - 17, x + 18, y + 11), fill=sky)


def _house(draw: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, colour: str) -> None:
    x, y = foot
    draw.rectangle((x - size * 0.7, y - size, x + size * 0.7, y), fill=colour, outline=INK)
    draw.polygon(((x - size * 0.9, y - size), (x, y - size * 1.7), (x + size * 0.9, y - size)), fill="#6b4a3a")
    draw.rectangle((x - size * 0.15, y - size * 0.5, x + size * 0.15, y), fill="#402818")


def _tree(draw: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, colour: str) -> None:
    x, y = foot
    draw.rectangle((x - size * 0.12, y - size * 0.9, x + size * 0.12, y), fill="#6b4a3a")
    draw.ellipse((x - size * 0.6, y - size * 2, x + size * 0.6, y - size * 0.7), fill=colour, outline=INK)


def _car(draw: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, colour: str) -> None:
    x, y = foot
    draw.rectangle((x - size, y - size * 0.6, x + size, y - size * 0.15), fill=colour, outline=INK)
    draw.rectangle((x - size * 0.5, y - size, x + size * 0.5, y - size * 0.6), fill=colour, outline=INK)
    for wheel in (x - size * 0.55, x + size * 0.55):
        draw.ellipse((wheel - size * 0.22, y - size * 0.35, wheel + size * 0.22, y + size * 0.09), fill="#181818")


def _boat(draw: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, colour: str) -> None:
    x, y = foot
    draw.polygon(
        ((x - size, y - size * 0.5), (x + size, y - size * 0.5), (x + size * 0.6, y), (x - size * 0.6, y)), fill=colour
    )
    draw.line((x, y - size * 0.5, x, y - size * 1.6), fill=INK, width=3)
    draw.polygon(((x + 3, y - size * 1.6), (x + 3, y - size * 0.6), (x + size * 0.7, y - size * 0.6)), fill="white")


def _flower(draw: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, colour: str) -> None:
    x, y = foot
    draw.line((x, y, x, y - size), fill="#1c6c2c", width=4)
    for petal_x, petal_y in corners((x, y - size * 1.2), size * 0.3, 6):
        draw.ellipse((petal_x - size * 0.22, petal_y - size * 0.22, petal_x + size * 0.22, petal_y + size * 0.22), fill=colour)
    draw.ellipse((x - size * 0.16, y - size * 1.36, x + size * 0.16, y - size * 1.04), fill="#fff0a0")


def _flag(draw: ImageDraw.ImageDraw, foot: tuple[float, float], size: float, colour: str) -> None:
    x, y = foot
    draw.line((x - size * 0.4, y, x - size * 0.4, y - size * 1.8), fill="#505050", width=4)
    draw.rectangle((x - size * 0.4, y - size * 1.8, x + size * 0.7, y - size * 1.1), fill=colour, outline=INK)


_DRAWERS = {"house": _house, "tree": _tree, "car": _car, "boat": _boat, "flower": _flower, "flag": _flag}
