"""From a row of samples to what stands in a shard: the JSON member, and where the bytes of its pictures lie."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import pyarrow as pa

from curation.catalog.spec import Prompt
from curation.format_prompts import prompt_for, with_prompt
from curation.shard_format import IMAGE_MARKER, ShardImage, encode_sample, image_names, occurrence_key

RENDERED = pa.schema(
    [
        pa.field("position", pa.int64()),
        pa.field("sample_id", pa.string()),
        pa.field("repeat", pa.int32()),
        pa.field("num_images", pa.int32()),
        pa.field("num_tokens", pa.int32()),
        pa.field("payload", pa.binary()),
        pa.field(
            "pictures",
            pa.list_(
                pa.struct(
                    [
                        pa.field("name", pa.string()),
                        pa.field("tar", pa.int32()),
                        pa.field("offset", pa.int64()),
                        pa.field("num_bytes", pa.int64()),
                    ]
                )
            ),
        ),
    ]
)
"""One row a sample occurrence, ordered by its `position` in the stream; `payload` is its JSON member."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What a sample's JSON says of its source; the first of `prompts` that fits a question is added where `placement` says."""

    name: str
    category: str
    license: str
    prompts: tuple[Prompt, ...]
    placement: Literal["after", "before"] = "after"


def rendered_row(sample: Mapping[str, Any], position: int, repeat: int, source: SourceFacts) -> dict[str, Any]:
    """A row of RENDERED for one occurrence of a row of SAMPLES."""
    names = image_names([image["extension"] for image in sample["images"]])
    pictures = list(zip(names, sample["images"], strict=True))
    payload = encode_sample(
        key=occurrence_key(sample["sample_id"], repeat),
        source=source.name,
        category=source.category,
        conversations=shown_turns(sample, source),
        images=[
            ShardImage(name=name, width=image["width"], height=image["height"], sha256=image["sha256"])
            for name, image in pictures
        ],
        license=source.license,
        origin={"file": sample["origin_file"], "position": sample["origin_position"], "id": sample["origin_id"]},
    )
    return {
        "position": position,
        "sample_id": sample["sample_id"],
        "repeat": repeat,
        "num_images": sample["num_images"],
        "num_tokens": sample["num_tokens"],
        "payload": payload,
        "pictures": [
            {"name": name, "tar": image["tar"], "offset": image["offset"], "num_bytes": image["num_bytes"]}
            for name, image in pictures
        ],
    }


def without_turns(sample: Mapping[str, Any], removed: Sequence[int]) -> Mapping[str, Any]:
    """A row of SAMPLES without some of its question-answer turns (counted from 0), which leaves one at least.

    It keeps its pictures, and so a marker for each of them: those of removed questions go before the next question that stays,
    or behind the last one. It also keeps its `sample_id`, which names the sample as it was published.
    """
    gone = set(removed)
    turns: list[dict[str, str]] = []
    waiting = 0
    for place, turn in enumerate(sample["conversations"]):
        if place // 2 in gone:
            waiting += turn["value"].count(IMAGE_MARKER)
        else:
            turns.append({"from": turn["from"], "value": f"{IMAGE_MARKER}\n" * waiting + turn["value"]})
            waiting = 0
    if waiting:
        last = max(place for place, turn in enumerate(turns) if turn["from"] == "human")
        turns[last] = turns[last] | {"value": turns[last]["value"] + f"\n{IMAGE_MARKER}" * waiting}
    num_tokens = sum(len(turn["value"].split()) for turn in turns)
    return {**sample, "conversations": turns, "num_turns": len(turns), "num_tokens": num_tokens}


def rendered_rows(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a RENDERED table; column by column, which takes a fifth of the time of `to_pylist` on nested rows."""
    pictures = table.column("pictures").combine_chunks()
    ends = pictures.offsets.to_pylist()
    fields = pictures.type.value_type
    columns = [pictures.values.field(number).to_pylist() for number in range(fields.num_fields)]
    listed = [dict(zip(fields.names, cells, strict=True)) for cells in zip(*columns, strict=True)]
    names = [name for name in table.column_names if name != "pictures"]
    cells = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    shown = (listed[start:stop] for start, stop in pairwise(ends))
    return [{**dict(zip(names, row, strict=True)), "pictures": found} for row, found in zip(cells, shown, strict=True)]


def shown_turns(sample: Mapping[str, Any], source: SourceFacts) -> Sequence[Mapping[str, str]]:
    """The turns of a row of SAMPLES as its JSON has them: with the prompts of its source."""
    turns: Sequence[Mapping[str, str]] = sample["conversations"]
    if not source.prompts:
        return turns
    shown: list[Mapping[str, str]] = []
    for asked, answered in zip(turns[::2], turns[1::2], strict=True):
        prompt = prompt_for(source.prompts, asked["value"], answered["value"])
        question = asked["value"] if prompt is None else with_prompt(asked["value"], prompt, source.placement)
        shown += [{**asked, "value": question}, answered]
    return shown
