"""Commits that a catalog's branches on the Hub mean, in a file beside it: `catalog.lock` for `catalog.yaml`.

`curate sources --pin` writes it, people commit it, and from then on every machine reads the same commits. It is one line a
dataset: `owner/name: {main: 0123...}`.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from curation.catalog.hub_path import hub_path
from curation.errors import CatalogError
from curation.yaml_file import YamlFile

COMMIT = re.compile(r"[0-9a-f]{40}")
_HEAD = """\
# What branches of datasets on the Hub mean for the catalog beside this file. Written by `curate sources --pin`; commit it.
"""

Pins = Mapping[str, Mapping[str, str]]
"""By dataset: commit by branch."""


def lock_file(catalog: Path) -> Path:
    """Where the pins of a catalog file lie."""
    return catalog.with_suffix(".lock")


def read_pins(catalog: Path) -> dict[str, dict[str, str]]:
    """The pins of a catalog file; none where it has no lock file. Raises CatalogError for anything but commits in it."""
    path = lock_file(catalog)
    if not path.exists():
        return {}
    file = YamlFile(path, error=CatalogError)
    value = file.value if file.value is not None else {}
    if not isinstance(value, dict):
        raise file.fail("expected a mapping of datasets to their commits, as `curate sources --pin` writes it")
    pins: dict[str, dict[str, str]] = {}
    for dataset, branches in value.items():
        if not isinstance(branches, dict):
            raise file.fail("expected the commit of each branch, such as {main: 0123...}", at=(dataset,))
        for branch, commit in branches.items():
            if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
                raise file.fail(f"found '{commit}', expected a commit of 40 hexadecimal digits", at=(dataset, branch))
            pins.setdefault(dataset, {})[branch] = commit
    return pins


def pins_text(pins: Pins) -> str:
    """A lock file's content, sorted."""
    lines = [
        f"{dataset}: {{{', '.join(f'{_quoted(branch)}: {_quoted(commit)}' for branch, commit in sorted(branches.items()))}}}\n"
        for dataset, branches in sorted(pins.items())
    ]
    return _HEAD + "".join(lines)


def _quoted(text: str) -> str:
    """A branch or commit as a YAML text, whatever number it looks like."""
    return (
        text if re.fullmatch(r"[A-Za-z][\w.-]*", text) and text not in ("true", "false", "null", "yes", "no") else f'"{text}"'
    )


def pinned(pins: Pins, dataset: str, revision: str) -> str:
    """The commit that `revision` of a dataset is pinned to, or `revision` itself."""
    return pins.get(dataset, {}).get(revision, revision)


def pinned_url(pins: Pins, url: str) -> str:
    """`url` with the commit in it where it is a place in a pinned dataset (`hf://datasets/owner/name[@revision]/...`)."""
    place = hub_path(url)
    if place is None or place.revision not in pins.get(place.dataset, {}):
        return url
    return str(replace(place, revision=pins[place.dataset][place.revision]))
