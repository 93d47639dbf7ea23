"""The sources of figures: polygons, circuits, cells, shapes to count, and claims about boxes of shapes."""

import io
from collections.abc import Mapping
from random import Random

import pyarrow as pa
import pyarrow.parquet as pq

from curation.errors import RejectReason
from flows.demo.figures import cell, circuit, geometry, shapes
from flows.demo.pictures import Drawing, Fact, bomb, cut, jpeg, pick_fact, png, web_page, webp
from flows.demo.upstream import Upstream, json_array, json_lines, to_json

LETTERS = "ABCD"
ROWS_PER_GROUP = 24
MORE = "Which picture shows more shapes, the first or the second?"


def _options(rng: Random, fact: Fact) -> tuple[list[str], int]:
    """The right answer among up to three wrong ones, and its place."""
    texts = [fact.answer, *rng.sample(fact.wrong, min(3, len(fact.wrong)))]
    rng.shuffle(texts)
    return texts, texts.index(fact.answer)


def _listed(question: str, options: list[str]) -> str:
    return "\n".join([question, *(f"{letter}. {text}" for letter, text in zip(LETTERS, options, strict=False))])


def polygons(up: Upstream) -> None:
    """Geometry with the options in a list and the right one as text."""
    for number in range(52 * up.scale):
        drawing = up.new_drawing(geometry)
        fact = pick_fact(up.rng, drawing)
        options, place = _options(up.rng, fact)
        name = f"{number}.png"
        record = {
            "pid": number % 20,
            "image": name,
            "question": fact.question,
            "choices": options,
            "answer": fact.answer,
        }
        up.sample(record, [_listed(fact.question, options), LETTERS[place]], {name: png(drawing.image)})
    record = {"pid": 1, "image": "0.png", "question": "How many sides are there?", "choices": ["3", "4"], "answer": "4"}
    up.reject(RejectReason.UNSUPPORTED_VALUE, {**record, "answer": "twelve"})
    up.reject(RejectReason.UNSUPPORTED_VALUE, {**record, "choices": ["4"]})
    up.reject(RejectReason.MISSING_FIELD, {**record, "question": None})
    up.reject(RejectReason.MISSING_IMAGE, {**record, "image": "images/0.PNG"})
    up.reject(RejectReason.TRUNCATED_IMAGE, {**record, "image": "half.png"}, {"half.png": cut(up.pictures["0.png"])})
    up.files["train.json"] = json_array(up.mixed())
    up.pictures_in_folder("images")


def circuits(up: Upstream) -> None:
    """Three files, three ways to write options: letters to texts, a field for each, and a list with a position."""
    for unit in (1, 2, 3):
        for number in range(17 * up.scale):
            drawing = up.new_drawing(circuit)
            fact = pick_fact(up.rng, drawing)
            options, place = _options(up.rng, fact)
            name = f"u{unit}-{number:03d}.jpg"
            answer = options[place] if unit == 3 else LETTERS[place]
            turns = [_listed(fact.question, options), answer]
            up.sample(
                {"diagram": name, "question": fact.question, **_choice(unit, options, place)},
                turns,
                {name: jpeg(drawing.image)},
            )
        _broken_circuit(up, unit)
        up.files[f"unit-{unit}.json"] = (json_lines if unit == 3 else json_array)(up.mixed())
    up.pictures_in_folder("diagrams")


def _choice(unit: int, options: list[str], place: int) -> dict[str, object]:
    if unit == 1:
        return {"options": dict(zip(LETTERS, options, strict=False)), "answer": LETTERS[place]}
    if unit == 2:
        fields = {f"choice_{letter.lower()}": text for letter, text in zip(LETTERS, options, strict=False)}
        return {**fields, "answer": f"({LETTERS[place]})"}
    return {"choices": options, "correct": place}


def _broken_circuit(up: Upstream, unit: int) -> None:
    question = "Is the switch open or closed?"
    record = {"diagram": f"u{unit}-000.jpg", "question": question, **_choice(unit, ["open", "closed"], 1)}
    picture = up.pictures[f"u{unit}-000.jpg"]
    if unit == 1:
        up.reject(RejectReason.UNSUPPORTED_VALUE, {**record, "answer": "F"})
        up.reject(RejectReason.TRUNCATED_IMAGE, {**record, "diagram": "half.jpg"}, {"half.jpg": cut(picture)})
    elif unit == 2:
        up.reject(RejectReason.EMPTY_QUESTION, {**record, "question": "\t"})
        up.reject(RejectReason.IMAGE_TOO_LARGE, {**record, "diagram": "poster.jpg"}, {"poster.jpg": bomb(12_000, 11_000)})
    else:
        up.reject(RejectReason.UNSUPPORTED_VALUE, {**record, "correct": 9})
        up.reject(RejectReason.BAD_JSON, to_json(record)[:-4])


def cell_plates(up: Upstream) -> None:
    """A folder a record, with data.json, solution.json and plate.png; options, if any, stand in the question."""
    for number in range(36 * up.scale):
        drawing = cell(up.rng)
        for letter, fact in zip("ab", up.rng.sample(drawing.facts, 2 if number % 9 == 0 else 1), strict=False):
            question, answer = _with_options(up.rng, fact)
            picture = (jpeg if number % 12 == 7 else png)(drawing.image)
            folder = f"{number}{letter}"
            up.sample({}, [question, answer], {f"{folder}/plate.png": picture})
            _write_plate(up, folder, {"problem_text": question, "source": "plates"}, {"answer": answer})
    plate = png(cell(up.rng).image)
    data, solution = {"problem_text": "Which letter marks the nucleus?"}, {"answer": "A"}
    for number, reason in enumerate(
        (RejectReason.MISSING_FIELD, RejectReason.MISSING_IMAGE, RejectReason.EMPTY_ANSWER, RejectReason.BAD_JSON),
        start=900,
    ):
        folder = str(number)
        _write_plate(up, folder, data, {"answer": " "} if reason is RejectReason.EMPTY_ANSWER else solution)
        up.reject(reason, data, {} if reason is RejectReason.MISSING_IMAGE else {f"{folder}/plate.png": plate})
    del up.files["900/solution.json"]
    up.files["903/data.json"] = up.files["903/data.json"][:-5]
    up.pictures_in_folder()


def _with_options(rng: Random, fact: Fact) -> tuple[str, str]:
    if len(fact.answer) == 1 and fact.answer.isalpha():
        return fact.question, fact.answer
    options, place = _options(rng, fact)
    listed = (f"({letter}) {text}" for letter, text in zip(LETTERS, options, strict=False))
    return " ".join([fact.question, *listed]), LETTERS[place]


def _write_plate(up: Upstream, folder: str, data: object, solution: object) -> None:
    up.files[f"{folder}/data.json"] = to_json(data).encode()
    up.files[f"{folder}/solution.json"] = to_json(solution).encode()


def shape_counts(up: Upstream) -> None:
    """Parquet: one picture a row as a struct of bytes and path in two files, pairs of pictures as lists in a third."""
    for number in range(64 * up.scale):
        drawing = up.new_drawing(shapes)
        _count_row(up, png(drawing.image) if number % 2 else jpeg(drawing.image), pick_fact(up.rng, drawing))
    for level in (0, 9):
        drawing = up.new_drawing(shapes)
        for picture in (png(drawing.image), png(drawing.image, level=level)):
            _count_row(up, picture, drawing.facts[0])
    for number, examined in enumerate(_exam_shapes(up)[:3]):
        picture = (png, jpeg, webp)[number](examined.image)
        fact = pick_fact(up.rng, examined)
        row = {"image": {"bytes": picture, "path": None}, "question": fact.question, "answer": fact.answer}
        up.sample_from_exam(row, [fact.question, fact.answer], {"": picture})
    whole = png(drawing.image)
    broken = (
        (None, RejectReason.MISSING_IMAGE),
        (cut(whole), RejectReason.TRUNCATED_IMAGE),
        (web_page(), RejectReason.UNREADABLE_IMAGE),
    )
    for data, reason in broken:
        image = None if data is None else {"bytes": data, "path": None}
        up.reject(reason, {"image": image, "question": "How many stars are there?", "answer": "2"})
    up.reject(RejectReason.MISSING_FIELD, {"image": {"bytes": whole, "path": None}, "question": None, "answer": "2"})
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([("image", image_type), ("question", pa.string()), ("answer", pa.string())])
    rows = up.mixed()
    half = len(rows) // 2
    up.files["train-00000-of-00002.parquet"] = _parquet(rows[:half], schema)
    up.files["train-00001-of-00002.parquet"] = _parquet(rows[half:], schema)
    _pairs(up)
    up.pictures = {}


def _count_row(up: Upstream, picture: bytes, fact: Fact) -> None:
    image = {"bytes": picture, "path": None}
    up.sample({"image": image, "question": fact.question, "answer": fact.answer}, [fact.question, fact.answer], {"": picture})


def shape_exam(up: Upstream) -> None:
    """A benchmark of pictures; three of them are in `shape-counts` too, each encoded in another way."""
    for number, drawing in enumerate(_exam_shapes(up)):
        fact, name = pick_fact(up.rng, drawing), f"{number}.png"
        record = {"picture": name, "question": fact.question, "answer": fact.answer}
        up.sample(record, [fact.question, fact.answer], {name: png(drawing.image)})
    up.files["test.json"] = json_array(up.mixed())
    up.pictures_in_folder("pictures")


def _exam_shapes(up: Upstream) -> list[Drawing]:
    rng = up.shared_rng("shape-exam")
    return [shapes(rng) for _ in range(12)]


def _pairs(up: Upstream) -> None:
    for _ in range(14 * up.scale):
        first, second = up.new_drawing(shapes), up.new_drawing(shapes)
        while first.text == second.text:
            second = up.new_drawing(shapes)
        answer = "first" if int(first.text) > int(second.text) else "second"
        pictures = [png(first.image), png(second.image)]
        up.sample({"images": pictures, "answer": answer}, [MORE, answer], {"0": pictures[0], "1": pictures[1]})
    up.reject(RejectReason.MISSING_IMAGE, {"images": [], "answer": "first"})
    up.reject(RejectReason.TOO_MANY_IMAGES, {"images": [pictures[0]] * 5, "answer": "second"})
    schema = pa.schema([("images", pa.list_(pa.binary())), ("answer", pa.string())])
    up.files["pairs.parquet"] = _parquet(up.mixed(), schema)


def _parquet(rows: list[dict[str, object]], schema: pa.Schema) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), buffer, row_group_size=ROWS_PER_GROUP)
    return buffer.getvalue()


def box_claims(up: Upstream) -> None:
    """Claims about three boxes: JSON lines in a file called .json, the pictures' paths built from two fields and a number."""
    for number in range(38 * up.scale):
        boxes = [up.new_drawing(lambda rng: shapes(rng, most=6)) for _ in range(3)]
        claim, label = _claim(up.rng, [int(box.text) for box in boxes])
        record = {
            "identifier": f"{number}-0",
            "directory": str(number % 3),
            "sentence": claim,
            "label": label,
            "evals": {"r0": label},
        }
        _add_claim(up, record, [png(box.image) for box in boxes])
    record = {
        "identifier": "900-1",
        "directory": "2",
        "sentence": "There are exactly 2 shapes in all.",
        "label": "false",
    }
    _add_claim(up, record, [png(box.image) for box in boxes])
    _add_claim(up, {**record, "identifier": "900-2"}, [png(box.image, level=1) for box in boxes])
    last = {f"images/2/901-1-{place}.png": png(boxes[place].image) for place in (0, 2)}
    up.reject(RejectReason.MISSING_IMAGE, {**record, "identifier": "901-1"}, last)
    up.reject(RejectReason.UNSUPPORTED_VALUE, {**record, "label": "unsure"})
    up.reject(RejectReason.MISSING_FIELD, {"identifier": "900-1", "directory": "2", "sentence": "There is one box."})
    up.reject(RejectReason.BAD_JSON, to_json(record)[:-10])
    up.files["train.json"] = json_lines(up.mixed())
    up.pictures_in_folder()


def _add_claim(up: Upstream, record: Mapping[str, object], pictures: list[bytes]) -> None:
    prefix = f"images/{record['directory']}/{record['identifier']}"
    named = {f"{prefix}-{place}.png": picture for place, picture in enumerate(pictures)}
    answer = "yes" if record["label"] == "true" else "no"
    up.sample(record, [f"Is this true of the three boxes? {record['sentence']}", answer], named)


def _claim(rng: Random, counts: list[int]) -> tuple[str, str]:
    place = rng.randrange(3)
    guess = counts[place] + rng.choice((0, 0, 1))
    total = sum(counts) + rng.choice((0, 0, 2))
    claims = (
        (f"The {('first', 'second', 'third')[place]} box holds exactly {guess} shapes.", guess == counts[place]),
        (f"There are exactly {total} shapes in all.", total == sum(counts)),
        ("The first box holds more shapes than the last.", counts[0] > counts[2]),
        ("All boxes hold the same number of shapes.", len(set(counts)) == 1),
    )
    claim, is_true = rng.choice(claims)
    return claim, "true" if is_true else "false"
