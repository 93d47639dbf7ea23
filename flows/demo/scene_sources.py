"""The sources of scenes: conversations on pictures, yes-no relations, albums, and captions in WebDataset tars.

`scenes` and `relations` share a few pictures with the same question, in other encodings.
"""

import json
from random import Random

from curation.errors import RejectReason
from flows.demo.pictures import Drawing, Fact, cut, gif, jpeg, png, web_page, webp
from flows.demo.scenes import THINGS, scene
from flows.demo.upstream import Upstream, json_array, json_lines, tar_file, to_json

FOLDER = "day & night/set 1"
PLACES = ("first", "second", "third", "fourth")
ALT_QUESTION = "What does the picture show?"
TAR_SAMPLES = 32


def scenes(up: Upstream) -> None:
    """LLaVA conversations in one JSON array, a few of them without a picture; and talks that lack the marker."""
    for number in range(52 * up.scale):
        drawing = up.new_drawing(scene)
        name, picture = _encoded(number, drawing)
        _talk(up, name, picture, up.rng.sample(drawing.facts, up.rng.randint(1, 3)), is_last=number % 7 == 0)
    for number, (drawing, fact) in enumerate(_shared_scenes(up)):
        _talk(up, f"{FOLDER}/twin{number}.png", png(drawing.image), [fact])
    absences: tuple[dict[str, object], ...] = ({}, {"image": None}, {"image": ""})
    for number, absent in enumerate(absences):
        turns = [f"How many legs do {number + 2} cats have?", str(4 * (number + 2))]
        up.sample({"id": number, **absent, "conversations": _turns(turns)}, turns)
    _broken_scenes(up)
    up.files["scenes.json"] = json_array(up.mixed())
    for number in range(14 * up.scale):
        drawing = up.new_drawing(scene)
        facts = up.rng.sample(drawing.facts, 2)
        turns = [text for fact in facts for text in (fact.question, fact.answer)]
        name = f"talks/{number}.webp"
        up.sample({"id": number, "image": name, "conversations": _turns(turns)}, turns, {name: webp(drawing.image)})
    up.files["talks.jsonl"] = json_lines(up.mixed())
    up.pictures_in_folder("photos")


def _encoded(number: int, drawing: Drawing) -> tuple[str, bytes]:
    """JPEG for most, PNG for some; two in thirteen files called .jpg are WebP or PNG."""
    if number % 13 in (4, 9):
        return f"{FOLDER}/{number:04d}.jpg", (webp if number % 13 == 4 else png)(drawing.image)
    is_png = number % 4 == 0
    return f"{FOLDER}/{number:04d}.{'png' if is_png else 'jpg'}", (png if is_png else jpeg)(drawing.image)


def _turns(texts: list[str]) -> list[dict[str, str]]:
    return [{"from": "gpt" if place % 2 else "human", "value": text} for place, text in enumerate(texts)]


def _talk(up: Upstream, name: str, picture: bytes, facts: list[Fact], *, is_last: bool = False) -> None:
    texts = [text for fact in facts for text in (fact.question, fact.answer)]
    marked = [f"{texts[0]}\n<image>" if is_last else f"<image>\n{texts[0]}", *texts[1:]]
    up.sample({"id": len(facts), "image": name, "conversations": _turns(marked)}, texts, {name: picture})


def _broken_scenes(up: Upstream) -> None:
    good, data = next((name, data) for name, data in up.pictures.items() if name.endswith(".jpg"))
    record = {"id": 1, "image": good, "conversations": _turns(["<image>\nIs it day or night?", "day"])}
    up.reject(RejectReason.MARKER_MISMATCH, {**record, "conversations": _turns(["<image>\n<image>\nIs it day?", "yes"])})
    up.reject(RejectReason.MARKER_MISMATCH, {**record, "image": None})
    up.reject(RejectReason.MISSING_IMAGE, {**record, "image": good.replace("set 1", "set1")})
    up.reject(RejectReason.PATH_ESCAPES, {**record, "image": "/etc/hostname"})
    up.reject(RejectReason.EMPTY_ANSWER, {**record, "conversations": _turns(["<image>\nIs it late?"])})
    up.reject(RejectReason.MISSING_FIELD, {"id": 1, "image": good})
    called = [{"from": "human", "value": "<image>\nWhat is this?"}, {"from": "function_call", "value": "look()"}]
    up.reject(RejectReason.UNSUPPORTED_VALUE, {**record, "conversations": called})
    up.reject(RejectReason.BAD_JSON, '{"id": 1, "image": "a.jpg", "conversations": ["from": "human"]}')
    up.reject(RejectReason.TRUNCATED_IMAGE, {**record, "image": "half.jpg"}, {"half.jpg": cut(data)})
    up.reject(RejectReason.UNREADABLE_IMAGE, {**record, "image": "page.jpg"}, {"page.jpg": web_page()})


def _left_facts(drawing: Drawing) -> list[Fact]:
    return [fact for fact in drawing.facts if "to the left of" in fact.question]


def _shared_scenes(up: Upstream) -> list[tuple[Drawing, Fact]]:
    rng = up.shared_rng("scenes")
    drawings = [scene(rng) for _ in range(4)]
    return [(drawing, rng.choice(_left_facts(drawing))) for drawing in drawings]


def relations(up: Upstream) -> None:
    """Yes-no questions with the labels 0 and 1, one a line; a tenth of the pictures was never published."""
    for number in range(48 * up.scale):
        drawing = up.new_drawing(scene)
        picture = gif(drawing.image) if number % 10 == 3 else jpeg(drawing.image)
        _relate(up, f"{number:012d}.{'gif' if number % 10 == 3 else 'jpg'}", picture, up.rng.choice(_left_facts(drawing)))
    for number, (drawing, fact) in enumerate(_shared_scenes(up)):
        is_webp = number % 2 == 0
        picture = webp(drawing.image) if is_webp else png(drawing.image, level=9)
        _relate(
            up,
            f"{number:012d}.{'webp' if is_webp else 'png'}",
            picture,
            Fact(question=fact.question.upper(), answer=fact.answer),
        )
    for number in range(5):
        up.reject(RejectReason.MISSING_IMAGE, _relation(f"9{number:011d}.jpg", "Is the car to the left of the tree?", 1))
    name = f"{0:012d}.jpg"
    up.reject(RejectReason.UNSUPPORTED_VALUE, _relation(name, "Is the car to the left of the boat?", 2))
    up.reject(RejectReason.MISSING_FIELD, _relation(name, "Is the car to the left of the flag?", None))
    up.reject(RejectReason.EMPTY_QUESTION, _relation(name, "", 0))
    up.reject(RejectReason.PATH_ESCAPES, _relation("../../../etc/passwd", "Is the root to the left of the shell?", 0))
    up.reject(RejectReason.BAD_JSON, to_json(_relation(name, "Is the sun to the left of the moon?", 0))[:70])
    up.files["train.jsonl"] = json_lines(up.mixed())
    up.pictures_in_folder("images")


def _relation(name: str, question: str, label: object) -> dict[str, object]:
    link = f"http://images.example.org/{name}"
    return {
        "image": name,
        "image_link": link,
        "question": question,
        "label": label,
        "annotator": "['7', '12']",
        "score": float("nan"),
    }


def _relate(up: Upstream, name: str, picture: bytes, fact: Fact) -> None:
    label = 1 if fact.answer == "yes" else 0
    up.sample(_relation(name, fact.question, label), [fact.question, fact.answer], {name: picture})


def albums(up: Upstream) -> None:
    """ShareGPT records with two to four pictures each, which lie in a tar that is cut short; the marker is the publisher's."""
    for number in range(34 * up.scale):
        drawings = [up.new_drawing(scene) for _ in range(up.rng.randint(2, 4))]
        named = {f"album{number:03d}/{place}.jpg": jpeg(drawing.image) for place, drawing in enumerate(drawings)}
        turns = [text for fact in _album_facts(up.rng, drawings) for text in (fact.question, fact.answer)]
        marked = ["<img>" * len(named) + "\n" + turns[0], *turns[1:]]
        up.sample(_album(f"album_{number}", list(named), marked), turns, named)
    names = list(up.pictures)[:5]
    question = "How many pictures are there?"
    up.reject(RejectReason.TOO_MANY_IMAGES, _album("album_900", names, ["<img>" * 5 + question, "5"]))
    up.reject(RejectReason.MARKER_MISMATCH, _album("album_901", names[:2], ["<img>" * 3 + question, "2"]))
    lost = "album902/1.jpg"
    up.reject(RejectReason.ARCHIVE_DAMAGED, _album("album_902", [names[0], lost], ["<img>" * 2 + question, "2"]))
    up.reject(RejectReason.MISSING_FIELD, {"id": "album_903", "images": names[:2], "source": "scenes"})
    up.reject(RejectReason.EMPTY_ANSWER, _album("album_904", names[:2], ["<img>" * 2 + question, ""]))
    up.files["albums.json"] = json_array(up.mixed())
    archive = tar_file({**up.pictures, lost: up.pictures[names[0]]})
    up.files["pictures.tar"] = archive[: archive.rindex(lost.encode()) + 1_000]  # its header is there, and a little of it
    up.pictures = {}


def _album(name: str, pictures: list[str], texts: list[str]) -> dict[str, object]:
    said = [{"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(texts)]
    return {"id": name, "images": pictures, "conversation": said, "source": "scenes"}


def _album_facts(rng: Random, drawings: list[Drawing]) -> list[Fact]:
    texts = [drawing.text for drawing in drawings]
    thing = rng.choice(THINGS)
    showing = sum(f" {thing}" in text for text in texts)
    nights = sum(text.endswith("at night") for text in texts)
    place = rng.randrange(len(drawings))
    is_night = "night" if texts[place].endswith("at night") else "day"
    facts = [
        Fact(question=f"How many of the pictures show a {thing}?", answer=str(showing)),
        Fact(question="How many of the pictures show the night?", answer=str(nights)),
        Fact(question="How many pictures are there?", answer=str(len(drawings))),
        Fact(question=f"Is it day or night in the {PLACES[place]} picture?", answer=is_night),
    ]
    return rng.sample(facts, rng.randint(1, 3))


def alt_texts(up: Upstream) -> None:
    """Pictures with a caption in WebDataset tars: NNN.jpg, NNN.json and NNN.txt."""
    for number in range(52 * up.scale):
        drawing = up.new_drawing(scene)
        picture = png(drawing.image) if number % 17 == 6 else jpeg(drawing.image)
        _caption(up, picture, drawing.text)
        if number == 0:
            _caption(up, picture, drawing.text.upper())
    last = jpeg(drawing.image)
    up.reject(RejectReason.MISSING_IMAGE, _members(None, drawing.text))
    up.reject(RejectReason.EMPTY_ANSWER, _members(last, " \n"))
    up.reject(RejectReason.TRUNCATED_IMAGE, _members(cut(last), drawing.text))
    up.reject(RejectReason.UNREADABLE_IMAGE, _members(web_page(), drawing.text))
    up.reject(RejectReason.BAD_JSON, {**_members(last, drawing.text), "json": b'{"status": "success", "width"'})
    records = up.mixed()
    for first in range(0, len(records), TAR_SAMPLES):
        named = enumerate(records[first : first + TAR_SAMPLES], start=first)
        files = {f"{number:09d}.{kind}": data for number, record in named for kind, data in record.items()}
        up.files[f"{first // TAR_SAMPLES:05d}.tar"] = tar_file(files)
    up.pictures = {}


def _caption(up: Upstream, picture: bytes, text: str) -> None:
    up.sample(_members(picture, text), [ALT_QUESTION, text], {f"{len(up.pictures)}.jpg": picture})


def _members(picture: bytes | None, text: str) -> dict[str, bytes]:
    facts = {"url": "http://images.example.org/x.jpg", "status": "success", "exif": "{}"}
    image = {} if picture is None else {"jpg": picture}
    return {**image, "json": json.dumps(facts).encode(), "txt": text.encode()}
