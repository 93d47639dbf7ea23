"""What a release says about itself: dataset card, Croissant description and a page to look at, written beside its shards.

Everything is computed from the manifest, the index, the verdicts and a few chosen records, so equal releases get equal
files; no clock is read and the manifest's `created` is left out.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from curation.report.croissant import describe
from curation.report.data_card import CARD_NAME, render_card
from curation.report.gather import gather
from curation.report.page import render_page
from curation.storage.store import replacing

CROISSANT_NAME = "croissant.json"
PAGE_NAME = "report.html"

__all__ = ["CARD_NAME", "CROISSANT_NAME", "PAGE_NAME", "write_report"]


def write_report(folder: Path, manifest: Mapping[str, Any], source_folders: Mapping[str, Path]) -> None:
    """Write `README.md`, `croissant.json` and `report.html` into the release at `folder`, each whole or not at all.

    `manifest` is the one about to be published; shards, index and verdicts must lie in `folder`. `source_folders` holds the
    ingested folder of every source of the mixture; without one, its examples and its images' columns in the card are left
    out. Raises ShardError when index and shards disagree.
    """
    gathered = gather(folder, manifest, source_folders)
    _write_text(folder / CARD_NAME, render_card(gathered.release))
    _write_text(folder / CROISSANT_NAME, json.dumps(describe(folder, gathered.release), indent=1, ensure_ascii=False) + "\n")
    _write_text(folder / PAGE_NAME, render_page(gathered))


def _write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
