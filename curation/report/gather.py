"""Everything the report's files are made of, collected once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.report.chosen_samples import ShownSample, read_chosen
from curation.report.distributions import Histogram, histograms
from curation.report.image_members import image_members
from curation.report.refused import DuplicateCluster, RejectedRecord, duplicate_clusters, rejected_examples
from curation.report.release_facts import ReleaseFacts, read_facts


@dataclass(frozen=True, kw_only=True, slots=True)
class Gathered:
    """A release's figures and examples."""

    release: ReleaseFacts
    samples: Sequence[ShownSample]
    rejected: Mapping[str, Sequence[RejectedRecord]]
    clusters: Sequence[DuplicateCluster]
    leakage: Sequence[Mapping[str, Any]] = ()
    histograms: Sequence[Histogram] = ()


def gather(folder: Path, manifest: Mapping[str, Any], source_folders: Mapping[str, Path]) -> Gathered:
    """Read what the report shows. Raises ShardError when index and shards disagree."""
    shard_names = [entry["name"] for entry in manifest["shards"]]
    samples = read_chosen(folder, shard_names, manifest["mixture"]["seed"])
    # every source in the release has a chosen sample, and all samples of a source state the same licence
    licenses = {sample.source: sample.license for sample in samples}
    illustrated = [name for name, counts in sorted(manifest["sources"].items()) if counts["images"]]
    members = image_members([source_folders[name] for name in illustrated if name in source_folders])
    release = read_facts(folder, manifest, licenses, members)
    return Gathered(
        release=release,
        samples=samples,
        rejected=rejected_examples(release.sources, source_folders),
        clusters=duplicate_clusters(folder, release.sources, source_folders),
        leakage=manifest.get("leakage", ()),
        histograms=histograms(folder),
    )
