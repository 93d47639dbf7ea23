"""What the commands show people: tables for the terminal. Numbers are right-aligned, nothing wraps below 80 columns."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import zip_longest
from pathlib import PurePosixPath
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from curation.inspection.clusters import Clusters
from curation.inspection.lookup import Life

_LEAST_CHARS = 6
_SHOWN_CHARS = 600


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, text_columns: int = 1, is_tight: bool = False
) -> Table:
    """A table whose first `text_columns` columns are text and the others figures; names in the first one give way last.

    A tight one has one blank between columns in place of two.
    """
    view = Table(title=title, title_justify="left", title_style="bold", header_style="bold", box=None, pad_edge=False)
    view.collapse_padding = is_tight
    for number, column in enumerate(columns):
        if number < text_columns:
            view.add_column(column, overflow="fold", no_wrap=number == 0)
        else:
            view.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        view.add_row(*map(_cell, row))
    return view


def _cell(cell: object) -> str:
    return f"{cell:,}" if isinstance(cell, int) else str(cell)


def cut_to_fit(columns: Sequence[str], rows: Sequence[Sequence[object]], cut: str, width: int) -> list[list[object]]:
    """Rows in which the texts of column `cut` end where a tight table would be wider than `width`, but for _LEAST_CHARS."""
    place = columns.index(cut)
    widths = [max(len(_cell(cell)) for cell in column) for column in zip(columns, *rows, strict=True)]
    room = max(_LEAST_CHARS, width - sum(widths) + widths[place] - (len(columns) - 1))
    return [
        [
            f"{text[: room - 1]}\N{HORIZONTAL ELLIPSIS}" if n == place and len(text := str(cell)) > room else cell
            for n, cell in enumerate(row)
        ]
        for row in rows
    ]


def shortened(location: str) -> str:
    """The release or the last folder of a location, for a table of 80 columns; `--json` has it whole."""
    return PurePosixPath(location).name.partition(":")[0] if "://" not in location else PurePosixPath(location).name


def shorter(text: str, num_chars: int = 10) -> str:
    """`text`, cut to a short cell."""
    return text if len(text) <= num_chars else text[: num_chars - 1] + "\N{HORIZONTAL ELLIPSIS}"


def size(num_bytes: int | None) -> str:
    """Bytes in the unit that people use for so many."""
    if num_bytes is None:
        return "-"
    figure, unit = float(num_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if figure < 999.5 or unit == "TB":
            break
        figure /= 1_000
    return f"{figure:.0f} {unit}" if unit == "B" else f"{figure:.1f} {unit}"


def share(part: int, whole: int) -> str:
    """A share as a percentage with one decimal."""
    return f"{part / whole:.1%}" if whole else "-"


def conservation_table(conservation: Mapping[str, Mapping[str, Any]], sources: Mapping[str, Mapping[str, int]]) -> Table:
    """records = rejected + samples; samples = dropped + kept; and what of it the release holds."""
    rows: list[tuple[Any, ...]] = []
    for name, counts in conservation.items():
        rejected, dropped = sum(counts["rejected"].values()), sum(counts["dropped"].values())
        released = sources.get(name, {}).get("samples", 0)
        rows.append((name, counts["records"], rejected, counts["samples"], dropped, counts["kept"], released))
    totals = [sum(figures) for figures in zip(*(row[1:] for row in rows), strict=True)]
    columns = ("source", "records", "rejected", "samples", "dropped", "kept", "released")
    return table("conservation", columns, [*rows, ("total", *totals)])


def leakage_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Benchmarks down, with how much of each all sources together hold and, indented, those that hold any.

    `hits`: its pictures that a sample shows. `pairs`, `asked`, `n-grams`: its items of which picture and question, the
    question, or most n-grams are met.
    """
    cells: list[tuple[Any, ...]] = []
    for row in sorted(rows, key=lambda row: (row["benchmark"], row["source"] != "*", row["source"])):
        name = row["benchmark"] if row["source"] == "*" else f"  in {row['source']}"
        size = row["images"] if row["source"] == "*" else ""
        percent = f"{row['image_percent']:.2f}%"
        found = (row["image_hits"], percent, row["image_and_question_items"], row["question_items"], row["cover_items"])
        cells.append((name, size, *found, row["dropped"]))
    columns = ("benchmark", "images", "hits", "percent", "pairs", "asked", "n-grams", "dropped")
    return table("leakage", columns, cells)


def show_life(console: Console, life: Life) -> None:
    """One record's life, in the order in which it was lived."""
    record = life.sample or life.rejected or {}
    console.print(f"[bold]{record.get('sample_id') or record.get('record_id')}[/bold]", highlight=False)
    origin = f"{record['origin_file']} at position {record['origin_position']}"
    console.print(f"  read from   {record['source']}: {origin}", markup=False, highlight=False)
    for place in life.fetched:
        console.print(f"  fetched     {_place(place)}", markup=False, highlight=False)
    if life.rejected is not None:
        console.print(f"  rejected    {life.rejected['reason']}: {life.rejected['detail']}", markup=False, highlight=False)
        console.print(f"  raw         {_cut(life.rejected['raw'].decode('utf-8', 'replace'))}", markup=False, highlight=False)
        return
    if life.twin is None:
        _show_turns(console, record)
    else:
        _show_pair(console, record, life.twin, "twin")
    for verdict in life.verdicts:
        where = verdict.get("release") or f"pool {verdict.get('pool')}"
        told = ": ".join(part for part in (verdict["reason"], verdict.get("detail")) if part)
        reason = f" ({told})" if told else ""
        console.print(f"  {verdict['verdict']:<11} in {where}, by {verdict['stage']}{reason}", markup=False, highlight=False)
    for place in life.places:
        spot = f"{place['release']}: shard {place['shard']}, offset {place['offset_bytes']:,}, {place['num_bytes']:,} bytes"
        console.print(f"  stands in   {spot}", markup=False, highlight=False)


def _place(place: Mapping[str, Any]) -> str:
    """Where a source's files came from, in words."""
    if "upstream" in place:
        name = f"release {place['upstream']}, {place['place']}"
    else:
        name = f"hub:{place['hub']}" if "hub" in place else str(place.get("root") or place.get("http"))
    commit = f" at commit {place['commit']}" if place.get("commit") else ""
    return f"from {name}{commit}{', its original' if place['is_original'] else ''}"


def _show_pair(console: Console, record: Mapping[str, Any], twin: Mapping[str, Any], role: str) -> None:
    """The id of a record's twin or keeper, on a line of its own to be copied, and the two side by side."""
    console.print(f"  {role:<11} {twin['sample_id']}", markup=False, highlight=False)
    console.print(side_by_side(record, twin, role), soft_wrap=False)


def side_by_side(record: Mapping[str, Any], twin: Mapping[str, Any], role: str) -> Table:
    """A dropped record beside the one it was dropped for, turn by turn; words that only one of them has stand out."""
    view = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    view.add_column("", no_wrap=True)
    view.add_column("this one", ratio=1, overflow="fold")
    view.add_column(f"its {role}", ratio=1, overflow="fold")
    view.add_row("read from", *(Text(f"{one['origin_file']} at {one['origin_position']}") for one in (record, twin)))
    for own, other in zip_longest(record["conversations"], twin["conversations"]):
        texts = [turn["value"] if turn else "" for turn in (own, other)]
        view.add_row((own or other)["from"], _marked(texts[0], texts[1]), _marked(texts[1], texts[0]))
    for own, other in zip_longest(record["images"], twin["images"]):
        view.add_row("picture", *(Text(_picture(image) if image else "") for image in (own, other)))
    return view


def _marked(text: str, other: str) -> Text:
    """`text`, cut, with the words that `other` lacks in bold."""
    pieces = re.split(r"(\s+)", _cut(text))
    matcher = SequenceMatcher(None, pieces, re.split(r"(\s+)", _cut(other)), autojunk=False)
    marked = Text()
    for kind, start, stop, _, _ in matcher.get_opcodes():
        marked.append("".join(pieces[start:stop]), style="" if kind == "equal" else "bold red")
    return marked


def show_clusters(console: Console, found: Clusters) -> None:
    """Counts by kind, then clusters one by one: the keeper, and beside it what goes with it."""
    rows = [(kind, count["clusters"], count["samples"]) for kind, count in found.counts.items()]
    console.print(table(f"pool {found.pool}", ("kind", "clusters", "samples beside the keeper"), rows))
    for number, cluster in enumerate(found.shown, start=1):
        console.print(f"\n[bold]{number}. {cluster.kind}[/bold]: {cluster.size:,} beside the keeper", highlight=False)
        for member in cluster.members:
            console.print(f"[bold]{member['sample_id']}[/bold]", highlight=False)
            _show_pair(console, member, cluster.keeper, "keeper")
            console.print(f"  {member['detail']}", style="dim", markup=False, highlight=False)
        if cluster.size > len(cluster.members):
            console.print(f"  and {cluster.size - len(cluster.members):,} more")


def _show_turns(console: Console, sample: Mapping[str, Any]) -> None:
    for turn in sample["conversations"]:
        console.print(f"  {turn['from']:<11} {_cut(turn['value'])}", markup=False, highlight=False)
    for image in sample["images"]:
        console.print(f"  picture     {_picture(image)}", markup=False, highlight=False)


def _picture(image: Mapping[str, Any]) -> str:
    if image["sha256"] is None:
        return f"not there, known as {image['pixels']}"
    size = f"{image['width']} x {image['height']} {image['extension']}, {image['num_bytes']:,} bytes"
    return f"{size}, sha256 {image['sha256'][:16]}"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + " ..."


def as_json(value: object) -> str:
    """One JSON document for `--json`; bytes are shown as text."""
    return json.dumps(value, indent=1, ensure_ascii=False, default=_plain)


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError(f"{type(value).__name__} has no JSON form")
