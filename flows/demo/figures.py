"""Figures: shapes to count, polygons to measure, circuits and cells to read."""

import math
from random import Random

from PIL import ImageDraw

from flows.demo.pictures import COLOUR_NAMES, COLOURS, INK, Drawing, Fact, article, canvas, write

SHAPES = ("circle", "square", "triangle", "star")
POLYGONS = {3: "triangle", 4: "square", 5: "pentagon", 6: "hexagon", 8: "octagon"}
TRIPLES = ((3, 4, 5), (6, 8, 10), (5, 12, 13), (8, 15, 17))
Point = tuple[float, float]


def corners(middle: Point, radius: float, number: int, turn: float = -math.pi / 2) -> list[Point]:
    """The corners of a regular polygon, the first one upwards."""
    steps = (turn + 2 * math.pi * step / number for step in range(number))
    return [(middle[0] + radius * math.cos(angle), middle[1] + radius * math.sin(angle)) for angle in steps]


def draw_shape(draw: ImageDraw.ImageDraw, shape: str, middle: Point, radius: float, colour: str) -> None:
    """A circle, square, triangle or star."""
    x, y = middle
    if shape == "circle":
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[colour])
    elif shape == "square":
        draw.rectangle((x - radius * 0.85, y - radius * 0.85, x + radius * 0.85, y + radius * 0.85), fill=COLOURS[colour])
    elif shape == "triangle":
        draw.polygon(corners(middle, radius, 3), fill=COLOURS[colour])
    else:
        outer, inner = corners(middle, radius, 5), corners(middle, radius * 0.42, 5, -math.pi / 2 + math.pi / 5)
        draw.polygon([point for pair in zip(outer, inner, strict=True) for point in pair], fill=COLOURS[colour])


def shapes(rng: Random, *, most: int = 9) -> Drawing:
    """Up to `most` shapes in two or three colours, none touching another."""
    image, draw = canvas(rng, rng.randint(140, 220), rng.randint(140, 220))
    kinds = rng.sample(SHAPES, 2)
    colours = rng.sample(COLOUR_NAMES, rng.randint(2, 3))
    columns, rows = 4, 4
    cell = (image.width / columns, image.height / rows)
    places = rng.sample([(column, row) for column in range(columns) for row in range(rows)], rng.randint(2, most))
    drawn: list[tuple[str, str]] = []
    for column, row in places:
        kind, colour = rng.choice(kinds), rng.choice(colours)
        radius = min(cell) * rng.uniform(0.3, 0.42)
        draw_shape(draw, kind, ((column + 0.5) * cell[0], (row + 0.5) * cell[1]), radius, colour)
        drawn.append((kind, colour))
    facts = [Fact(question="How many shapes are there?", answer=str(len(drawn)))]
    for kind in kinds:
        number = sum(kind == other for other, _ in drawn)
        facts.append(Fact(question=f"How many {kind}s are there?", answer=str(number)))
    for colour in colours:
        number = sum(colour == other for _, other in drawn)
        facts.append(Fact(question=f"How many {colour} shapes are there?", answer=str(number)))
        facts.append(Fact(question=f"How many {colour} {kinds[0]}s are there?", answer=str(drawn.count((kinds[0], colour)))))
        facts.append(
            Fact(question=f"Is there {article(colour)} {colour} {kinds[1]}?", answer=_yes((kinds[1], colour) in drawn))
        )
    return Drawing(image=image, facts=tuple(facts), text=str(len(drawn)))


def _yes(is_true: bool) -> str:
    return "yes" if is_true else "no"


def geometry(rng: Random) -> Drawing:
    """A regular polygon, a rectangle with its sides, or a right triangle with two of them."""
    return rng.choice((_polygon, _rectangle, _right_triangle))(rng)


def _polygon(rng: Random) -> Drawing:
    image, draw = canvas(rng, 180, 170)
    number = rng.choice(tuple(POLYGONS))
    colour = rng.choice(COLOUR_NAMES)
    turn = -math.pi / 2 + (math.pi / number if number % 2 == 0 else 0)
    points = corners((90, 88), rng.randint(52, 72), number, turn)
    draw.polygon(points, outline=COLOURS[colour], width=4)
    side = rng.randint(2, 9)
    (x1, y1), (x2, y2) = points[0], points[1]
    middle = ((x1 + x2) / 2, (y1 + y2) / 2)
    write(draw, (90 + (middle[0] - 90) * 0.72, 88 + (middle[1] - 88) * 0.72), str(side), size_px=15)
    others = tuple(name for sides, name in POLYGONS.items() if sides != number)
    facts = (
        Fact(question="What is this figure called?", answer=POLYGONS[number], wrong=others),
        _number_fact("How many sides does the figure have?", number),
        _number_fact("All sides are equal. What is the perimeter?", number * side),
        _number_fact("How long is the marked side?", side),
    )
    return Drawing(image=image, facts=facts)


def _rectangle(rng: Random) -> Drawing:
    image, draw = canvas(rng, 220, 160)
    height = rng.randint(2, 6)
    width = rng.randint(height + 1, 9)
    right, bottom = 40 + width * 17, 24 + height * 17
    draw.rectangle((40, 24, right, bottom), outline=COLOURS[rng.choice(COLOUR_NAMES)], width=4)
    write(draw, ((40 + right) / 2, bottom + 13), str(width), size_px=15)
    write(draw, (24, (24 + bottom) / 2), str(height), size_px=15)
    facts = (
        _number_fact("What is the area of the rectangle?", width * height),
        _number_fact("What is the perimeter of the rectangle?", 2 * (width + height)),
        _number_fact("How long is the longer side?", width),
    )
    return Drawing(image=image, facts=facts)


def _right_triangle(rng: Random) -> Drawing:
    image, draw = canvas(rng, 220, 180)
    up, along, slope = rng.choice(TRIPLES)
    unit = 110 / max(up, along)
    foot, top, right = (50.0, 150.0), (50.0, 150 - up * unit), (50 + along * unit, 150.0)
    draw.polygon((foot, top, right), outline=COLOURS[rng.choice(COLOUR_NAMES)], width=4)
    draw.rectangle((52, 138, 62, 148), outline=INK)
    write(draw, (34, (foot[1] + top[1]) / 2), str(up), size_px=15)
    write(draw, ((foot[0] + right[0]) / 2, 164), str(along), size_px=15)
    write(draw, ((top[0] + right[0]) / 2 + 14, (top[1] + right[1]) / 2 - 10), "x", size_px=16)
    facts = (
        _number_fact("The angle at the small square is right. How long is x?", slope),
        _number_fact("What is the area of the triangle?", up * along // 2),
    )
    return Drawing(image=image, facts=facts)


def _number_fact(question: str, number: int) -> Fact:
    wrong = (number + 1, number + 2, max(1, number - 1) if number > 1 else number + 3, number + 5)
    return Fact(question=question, answer=str(number), wrong=tuple(map(str, wrong)))


def _either(question: str, first: str, second: str, *, is_first: bool) -> Fact:
    answer, wrong = (first, second) if is_first else (second, first)
    return Fact(question=question, answer=answer, wrong=(wrong,))


def circuit(rng: Random) -> Drawing:
    """A battery, a switch and one to three lamps, one after the other or side by side."""
    image, draw = canvas(rng, rng.randint(230, 280), rng.randint(150, 190))
    lamps, is_series, is_open = rng.randint(1, 3), rng.random() < 0.5, rng.random() < 0.5
    right, bottom = image.width - 34, image.height - 30
    draw.rectangle((34, 40, right, bottom), outline=INK, width=2)
    _battery(draw, (34, (40 + bottom) / 2))
    _switch(draw, (image.width / 2, bottom), is_open=is_open)
    colour = rng.choice(("yellow", "orange", "red"))
    if is_series:
        for number in range(lamps):
            _lamp(draw, (34 + (right - 34) * (number + 1) / (lamps + 1), 40), colour)
    else:
        for number in range(lamps):
            x = right - 46 * number
            draw.line((x, 40, x, bottom), fill=INK, width=2)
            _lamp(draw, (x, (40 + bottom) / 2 - 8), colour)
    facts = [
        Fact(question="How many lamps are in the circuit?", answer=str(lamps), wrong=("4", "5", "6", "7")),
        _either("Is the switch open or closed?", "open", "closed", is_first=is_open),
        _either("Can a current flow in this circuit?", "yes", "no", is_first=not is_open),
        Fact(question="Which part gives the energy?", answer="battery", wrong=("lamp", "switch", "wire")),
        Fact(question="Which part is marked with a cross?", answer="lamp", wrong=("battery", "switch", "wire")),
    ]
    if lamps > 1:
        facts.append(_either("Are the lamps in series or in parallel?", "series", "parallel", is_first=is_series))
    return Drawing(image=image, facts=tuple(facts))


def _lamp(draw: ImageDraw.ImageDraw, middle: Point, colour: str) -> None:
    x, y = middle
    draw.ellipse((x - 14, y - 14, x + 14, y + 14), fill=COLOURS[colour], outline=INK, width=2)
    draw.line((x - 10, y - 10, x + 10, y + 10), fill=INK, width=2)
    draw.line((x - 10, y + 10, x + 10, y - 10), fill=INK, width=2)


def _battery(draw: ImageDraw.ImageDraw, middle: Point) -> None:
    x, y = middle
    draw.rectangle((x - 16, y - 6, x + 16, y + 6), fill="white")
    draw.line((x - 16, y - 6, x + 16, y - 6), fill=INK, width=2)
    draw.line((x - 8, y + 6, x + 8, y + 6), fill=INK, width=5)
    write(draw, (x - 24, y - 8), "+", size_px=14)


def _switch(draw: ImageDraw.ImageDraw, middle: Point, *, is_open: bool) -> None:
    x, y = middle
    draw.rectangle((x - 18, y - 4, x + 18, y + 4), fill="white")
    draw.line((x - 18, y, x + 16, y - 18 if is_open else y), fill=INK, width=3)
    for end in (x - 18, x + 18):
        draw.ellipse((end - 4, y - 4, end + 4, y + 4), fill=INK)


def cell(rng: Random) -> Drawing:
    """A plant or animal cell whose parts are marked with letters."""
    image, draw = canvas(rng, rng.randint(220, 280), rng.randint(160, 200))
    is_plant = rng.random() < 0.5
    box = (20, 20, image.width - 20, image.height - 20)
    if is_plant:
        draw.rectangle(box, fill="#d8f0c8", outline=COLOURS["green"], width=6)
    else:
        draw.ellipse(box, fill="#fbe3dc", outline=COLOURS["red"], width=3)
    letters = rng.sample("ABC", 3)
    number = rng.randint(1, 4)
    nucleus = (image.width * 0.36, image.height * 0.45)
    draw.ellipse((nucleus[0] - 26, nucleus[1] - 26, nucleus[0] + 26, nucleus[1] + 26), fill="#b79bd6", outline=INK)
    write(draw, nucleus, letters[0], size_px=17)
    for step in range(number):
        x, y = image.width * 0.62, image.height * (0.3 + 0.13 * step)
        draw.ellipse((x - 20, y - 8, x + 20, y + 8), fill=COLOURS["orange"], outline=INK)
    write(draw, (image.width * 0.62, image.height * 0.3), letters[1], size_px=14)
    write(draw, (image.width * 0.5, 10), letters[2], size_px=14)
    outside = "wall" if is_plant else "membrane"
    facts = (
        Fact(question="Which letter marks the nucleus?", answer=letters[0], wrong=(letters[1], letters[2])),
        Fact(question="Which letter marks a mitochondrion?", answer=letters[1], wrong=(letters[0], letters[2])),
        Fact(question=f"Which letter stands next to the cell {outside}?", answer=letters[2], wrong=tuple(letters[:2])),
        _either("Is this a plant cell or an animal cell?", "plant", "animal", is_first=is_plant),
        Fact(question="How many orange mitochondria are drawn?", answer=str(number), wrong=("5", "6", "7")),
    )
    return Drawing(image=image, facts=facts)
