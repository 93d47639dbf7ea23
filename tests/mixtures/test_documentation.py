"""docs/mixtures.md names every key of the spec, and its examples are mixtures."""

import re
from pathlib import Path

import pytest

from curation.mixture.conditions import Condition, Where
from curation.mixture.dedup import DedupSpec
from curation.mixture.spec import CategoryRule, Guard, Mixture, Reproduces, Selector, SourceRule
from curation.yaml_file import Settings

TEXT = (Path(__file__).parents[2] / "docs" / "mixtures.md").read_text()
TABLES = {
    "| key | meaning | default |": (Mixture, {"extends", "stages"}),
    "A rule of `sources` has:": (SourceRule, set()),
    "A rule of `categories` has:": (CategoryRule, set()),
    "| fact | is |": (Where, set()),
}


def keys_of_table(opening: str) -> set[str]:
    """What stands between backquotes in the first cells of the table that follows."""
    lines = TEXT.partition(opening)[2].splitlines()
    rows = [
        line for line in lines[: next(n for n, line in enumerate(lines) if n > 3 and not line.startswith("|"))] if "`" in line
    ]
    return {key for row in rows for key in re.findall(r"`([a-z_]+)`", row.split("|")[1])}


@pytest.mark.parametrize("opening", TABLES)
def test_every_key_is_documented_and_no_other(opening: str):
    model, besides = TABLES[opening]
    assert keys_of_table(opening) == set(model.model_fields) | besides


@pytest.mark.parametrize("model", [Selector, Guard, Reproduces, Condition, DedupSpec])
def test_keys_of_short_forms_are_named(model: type[Settings]):
    for key in model.model_fields:
        assert re.search(rf"[{{ ]{key}: ", TEXT), key
