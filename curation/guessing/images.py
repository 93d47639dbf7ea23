"""Where the pictures of some records are: found by looking for the files that records name, or that are named after them."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from pathlib import PurePosixPath
from typing import Any

from curation.catalog.template import Record, Template, Unusable
from curation.guessing.columns import Column
from curation.guessing.listing import is_picture
from curation.guessing.words import IMAGE
from curation.sources.records import Member

Suggestion = dict[str, Any]
_MOST = 0.5
"""Share of the records whose picture must be found, for a place to be believed."""
_MAX_NAMED_AFTER = 400
_NEARLY = 0.15
"""The share of records by which a template may do worse and still win by finding more pictures of each."""
_MARKER = re.compile(r"<[^<>\s]*im(?:age|g)[^<>\s]*>", re.IGNORECASE)
_NO_NAME = ("", "none", "nan", "null")


def marker_in(texts: Iterable[str]) -> str | None:
    """The sign for a picture in `texts`, when publishers write another than `<image>`."""
    found = Counter(match for text in texts for match in _MARKER.findall(text))
    return found.most_common(1)[0][0] if found and "<image>" not in found else None


def member_images(records: Sequence[Record]) -> Suggestion | None:
    """Pictures that are members of a WebDataset tar, by their extensions."""
    extensions: Counter[str] = Counter()
    for record in records:
        members: Sequence[Member] = record.get("_members", ())
        extensions.update(member.name for member in members if is_picture(f"x.{member.name}"))
    return {"members": sorted(extensions)} if extensions else None


def byte_columns(schema: Mapping[str, bool]) -> list[str]:
    """Columns of pictures' bytes, usual names first; `schema` says of each column whether it may hold bytes."""
    names = [name for name, has_bytes in schema.items() if has_bytes]
    return sorted(names, key=lambda name: (not any(word in name.lower() for word in ("image", "img", "picture")), name))


def named_images(columns: Sequence[Column]) -> list[Column]:
    """Columns that name pictures: names of files, or lists of them, that end as pictures do; usual names first."""
    found = [column for column in columns if _is_named(column)]
    return sorted(found, key=lambda column: (column.name not in IMAGE, column.path.count(".")))


def _is_named(column: Column) -> bool:
    names = _names(column)
    if not names or any("://" in name for name in names) or not column.is_mostly(str, list):
        return False
    return sum(is_picture(name) for name in names) >= _MOST * len(names)


def _names(column: Column) -> list[str]:
    listed = [value if isinstance(value, list) else [value] for value in column.given]
    names = [name for value in listed for name in value if isinstance(name, str)]
    return [name for name in names if name.strip().lower() not in _NO_NAME]


def place_of(column: Column, records: Sequence[Record], pictures: frozenset[str]) -> Suggestion | None:
    """How to find the pictures that `column` names among `pictures`: folder, or template with the record file's folder."""
    by_name: dict[str, list[str]] = {}
    for picture in pictures:
        by_name.setdefault(PurePosixPath(picture).name, []).append(picture)
    folders: Counter[str] = Counter()
    beside = total = 0
    for record, value in zip(records, column.values, strict=True):
        for given in [value] if isinstance(value, str) else value if isinstance(value, list) else ():
            total += 1
            name = str(PurePosixPath(given.strip())) if isinstance(given, str) else ""
            ends = (p for p in by_name.get(PurePosixPath(name).name, ()) if p == name or p.endswith(f"/{name}"))
            there = {picture.removesuffix(name).rstrip("/") for picture in ends}
            folders.update(there)
            beside += record["_dir"] in there
    homes = {record["_dir"] for record in records}
    folder, number = max(folders.items(), key=lambda item: (item[1], item[0] in homes, item[0]), default=("", 0))
    if max(number, beside) < max(1, _MOST * total):
        return None
    if beside >= number and len(homes) > 1 and column.is_mostly(str):
        return {"path": f"{{_dir}}/{{{column.path}}}"}
    return {"path": column.path, "folder": folder} if folder else {"path": column.path}


# --- Pictures named after records ---------------------------------------------------------------------------------------


def named_after(records: Sequence[Record], columns: Sequence[Column], pictures: frozenset[str]) -> Suggestion | None:
    """A template of a picture's path made from fields that name the record: `tables/{_key}.png`."""
    templates: Counter[str] = Counter()
    scalars = [column.path for column in columns if column.is_mostly(str, int) and "." not in column.path]
    varying = [path for path in ("_dir", "_stem", *scalars) if len({_value(record, path) for record in records}) > 1]
    for record in records[:3]:
        values = {path: str(_value(record, path)) for path in varying if _is_telling(_value(record, path))}
        near = [(max((len(v) for v in values.values() if v in picture), default=0), picture) for picture in pictures]
        for _, picture in sorted((each for each in near if each[0]), key=lambda each: (-each[0], each[1]))[:_MAX_NAMED_AFTER]:
            templates.update(_templates(picture, values))
    ways = [(text, *_reach(text, records, pictures)) for text in templates]
    best = max((share for _, share, _ in ways), default=0.0)
    if best < _MOST:
        return None
    good = [(count, share, -text.count("{"), text) for text, share, count in ways if share >= best - _NEARLY]
    count, _, _, text = max(good)
    return {"path": text, "count": count} if "{i}" in text else {"path": text}


def _value(record: Record, path: str) -> Any:
    return record.get(path.strip('"'))


def _is_telling(value: Any) -> bool:
    text = str(value)
    return isinstance(value, str | int) and not isinstance(value, bool) and 0 < len(text) <= 100 and text != "."


def _templates(picture: str, values: Mapping[str, str]) -> set[str]:
    """`picture` with values that stand in it between signs replaced by their fields, and a last number by `{i}`."""
    if "{" in picture or "}" in picture:
        return set()
    text, used = picture, False
    for path, value in sorted(values.items(), key=lambda item: -len(item[1])):
        pattern = rf"(?<![A-Za-z0-9{{_]){re.escape(value)}(?![A-Za-z0-9}}_])"
        outside = re.split(r"(\{[^{}]*\})", text)
        replaced = [re.sub(pattern, f"{{{path}}}", each, count=1) if each[:1] != "{" else each for each in outside]
        used |= replaced != outside
        text = "".join(replaced)
    if not used:
        return set()
    numbered = re.sub(r"(?<![0-9}])0(?=\.[a-z]+$)", "{i}", text)
    return {text, numbered} if re.search(r"[A-Za-z0-9}]", text) else set()


def _reach(text: str, records: Sequence[Record], pictures: frozenset[str]) -> tuple[float, int]:
    """The share of records whose pictures are there, and how many each has."""
    template = Template(text)
    found = [list(takewhile(pictures.__contains__, _rendered(template, text, record))) for record in records]
    counts = [len(names) for names in found]
    usual = Counter(count for count in counts if count).most_common(1)
    distinct = {names[0] for names in found if names}
    if not usual or len(distinct) * 2 < len([names for names in found if names]):
        return 0.0, 0  # the same few pictures for all records are named after none of them
    return sum(count == usual[0][0] for count in counts) / len(counts), usual[0][0]


def _rendered(template: Template, text: str, record: Record) -> Iterable[str]:
    for number in range(32) if "{i}" in text else (0,):
        try:
            yield str(PurePosixPath(template.render({**record, "i": number})))
        except Unusable:
            return
