"""Publish a mixture with stages: an ordered list of the releases that its stages became."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curation.fingerprint import fingerprint
from curation.steps.step import Artefact, created_now
from curation.storage.store import Store, is_published, point_to_latest, publish, read_manifest

VERSION = 1


@dataclass(frozen=True, slots=True)
class PublishStages:
    """The list of releases of one mixture with stages, in training order."""

    name: str

    def run(self, stages: Mapping[str, Artefact], store: Store) -> Artefact:
        """The published list. Paths in it are relative to the root, so that a root can be moved."""
        entries: list[dict[str, Any]] = [
            {
                "stage": stage,
                "mixture": release.manifest["name"],
                "fingerprint": release.fingerprint,
                "release": release.folder.relative_to(store.root).as_posix(),
                "num_samples": release.manifest["num_samples"],
                "num_bytes": release.manifest["num_bytes"],
            }
            for stage, release in stages.items()
        ]
        releases = [[entry["stage"], entry["mixture"], entry["fingerprint"]] for entry in entries]
        folder = store.curriculum(self.name, fingerprint({"step": "stages", "version": VERSION, "stages": releases}))
        if not is_published(folder):
            folder.mkdir(parents=True, exist_ok=True)
            publish(folder, {"name": self.name, "fingerprint": folder.name, "stages": entries, "created": created_now()})
        point_to_latest(folder)
        return Artefact(folder, read_manifest(folder))


def releases_of(folder: Path) -> list[Path]:
    """The releases that a published folder means: those of its stages in order, or itself."""
    stages = read_manifest(folder).get("stages")
    return [folder] if stages is None else [folder.parents[2] / entry["release"] for entry in stages]
