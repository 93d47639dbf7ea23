"""The sources of printed matter: receipts, lines of text, charts and tables (as questions, and as HTML).

`chart-quiz` and `table-sums` share a few tables, stored in different encodings.
"""

from collections.abc import Sequence

from curation.errors import RejectReason
from flows.demo.charts import chart
from flows.demo.documents import html_text, html_tokens, receipt, table, text_page
from flows.demo.pictures import Drawing, Fact, bomb, cut, gif, jpeg, palette_png, pick_fact, png, web_page, webp
from flows.demo.planted import NUMBER_PROMPT
from flows.demo.upstream import Upstream, json_array, json_lines, json_object, to_json, zip_file

TRANSCRIBE = "What is printed on this receipt, line by line?"
READ = "What does the page say?"
AS_HTML = "Write this table as HTML."


def receipts(up: Upstream) -> None:
    """Triples of img/, key/ and box/ files, one record a file; and a list of questions on the same pictures."""
    asked: list[tuple[str, Fact]] = []
    for number in range(36 * up.scale):
        drawn = receipt(up.rng)
        name = f"{number:03d}"
        record = {"company": drawn.company, "date": drawn.date, "total": drawn.total}
        picture = png(drawn.drawing.image) if number % 12 == 5 else jpeg(drawn.drawing.image)
        up.sample(record, [TRANSCRIBE, "\n".join(text for _, text in drawn.lines)], {f"{name}.jpg": picture})
        _write_sidecars(up, name, to_json(record), drawn.lines)
        if number % 2 == 0:
            asked.append((f"{name}.jpg", pick_fact(up.rng, drawn.drawing)))
    for number, reason in enumerate(
        (RejectReason.BAD_JSON, RejectReason.MISSING_FIELD, RejectReason.MISSING_IMAGE, RejectReason.TRUNCATED_IMAGE)
    ):
        _broken_receipt(up, f"9{number:02d}", reason)
    up.mixed()
    pictures = dict(up.pictures)
    up.pictures_in_folder("img")
    for picture_name, fact in asked:
        record = {"img": picture_name, "question": fact.question, "answer": fact.answer}
        up.sample(record, [fact.question, fact.answer], {picture_name: pictures[picture_name]})
    up.reject(RejectReason.EMPTY_ANSWER, {"img": "000.jpg", "question": "What is the total?", "answer": ""})
    up.reject(RejectReason.MISSING_FIELD, {"img": "001.jpg", "answer": "4.00"})
    up.files["questions.jsonl"] = json_lines(up.mixed())
    up.pictures = {}


Lines = Sequence[tuple[tuple[int, int, int, int], str]]


def _write_sidecars(up: Upstream, name: str, key: str, lines: Lines) -> None:
    rows = []
    for (left, top, right, bottom), text in lines:
        rows.append(f"{left},{top},{right},{top},{right},{bottom},{left},{bottom},{text}")
    up.files[f"key/{name}.json"] = key.encode()
    up.files[f"box/{name}.csv"] = ("\r\n".join(rows) + "\r\n").encode()


def _broken_receipt(up: Upstream, name: str, reason: RejectReason) -> None:
    drawn = receipt(up.rng)
    record = to_json({"company": drawn.company, "total": drawn.total})
    key = record[:-9] if reason is RejectReason.BAD_JSON else record
    _write_sidecars(up, name, key, drawn.lines)
    if reason is RejectReason.MISSING_FIELD:
        del up.files[f"box/{name}.csv"]
    picture = jpeg(drawn.drawing.image)
    pictures = {f"{name}.jpg": cut(picture) if reason is RejectReason.TRUNCATED_IMAGE else picture}
    up.reject(reason, key, {} if reason is RejectReason.MISSING_IMAGE else pictures)


def text_lines(up: Upstream) -> None:
    """A list of `line picture kind`, where `line` counts into a second file: nearly blank pages in palette mode."""
    lines: list[str] = []

    def add(page: Drawing, name: str, picture: bytes) -> None:
        up.sample(f"{len(lines)} {name} basic", [READ, page.text], {f"{name}.png": picture})
        lines.append(page.text)

    for number in range(64 * up.scale):
        page = up.new_drawing(text_page)
        add(page, f"{number:05d}a", palette_png(page.image))
    for number in range(2):
        page = up.new_drawing(text_page)
        add(page, f"{number:05d}b", palette_png(page.image))
        add(page, f"{number:05d}c", png(page.image, level=number))
    picture = palette_png(up.new_drawing(text_page).image)
    up.reject(RejectReason.EMPTY_ANSWER, f"{len(lines)} blank basic", {"blank.png": picture})
    lines.append("")
    up.reject(RejectReason.MISSING_IMAGE, "0 lost basic")
    up.reject(RejectReason.TRUNCATED_IMAGE, "1 half basic", {"half.png": cut(picture)})
    up.reject(RejectReason.UNSUPPORTED_VALUE, "2")
    up.reject(RejectReason.UNSUPPORTED_VALUE, f"{len(lines) + 7} blank basic")
    up.files["lines.lst"] = "\n".join(lines).encode()
    up.files["train.lst"] = ("\n".join(up.mixed()) + "\n").encode()
    up.pictures_in_folder("pages")


def chart_quiz(up: Upstream) -> None:
    """Questions on charts in one JSON array. Files called .png hold GIF and JPEG too."""
    for number in range(40 * up.scale):
        drawing = up.new_drawing(chart)
        facts = up.rng.sample(drawing.facts, 1 if number % 8 < 2 else 2)
        picture = {0: gif, 1: jpeg}.get(number % 8, png)(drawing.image)
        for fact in facts:
            _ask(up, f"{number:05d}.png", picture, fact)
    for number, encode in enumerate((palette_png, webp)):
        drawing = up.new_drawing(chart)
        fact = pick_fact(up.rng, drawing)
        _ask(up, f"first{number}.png", png(drawing.image), fact)
        again = Fact(question=f"{fact.question.upper()}\n{NUMBER_PROMPT}", answer=f" {fact.answer}")
        _ask(up, f"again{number}.{'webp' if encode is webp else 'png'}", encode(drawing.image), again)
    for number, (drawing, fact) in enumerate(_shared_tables(up)):
        _ask(
            up,
            f"table{number}.png",
            webp(drawing.image),
            Fact(question=f"{fact.question}\n{NUMBER_PROMPT}", answer=fact.answer),
        )
    _broken_quiz(up)
    up.files["train.json"] = json_array(up.mixed())
    up.pictures_in_folder("png")


def _ask(up: Upstream, name: str, picture: bytes, fact: Fact) -> None:
    label: object = int(fact.answer) if fact.answer.isdigit() and len(name) == 9 else fact.answer
    up.sample({"imgname": name, "query": fact.question, "label": label}, [fact.question, fact.answer], {name: picture})


def _broken_quiz(up: Upstream) -> None:
    drawing = up.new_drawing(chart)
    whole = {"whole.png": png(drawing.image)}
    question, good = "How many bars are in the chart?", "whole.png"
    up.reject(RejectReason.BAD_JSON, f'{{"imgname": "{good}", "query": "Why {{?" "label": "[none]"}}')
    up.reject(RejectReason.EMPTY_QUESTION, {"imgname": good, "query": "", "label": 3}, whole)
    up.reject(RejectReason.MISSING_FIELD, {"imgname": good, "query": question})
    up.reject(RejectReason.UNSUPPORTED_VALUE, {"imgname": good, "query": question, "label": {"value": 3}})
    up.reject(RejectReason.MISSING_IMAGE, {"imgname": None, "query": question, "label": 3})
    up.reject(RejectReason.MISSING_IMAGE, {"imgname": "gone.png", "query": question, "label": 4})
    up.reject(RejectReason.PATH_ESCAPES, {"imgname": "../../../../etc/passwd", "query": question, "label": 5})
    files = {
        "page.png": (web_page(), RejectReason.UNREADABLE_IMAGE),
        "half.png": (cut(whole[good]), RejectReason.TRUNCATED_IMAGE),
        "huge.png": (bomb(30_000, 30_000), RejectReason.IMAGE_TOO_LARGE),
    }
    for name, (data, reason) in files.items():
        up.reject(reason, {"imgname": name, "query": question, "label": 5}, {name: data})


def _shared_tables(up: Upstream) -> list[tuple[Drawing, Fact]]:
    rng = up.shared_rng("tables")
    drawings = [table(rng).drawing for _ in range(3)]
    return [(drawing, pick_fact(rng, drawing)) for drawing in drawings]


def table_sums(up: Upstream) -> None:
    """Problems in one JSON object by id; the picture's name follows from the id and stands nowhere."""
    key = 100

    def add(drawing: Drawing, fact: Fact, *, level: int = 6) -> None:
        nonlocal key
        key += up.rng.randint(1, 9)
        problem = {"question": fact.question, "choices": None, "answer": fact.answer, "grade": up.rng.randint(1, 6)}
        up.sample((str(key), problem), [fact.question, fact.answer], {f"{key}.png": png(drawing.image, level=level)})

    for _ in range(52 * up.scale):
        drawing = up.new_drawing(lambda rng: table(rng).drawing)
        add(drawing, pick_fact(up.rng, drawing))
    for drawing, fact in _shared_tables(up):
        add(drawing, fact)
    drawing = up.new_drawing(lambda rng: table(rng).drawing)
    for level in (1, 9):
        add(drawing, drawing.facts[0], level=level)
    problem = {"question": "How many people are in the table?", "answer": "3"}
    picture = png(drawing.image)
    up.reject(RejectReason.MISSING_IMAGE, ("7", problem))
    up.reject(RejectReason.TRUNCATED_IMAGE, ("8", problem), {"8.png": cut(picture)})
    up.reject(RejectReason.EMPTY_QUESTION, ("9", {**problem, "question": " "}), {"9.png": picture})
    up.reject(RejectReason.MISSING_FIELD, ("10", {**problem, "answer": None}), {"10.png": picture})
    up.reject(RejectReason.BAD_JSON, ("11", '{"question": "Who?", "answer": Ann}'), {"11.png": picture})
    up.files["problems.json"] = json_object(up.mixed())
    up.pictures_in_folder("tables")


def table_code(up: Upstream) -> None:
    """Tables and their HTML, spelt out token by token, one JSON object a line; the pictures are in a zip."""
    for number in range(42 * up.scale):
        drawn = table(up.rng)
        name = f"{number:04d}.png"
        picture = (jpeg if number % 14 == 3 else png)(drawn.drawing.image)
        record = {"filename": name, "split": "train", "imgid": number, "html": html_tokens(drawn.rows)}
        up.sample(record, [AS_HTML, html_text(drawn.rows)], {f"images/{name}": picture})
    drawn = table(up.rng)
    picture, html = png(drawn.drawing.image), html_tokens(drawn.rows)
    up.reject(RejectReason.MISSING_IMAGE, {"filename": "gone.png", "html": html})
    up.reject(RejectReason.TRUNCATED_IMAGE, {"filename": "half.png", "html": html}, {"images/half.png": cut(picture)})
    up.reject(RejectReason.MISSING_FIELD, {"filename": "bare.png"}, {"images/bare.png": picture})
    up.reject(RejectReason.UNSUPPORTED_VALUE, {"filename": "bare.png", "html": {"cells": []}})
    up.files["annotations.jsonl"] = json_lines(up.mixed())
    up.files["images.zip"] = zip_file(up.pictures)
    up.pictures = {}
