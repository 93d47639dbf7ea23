"""`report.html` of a release: one file that opens from disk, asks the network for nothing and runs one known script."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from markupsafe import Markup

from curation.report.gather import Gathered
from curation.report.release_facts import ReleaseFacts, SourceFacts, total_by_reason
from curation.report.wording import environment

_TEMPLATES = Path(__file__).parent / "templates"
_NUM_TONES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """A step of the funnel: what is left, and what went on the way to it, by reason."""

    label: str
    num: int
    note: str
    kind: str
    lost: Mapping[str, int]
    lost_as: str


def render_page(gathered: Gathered) -> str:
    """The whole page. All text from data is escaped; the content policy lets no script run but the page's own."""
    release = gathered.release
    script = (_TEMPLATES / "report.js").read_text(encoding="utf-8")
    style = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    categories = sorted({source.category for source in release.sources} | {category.name for category in release.categories})
    return (
        environment(autoescape=True)
        .get_template("report.html.j2")
        .render(
            release=release,
            samples=gathered.samples,
            rejected=gathered.rejected,
            rejected_totals=total_by_reason([source.rejected for source in release.sources]),
            dropped_totals=total_by_reason([source.dropped for source in release.sources]),
            clusters=gathered.clusters,
            leakage=gathered.leakage,
            histograms=gathered.histograms,
            category_of={source.name: source.category for source in release.sources},
            stages=funnel(release),
            tones={name: number % _NUM_TONES for number, name in enumerate(categories)},
            unknown=[source for source in release.present if source.is_license_unknown],
            category_scale=max([max(c.share, c.target or 0) for c in release.categories], default=0) or 1,
            source_scale=max([release.share(source.samples) for source in release.present], default=0) or 1,
            has_targets=any(category.target is not None for category in release.categories),
            settings=yaml.safe_dump(dict(release.mixture), sort_keys=False, allow_unicode=True),
            script=Markup(script),
            style=Markup(style),
            script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        )
    )


def funnel(release: ReleaseFacts) -> list[Stage]:
    """From records to what the release takes, over all sources."""
    sources = release.sources
    taken = _total(sources, "num_taken")
    return [
        Stage(label="Records read", num=_total(sources, "records"), note="as published", kind="", lost={}, lost_as=""),
        Stage(
            label="Samples",
            num=_total(sources, "records") - _total(sources, "num_rejected"),
            note="usable conversations",
            kind="rejected",
            lost=total_by_reason([source.rejected for source in sources]),
            lost_as="rejected",
        ),
        Stage(
            label="Kept",
            num=_total(sources, "kept"),
            note="after cleaning, de-duplication and decontamination",
            kind="dropped",
            lost=total_by_reason([source.dropped for source in sources]),
            lost_as="dropped",
        ),
        Stage(
            label="In this mixture",
            num=taken,
            note=_occurrences(release.num_samples, taken),
            kind="left-out",
            lost=total_by_reason([source.left_out for source in sources]),
            lost_as="left out",
        ),
    ]


def _occurrences(num_samples: int, taken: int) -> str:
    return "each once" if num_samples == taken else f"{num_samples:,} with repeats"


def _total(sources: Sequence[SourceFacts], figure: str) -> int:
    return sum(int(getattr(source, figure)) for source in sources)
