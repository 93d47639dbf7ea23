"""Charts: bars, lines and pies with labels, and the questions that they answer."""

from random import Random

from PIL import Image, ImageDraw

from flows.demo.pictures import COLOUR_NAMES, COLOURS, INK, Drawing, Fact, canvas, write

LABELS = ("apples", "pears", "plums", "tea", "milk", "bread", "cars", "bikes", "cats", "dogs", "books", "pens")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul")
TOP_VALUE = 9


def chart(rng: Random) -> Drawing:
    """A bar, line or pie chart."""
    return rng.choice((bar_chart, bar_chart, line_chart, pie_chart))(rng)


def bar_chart(rng: Random) -> Drawing:
    """Bars of different heights and colours over their labels."""
    image, draw = canvas(rng, rng.randint(200, 300), rng.randint(150, 220))
    labels = rng.sample(LABELS, rng.randint(3, 5))
    values = rng.sample(range(1, TOP_VALUE + 1), len(labels))
    colours = rng.sample(COLOUR_NAMES, len(labels))
    left, top, width, bottom = _axes(draw, image)
    slot = width / len(labels)
    for number, (label, value, colour) in enumerate(zip(labels, values, colours, strict=True)):
        middle = left + slot * (number + 0.5)
        height = (bottom - top) * value / TOP_VALUE
        draw.rectangle((middle - slot * 0.3, bottom - height, middle + slot * 0.3, bottom), fill=COLOURS[colour])
        write(draw, (middle, bottom + 10), label, size_px=11)
    ranked = [label for _, label in sorted(zip(values, labels, strict=True))]
    facts = [
        Fact(question="Which bar is the tallest?", answer=ranked[-1], wrong=tuple(ranked[:-1])),
        Fact(question="Which bar is the shortest?", answer=ranked[0], wrong=tuple(ranked[1:])),
        Fact(question="How many bars are in the chart?", answer=str(len(labels))),
        Fact(question="What is the sum of the tallest and the shortest bar?", answer=str(max(values) + min(values))),
    ]
    for label, value, colour in zip(labels, values, colours, strict=True):
        facts.append(Fact(question=f"What is the value of {label}?", answer=str(value)))
        facts.append(Fact(question=f"What colour is the bar of {label}?", answer=colour))
        facts.append(Fact(question=f"Is the value of {label} larger than 5?", answer="yes" if value > 5 else "no"))
    return Drawing(image=image, facts=tuple(facts), text=f"a bar chart of {', '.join(labels)}")


def _axes(draw: ImageDraw.ImageDraw, image: Image.Image) -> tuple[int, int, int, int]:
    """Numbered grid lines; gives the left and top edge, the width and the bottom edge of the plot in px."""
    left, top, right, bottom = 26, 14, image.width - 8, image.height - 24
    for value in range(TOP_VALUE + 1):
        level = bottom - (bottom - top) * value / TOP_VALUE
        draw.line((left, level, right, level), fill="#c8c8c8" if value else INK)
        write(draw, (left - 10, level), str(value), size_px=10)
    return left, top, right - left, bottom


def line_chart(rng: Random) -> Drawing:
    """One line over four to six months."""
    image, draw = canvas(rng, rng.randint(200, 300), rng.randint(150, 220))
    months = MONTHS[: rng.randint(4, 6)]
    values = rng.sample(range(1, TOP_VALUE + 1), len(months))
    colour = rng.choice(COLOUR_NAMES)
    left, top, width, bottom = _axes(draw, image)
    slot = width / len(months)
    points = [
        (left + slot * (number + 0.5), bottom - (bottom - top) * value / TOP_VALUE) for number, value in enumerate(values)
    ]
    draw.line(points, fill=COLOURS[colour], width=3)
    for (x, y), month in zip(points, months, strict=True):
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=COLOURS[colour])
        write(draw, (x, bottom + 10), month, size_px=11)
    facts = [
        Fact(question="In which month is the line highest?", answer=months[values.index(max(values))], wrong=months),
        Fact(question="In which month is the line lowest?", answer=months[values.index(min(values))], wrong=months),
        Fact(question="How many months does the chart show?", answer=str(len(months))),
        Fact(question="What colour is the line?", answer=colour),
    ]
    for first, second, before, after in zip(months, months[1:], values, values[1:], strict=False):
        answer = "rise" if after > before else "fall"
        facts.append(Fact(question=f"Does the line rise or fall from {first} to {second}?", answer=answer))
        facts.append(Fact(question=f"What is the value in {first}?", answer=str(before)))
    return Drawing(image=image, facts=tuple(facts), text=f"a {colour} line from {months[0]} to {months[-1]}")


def pie_chart(rng: Random) -> Drawing:
    """Slices in colours, with a legend; no two slices are close in size."""
    image, draw = canvas(rng, rng.randint(230, 300), rng.randint(150, 200))
    number = rng.randint(3, 4)
    labels = rng.sample(LABELS, number)
    colours = rng.sample(COLOUR_NAMES, number)
    shares = [(6, 3, 1), (5, 3, 2), (7, 2, 1)] if number == 3 else [(4, 3, 2, 1), (9, 6, 3, 2)]
    sizes = list(rng.choice(shares))
    rng.shuffle(sizes)
    side = image.height - 24
    start = float(rng.randint(0, 359))
    for row, (label, colour, size) in enumerate(zip(labels, colours, sizes, strict=True)):
        end = start + 360 * size / sum(sizes)
        draw.pieslice((12, 12, 12 + side, 12 + side), start, end, fill=COLOURS[colour], outline="white", width=2)
        start = end
        level = 24 + 22 * row
        draw.rectangle((side + 26, level - 6, side + 38, level + 6), fill=COLOURS[colour])
        write(draw, (side + 44, level), label, size_px=13, anchor="lm")
    ranked = [label for _, label in sorted(zip(sizes, labels, strict=True))]
    facts = [
        Fact(question="Which slice is the largest?", answer=ranked[-1], wrong=tuple(ranked[:-1])),
        Fact(question="Which slice is the smallest?", answer=ranked[0], wrong=tuple(ranked[1:])),
        Fact(question="How many slices does the pie have?", answer=str(number)),
    ]
    for label, colour in zip(labels, colours, strict=True):
        facts.append(Fact(question=f"What colour is the slice of {label}?", answer=colour))
        facts.append(Fact(question=f"Which label belongs to the {colour} slice?", answer=label))
    return Drawing(image=image, facts=tuple(facts), text=f"a pie chart of {', '.join(labels)}")
