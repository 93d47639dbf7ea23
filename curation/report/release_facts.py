"""The figures of a release as records: the manifest's loosely typed tree is read here and nowhere else in the report.

The life of a source's records adds up: records = rejected + dropped + left out + taken. `samples` in a release counts
occurrences, so it exceeds `taken` where samples repeat.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from curation.catalog.spec import UNKNOWN_LICENSE
from curation.shard_format import INDEX_NAME, ShardEntry

VERDICTS_NAME = "verdicts.parquet"


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceFacts:
    """One source: its records' life in counts, and what it gives to the release.

    `rejected`, `dropped` and `left_out` count by reason; `samples` and below count occurrences in the release, and
    `num_illustrated` those of them that have images. `license` is None where the release holds no sample to say it.
    """

    name: str
    category: str
    license: str | None
    fingerprint: str
    records: int
    rejected: Mapping[str, int]
    dropped: Mapping[str, int]
    left_out: Mapping[str, int]
    kept: int
    repaired: Mapping[str, int]
    samples: int
    num_illustrated: int
    num_images: int
    num_tokens: int
    num_bytes: int

    @property
    def num_rejected(self) -> int:
        """Records that did not become samples."""
        return sum(self.rejected.values())

    @property
    def num_dropped(self) -> int:
        """Samples that cleaning or de-duplication dropped."""
        return sum(self.dropped.values())

    @property
    def num_left_out(self) -> int:
        """Kept samples that the mixture does not take."""
        return sum(self.left_out.values())

    @property
    def num_taken(self) -> int:
        """Distinct samples in the release."""
        return self.kept - self.num_left_out

    @property
    def is_license_unknown(self) -> bool:
        """Whether samples are in the release whose licence nobody has stated."""
        return self.license == UNKNOWN_LICENSE


@dataclass(frozen=True, kw_only=True, slots=True)
class CategoryFacts:
    """One category's part of the release; `target` is the share the mixture asks for, None where it has no ratios."""

    name: str
    samples: int
    num_images: int
    num_tokens: int
    num_bytes: int
    share: float
    target: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseFacts:
    """All figures of a release. Sources and categories come largest first; `image_members` are names behind `<key>.`."""

    name: str
    fingerprint: str
    pool: str
    token_unit: str
    shards: Sequence[ShardEntry]
    num_samples: int
    num_bytes: int
    sources: Sequence[SourceFacts]
    categories: Sequence[CategoryFacts]
    mixture: Mapping[str, Any]
    warnings: Sequence[str]
    versions: Mapping[str, str]
    image_members: Sequence[str]

    @property
    def num_images(self) -> int:
        """Images in the release, counted once an occurrence."""
        return sum(source.num_images for source in self.sources)

    @property
    def num_tokens(self) -> int:
        """Tokens in the release, in the unit that `token_unit` says."""
        return sum(source.num_tokens for source in self.sources)

    @property
    def num_illustrated(self) -> int:
        """Samples that have images, counted once an occurrence."""
        return sum(source.num_illustrated for source in self.sources)

    @property
    def present(self) -> Sequence[SourceFacts]:
        """Sources that give at least one sample."""
        return [source for source in self.sources if source.samples]

    @property
    def licenses(self) -> Mapping[str, Sequence[SourceFacts]]:
        """Sources by licence, over those present; the unknown licence comes last."""
        named = {source.license or UNKNOWN_LICENSE for source in self.present}
        ordered = sorted(named, key=lambda name: (name == UNKNOWN_LICENSE, name))
        return {name: [source for source in self.present if (source.license or UNKNOWN_LICENSE) == name] for name in ordered}

    def share(self, samples: int) -> float:
        """`samples` as a share of the release."""
        return samples / self.num_samples if self.num_samples else 0.0


def read_facts(
    folder: Path, manifest: Mapping[str, Any], licenses: Mapping[str, str], image_members: Sequence[str]
) -> ReleaseFacts:
    """The figures of the release at `folder`; `licenses` by source come from its samples."""
    left_out = _left_out(folder)
    illustrated = _illustrated(folder)
    names = sorted(manifest["conservation"], key=lambda name: (-manifest["plan"][name]["samples"], name))
    sources = [_source(name, manifest, licenses.get(name), left_out.get(name, {}), illustrated.get(name, 0)) for name in names]
    return ReleaseFacts(
        name=manifest["name"],
        fingerprint=manifest["fingerprint"],
        pool=manifest["inputs"]["pool"],
        token_unit=manifest["tokens"],
        shards=[ShardEntry(**entry) for entry in manifest["shards"]],
        num_samples=manifest["num_samples"],
        num_bytes=manifest["num_bytes"],
        sources=sources,
        categories=_categories(manifest),
        mixture=manifest["mixture"],
        warnings=list(manifest["warnings"]),
        versions=manifest["versions"],
        image_members=image_members,
    )


def _source(
    name: str, manifest: Mapping[str, Any], license_name: str | None, left_out: Mapping[str, int], num_illustrated: int
) -> SourceFacts:
    life = manifest["conservation"][name]
    given = manifest["sources"].get(name, {})
    return SourceFacts(
        name=name,
        category=manifest["plan"][name]["category"],
        license=license_name,
        fingerprint=manifest["inputs"]["sources"][name],
        records=life["records"],
        rejected=_by_count(life["rejected"]),
        dropped=_by_count(life["dropped"]),
        left_out=_by_count(left_out),
        kept=life["kept"],
        repaired=_by_count(life["repaired"]),
        samples=given.get("samples", 0),
        num_illustrated=num_illustrated,
        num_images=given.get("images", 0),
        num_tokens=given.get("tokens", 0),
        num_bytes=given.get("num_bytes", 0),
    )


def _categories(manifest: Mapping[str, Any]) -> list[CategoryFacts]:
    ratios = manifest["mixture"].get("ratios")
    total_ratio = math.fsum(ratios.values()) if ratios else 0.0
    total = manifest["num_samples"]
    counted = manifest["categories"]
    empty = {"samples": 0, "images": 0, "tokens": 0, "num_bytes": 0}
    asked = {name for name, ratio in (ratios or {}).items() if ratio}
    facts = [
        CategoryFacts(
            name=name,
            samples=counts["samples"],
            num_images=counts["images"],
            num_tokens=counts["tokens"],
            num_bytes=counts["num_bytes"],
            share=counts["samples"] / total if total else 0.0,
            target=ratios.get(name, 0) / total_ratio if ratios else None,
        )
        for name, counts in ((name, counted.get(name, empty)) for name in sorted({*counted, *asked}))
    ]
    return sorted(facts, key=lambda category: (-category.samples, category.name))


def _left_out(folder: Path) -> dict[str, dict[str, int]]:
    """Counts by source and reason of kept samples that the mixture does not take."""
    scan = pl.scan_parquet(folder / VERDICTS_NAME)
    not_taken = scan.filter((pl.col("stage") == "mix") & (pl.col("verdict") == "drop"))
    counted = not_taken.group_by("source", "reason").len().collect(engine="streaming")
    by_source: dict[str, dict[str, int]] = {}
    for source, reason, num in counted.iter_rows():
        by_source.setdefault(source, {})[reason] = num
    return by_source


def _illustrated(folder: Path) -> dict[str, int]:
    scan = pl.scan_parquet(folder / INDEX_NAME).filter(pl.col("num_images") > 0)
    return dict(scan.group_by("source").len().collect(engine="streaming").iter_rows())


def _by_count(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(((reason, num) for reason, num in counts.items() if num), key=lambda pair: (-pair[1], pair[0])))


def total_by_reason(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """The sum of counts by reason, largest first."""
    totals: dict[str, int] = {}
    for reasons in counts:
        for reason, num in reasons.items():
            totals[reason] = totals.get(reason, 0) + num
    return _by_count(totals)
