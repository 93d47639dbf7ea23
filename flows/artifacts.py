"""What a run leaves for people to look at in Prefect: tables, links, and an event for whoever waits for a release."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from prefect import runtime
from prefect.artifacts import create_link_artifact, create_progress_artifact, create_table_artifact, update_progress_artifact
from prefect.events import emit_event

from curation.report import PAGE_NAME
from curation.storage.mirror import is_url
from curation.storage.store import address

PUBLISHED = "curation.release.published"
"""Name of the event that every newly published release emits; automations and triggers can wait for it."""


class RunProgress:
    """How far a run of a deployment is, as a progress artifact; nothing for runs that nobody watches in Prefect."""

    def __init__(self, total: int) -> None:
        self._total = max(1, total)
        self._done = 0
        self._artifact: UUID | None = None
        if is_deployed():
            artifact = create_progress_artifact(0.0, key="progress", description="0 tasks done")
            assert isinstance(artifact, UUID)  # a coroutine in async callers only
            self._artifact = artifact

    def advance(self, what: str) -> None:
        """Note that one task more is done."""
        self._done += 1
        if self._artifact is not None:
            told = f"{self._done:,} of {self._total:,} tasks done; last: {what}"
            update_progress_artifact(self._artifact, 100 * min(1.0, self._done / self._total), told)


def is_deployed() -> bool:
    """Whether this is a run of a deployment: scheduled, watched in Prefect, and with nobody at a terminal to try again."""
    return runtime.deployment.id is not None


def show_ingested(manifests: Mapping[str, Mapping[str, Any]]) -> None:
    """A table of what each source gave and why records were refused."""
    rows = [{"source": name, **_flat(manifest["counts"])} for name, manifest in manifests.items()]
    _table("ingested", rows, "Records read = samples + rejected, for every source.")


def show_release(folder: Path, manifest: Mapping[str, Any], difference: Mapping[str, Any]) -> None:
    """Conservation, plan, change and report of a release."""
    name = manifest["name"]
    life = [{"source": source, **_flat(counts)} for source, counts in manifest["conservation"].items()]
    _table(f"conservation-{name}", life, "Records = samples + rejected; samples = kept + dropped.")
    _table(f"plan-{name}", list(manifest["plan"].values()), "What each source was asked to give, and gave.")
    if "leakage" in manifest:
        _table(
            f"leakage-{name}",
            # Prefect takes cells for Markdown, in which the asterisk of a total would begin a list.
            [{**row, "source": "all sources" if row["source"] == "*" else row["source"]} for row in manifest["leakage"]],
            "What of each benchmark the sources hold, and what was dropped for it.",
        )
    changed = [{"source": source, **change} for source, change in difference["sources"].items()]
    _table(f"diff-{name}", changed, f"From {difference['before'] or 'nothing'} to {difference['after']}.")
    page = address(folder / PAGE_NAME)
    link = page if is_url(page) else Path(page).absolute().as_uri()
    create_link_artifact(link, link_text=f"Report of {name}", key=_key(f"report-{name}"))


def announce(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Emit PUBLISHED for a release."""
    resource = {"prefect.resource.id": f"curation.release.{manifest['name']}", "prefect.resource.name": manifest["name"]}
    facts = {"release": address(folder), "fingerprint": manifest["fingerprint"], "num_samples": manifest["num_samples"]}
    emit_event(PUBLISHED, resource=resource, payload=facts)


def _table(key: str, rows: Sequence[Mapping[str, Any]], description: str) -> None:
    create_table_artifact([dict(row) for row in rows], key=_key(key), description=description)


def _flat(counts: Mapping[str, Any]) -> dict[str, Any]:
    """Counts by reason as one text, so that a table has a cell for them."""
    return {
        name: ", ".join(f"{reason} {number:,}" for reason, number in value.items()) if isinstance(value, Mapping) else value
        for name, value in counts.items()
    }


def _key(text: str) -> str:
    """`text` as Prefect wants keys: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
