"""Examples of what did not make it: rejected records by reason, and dropped duplicates beside the twins that were kept.

Counts come from the manifest; here only a few rows a reason are fetched, the same ones however the tables are split.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.mixture.dedup import LOOK_ALIKE
from curation.report.excerpt import cut
from curation.report.release_facts import VERDICTS_NAME, SourceFacts
from curation.report.thumbnails import MAX_SOURCE_BYTES, NO_PREVIEW, Thumbnail, thumbnail
from curation.shard_format import IMAGE_MARKER

EXAMPLES_PER_REASON = 6
NUM_CLUSTERS = 12
_CLUSTERS_PER_SOURCE = 4
_MEMBERS_SHOWN = 4
_RAW_CHARS = 300
_DETAIL_CHARS = 240
_QUESTION_CHARS = 320
_MAX_THUMBNAILS = 2
_SOURCE_OF_ID = re.compile(r"(.+)-[0-9a-f]{24}(?:-d\d+)?")


@dataclass(frozen=True, kw_only=True, slots=True)
class RejectedRecord:
    """A record that became no sample; `raw` is its beginning as read."""

    record_id: str
    source: str
    reason: str
    detail: str
    raw: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """One sample of a pair: its first question and previews of its first images."""

    sample_id: str
    source: str
    question: str
    thumbnails: Sequence[Thumbnail]
    num_images: int


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A dropped sample, and why it goes with the kept one."""

    side: Side
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class DuplicateCluster:
    """A kept sample, and the first few of the `size` samples that were dropped for it."""

    keeper: Side
    members: Sequence[Duplicate]
    size: int


def rejected_examples(sources: Sequence[SourceFacts], folders: Mapping[str, Path]) -> dict[str, list[RejectedRecord]]:
    """A few rejected records a reason, spread over the sources that have most of them."""
    reasons = sorted({reason for source in sources for reason in source.rejected})
    examples: dict[str, list[RejectedRecord]] = {}
    for reason in reasons:
        having = [source for source in sources if source.rejected.get(reason) and source.name in folders]
        having = sorted(having, key=lambda source: (-source.rejected[reason], source.name))[:EXAMPLES_PER_REASON]
        each = EXAMPLES_PER_REASON // len(having) if having else 0
        examples[reason] = [
            record for source in having for record in _first_rejected(source.name, folders[source.name], reason, min(3, each))
        ]
    return examples


def _first_rejected(source: str, folder: Path, reason: str, num: int) -> list[RejectedRecord]:
    files = sorted(folder.glob("rejected-*.parquet"))
    if not files:
        return []
    scan = pl.scan_parquet(files)
    order = ["origin_file", "origin_position", "record_id"]
    # the raw records are large: rows are chosen without them, then fetched by name
    chosen = scan.filter(pl.col("reason") == reason).select(order).bottom_k(num, by=order).collect(engine="streaming")
    is_chosen = pl.col("record_id").is_in(chosen["record_id"].implode()) & (pl.col("reason") == reason)
    fetched = scan.filter(is_chosen).with_columns(pl.col("raw").bin.head(4 * _RAW_CHARS)).collect(engine="streaming")
    return [
        RejectedRecord(
            record_id=cut(row["record_id"], _DETAIL_CHARS),
            source=source,
            reason=reason,
            detail=cut(row["detail"] or "", _DETAIL_CHARS),
            raw=cut((row["raw"] or b"").decode("utf-8", "replace"), _RAW_CHARS),
        )
        for row in fetched.sort(order).head(num).to_dicts()
    ]


def duplicate_clusters(
    release_folder: Path, sources: Sequence[SourceFacts], folders: Mapping[str, Path]
) -> list[DuplicateCluster]:
    """A few kept samples with what was dropped for them: of sources with images first, first those with members in other
    sources, or that look alike in other pixels."""
    having = [source for source in sources if source.dropped and source.name in folders]
    having = sorted(having, key=lambda source: (source.num_images == 0, -source.num_dropped, source.name))[:NUM_CLUSTERS]
    each = min(_CLUSTERS_PER_SOURCE, NUM_CLUSTERS // len(having)) if having else 0
    scan = pl.scan_parquet(release_folder / VERDICTS_NAME)
    scan = scan.filter(pl.col("twin_id").is_not_null() & (pl.col("stage") != "decontaminate"))  # those twins are no samples
    own = pl.col("twin_id").str.extract(f"^{_SOURCE_OF_ID.pattern}$") == pl.col("source")
    order = ["is_own", "looks_alike", "sample_id"]
    alike = ~pl.col("detail").fill_null("").str.starts_with(LOOK_ALIKE)
    twins: list[str] = []
    for source in having:
        of_source = scan.filter(pl.col("source") == source.name).select("sample_id", "twin_id", is_own=own, looks_alike=alike)
        first = of_source.group_by("twin_id").agg(pl.col("is_own", "looks_alike", "sample_id").min())
        twins += first.bottom_k(each, by=order).collect(engine="streaming").sort(order)["twin_id"].to_list()
    twins = list(dict.fromkeys(twins))
    members = scan.filter(pl.col("twin_id").is_in(pl.Series(twins, dtype=pl.String).implode()))
    sizes = dict(members.group_by("twin_id").len().collect(engine="streaming").iter_rows())
    listed = members.select("sample_id", "twin_id", "reason", "detail", is_own=own, looks_alike=alike).sort(order)
    rows = listed.group_by("twin_id", maintain_order=True).head(_MEMBERS_SHOWN).collect().to_dicts()
    sides = _sides(sorted({row[key] for row in rows for key in ("sample_id", "twin_id")}), folders)
    clusters = []
    for twin in twins:
        own_rows = [row for row in rows if row["twin_id"] == twin and row["sample_id"] in sides]
        shown = [Duplicate(sides[row["sample_id"]], row["reason"], cut(row["detail"] or "", _DETAIL_CHARS)) for row in own_rows]
        if twin in sides and shown:
            clusters.append(DuplicateCluster(sides[twin], shown, sizes[twin]))
    return clusters


def _sides(sample_ids: Sequence[str], folders: Mapping[str, Path]) -> dict[str, Side]:
    """The samples by id, as far as their sources' folders are at hand."""
    by_source: dict[str, list[str]] = {}
    for sample_id in sample_ids:
        match = _SOURCE_OF_ID.fullmatch(sample_id)
        if match and match[1] in folders:
            by_source.setdefault(match[1], []).append(sample_id)
    sides: dict[str, Side] = {}
    for source, ids in sorted(by_source.items()):
        files = sorted(folders[source].glob("samples-*.parquet"))
        wanted = pl.Series(ids, dtype=pl.String).implode()
        scan = pl.scan_parquet(files).filter(pl.col("sample_id").is_in(wanted))
        for row in scan.select("sample_id", "conversations", "images").collect(engine="streaming").to_dicts():
            sides[row["sample_id"]] = _side(row, source, folders[source])
    return sides


def _side(row: Mapping[str, Any], source: str, folder: Path) -> Side:
    question = row["conversations"][0]["value"].replace(IMAGE_MARKER, " ").strip()
    images = row["images"] or []
    return Side(
        sample_id=row["sample_id"],
        source=source,
        question=cut(question, _QUESTION_CHARS),
        thumbnails=[_published(folder, image) for image in images[:_MAX_THUMBNAILS]],
        num_images=len(images),
    )


def _published(folder: Path, image: Mapping[str, Any]) -> Thumbnail:
    """A preview of an image as it lies in its source's tars; none of one that is known by reference only."""
    if image["tar"] is None or image["num_bytes"] > MAX_SOURCE_BYTES:
        return NO_PREVIEW
    path = folder / f"images-{image['tar']:05d}.tar"
    if not path.exists():
        return NO_PREVIEW
    with path.open("rb") as handle:
        handle.seek(image["offset"])
        return thumbnail(handle.read(image["num_bytes"]))
