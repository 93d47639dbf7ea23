"""Documents: receipts, lines of printed text, and tables with their HTML."""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

from flows.demo.pictures import INK, Drawing, Fact, canvas, write

GOODS = ("bread", "milk", "tea", "apples", "cheese", "rice", "soap", "eggs", "salt", "cake")
COUNTED = ("apples", "eggs", "cakes", "pens", "books", "balls", "cups", "coins", "stamps")
SHOPS = ("GREEN MARKET", "CORNER SHOP", "CITY BAKERY", "BOOK HOUSE", "FARM STORE")
WORDS = (
    "the", "red", "fox", "sees", "a", "small", "bird", "on", "old", "stone", "wall", "rain", "falls", "over", "quiet", "green",
    "fields", "and", "river", "runs", "under", "bridge", "seven", "ships", "sail", "north", "with", "cold", "wind", "home",
)  # fmt: skip
NAMES = ("Ann", "Ben", "Eva", "Tom", "Mia", "Leo", "Zoe", "Max")


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipt:
    """A drawn receipt: `lines` from top to bottom with the box of each, as (left, top, right, bottom) in px."""

    drawing: Drawing
    company: str
    date: str
    total: str
    lines: tuple[tuple[tuple[int, int, int, int], str], ...]


def receipt(rng: Random) -> Receipt:
    """A shop's receipt. Some lines hold commas, as real ones do."""
    company = rng.choice(SHOPS)
    date = f"{rng.randint(1, 28):02d}/{rng.randint(1, 12):02d}/2024"
    goods = [(name, rng.randint(1, 9)) for name in rng.sample(GOODS, rng.randint(2, 4))]
    total = f"{sum(price for _, price in goods)}.00"
    place = f"No. {rng.randint(1, 99)}, High Street"
    texts = [company, place, date, *(f"{name} {price}.00" for name, price in goods), f"TOTAL {total}"]
    image, draw = canvas(rng, 190, 34 + 22 * len(texts))
    lines = []
    for row, text in enumerate(texts):
        top = 14 + 22 * row
        write(draw, (16, top + 8), text, size_px=15, anchor="lm")
        lines.append(((16, top, 16 + 8 * len(text), top + 16), text))
    facts = (
        Fact(question="What is the total?", answer=total),
        Fact(question="What is the date on the receipt?", answer=date),
        Fact(question="Which shop is it from?", answer=company),
        Fact(question="How many goods were bought?", answer=str(len(goods))),
        *(Fact(question=f"What did the {name} cost?", answer=f"{price}.00") for name, price in goods),
    )
    drawing = Drawing(image=image, facts=facts)
    return Receipt(drawing=drawing, company=company, date=date, total=total, lines=tuple(lines))


def text_page(rng: Random) -> Drawing:
    """A mostly white page with one short line of text on it."""
    words = " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 5)))
    image = Image.new("L", (300, 120), 255)
    size_px = rng.choice((15, 17, 19))
    write(ImageDraw.Draw(image), (14, rng.randint(20, 100)), words, size_px=size_px, anchor="lm")
    return Drawing(image=image.convert("RGB"), text=words)


@dataclass(frozen=True, kw_only=True, slots=True)
class Table:
    """A drawn table with its rows, the header first."""

    drawing: Drawing
    rows: tuple[tuple[str, ...], ...]


def table(rng: Random) -> Table:
    """People down, goods across, small numbers inside."""
    goods, names = rng.sample(COUNTED, rng.randint(1, 2)), rng.sample(NAMES, rng.randint(2, 4))
    counts = [[rng.randint(0, 9) for _ in goods] for _ in names]
    header = ("name", *goods)
    rows = (header, *((name, *map(str, row)) for name, row in zip(names, counts, strict=True)))
    width, height = 76, 26
    image, draw = canvas(rng, 16 + width * len(header), 16 + height * len(rows))
    for row, cells in enumerate(rows):
        for column, text in enumerate(cells):
            left, top = 8 + width * column, 8 + height * row
            shade = "#cfdcea" if row == 0 else None
            draw.rectangle((left, top, left + width, top + height), outline=INK, fill=shade)
            write(draw, (left + width / 2, top + height / 2), text, size_px=14)
    facts = [Fact(question="How many people are in the table?", answer=str(len(names)))]
    for column, item in enumerate(goods):
        amounts = [row[column] for row in counts]
        facts.append(Fact(question=f"How many {item} are there in total?", answer=str(sum(amounts))))
        if amounts.count(max(amounts)) == 1:
            most = names[amounts.index(max(amounts))]
            facts.append(Fact(question=f"Who has the most {item}?", answer=most))
        for name, amount in zip(names, amounts, strict=True):
            facts.append(Fact(question=f"How many {item} does {name} have?", answer=str(amount)))
    return Table(drawing=Drawing(image=image, facts=tuple(facts)), rows=rows)


def html_tokens(rows: tuple[tuple[str, ...], ...]) -> dict[str, object]:
    """The table's HTML as PubTabNet publishes it: structure tokens, and the letters of each cell in order."""
    structure = ["<table>"]
    for row in rows:
        structure += ["<tr>", *(token for _ in row for token in ("<td>", "</td>")), "</tr>"]
    structure.append("</table>")
    cells = [{"tokens": list(text)} for row in rows for text in row]
    return {"structure": {"tokens": structure}, "cells": cells}


def html_text(rows: tuple[tuple[str, ...], ...]) -> str:
    """The same table as HTML text."""
    body = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>" for row in rows)
    return f"<table>{body}</table>"
