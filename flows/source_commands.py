"""The commands that look at sources without ingesting them: `curate try`, `curate try --guess`, `curate sources --check`."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from curation.catalog import Catalog, Row, load_catalog
from flows.views import as_json, size, table


def show_try(name: str, catalog: Path, head: int, *, is_json: bool) -> None:
    """Print what the first records of a source or benchmark become."""
    from curation.trial import try_row
    from flows.trial_views import show_trial, trial_document

    known = load_catalog(catalog)
    trial = try_row(known, _row(known, name), head)
    if is_json:
        print(as_json(trial_document(trial)))  # noqa: T201
    else:
        show_trial(Console(), trial)


def show_guess(path: Path, catalog: Path, *, is_json: bool) -> None:
    """Print a suggested row as YAML; its root is relative to the catalog's folder where it lies below that."""
    from curation.guessing.suggest import guess
    from flows.trial_views import guess_document

    found = guess(path)
    folder = path.resolve() if path.is_dir() else path.resolve().parent
    home = catalog.resolve().parent
    root = os.path.relpath(folder, home) if folder.is_relative_to(home) else str(folder)
    print(as_json(guess_document(found, root)) if is_json else found.as_yaml(root), end="\n" if is_json else "")  # noqa: T201


def show_check(catalog: Catalog, names: Sequence[str], *, is_json: bool) -> int:
    """Print how sources (all by default) and benchmarks compare with the catalog; returns 1 when one is at odds with it."""
    from curation.checking import check_rows, is_wrong

    rows = [_row(catalog, name) for name in names] or [*catalog.sources.values(), *catalog.benchmarks.values()]
    documents = check_rows(catalog, rows)
    if is_json:
        print(as_json({"sources": documents}))  # noqa: T201
    else:
        columns = ("source", "licence", "state", "size", "records", "expected")
        keys = ("source", "license", "state", "size", "records", "expected")
        shown = [{**document, "size": size(document["num_bytes"])} for document in documents]
        cells = [["-" if document[key] is None else document[key] for key in keys] for document in shown]
        Console().print(table("check of the catalog", columns, cells, text_columns=3))
        for document in documents:
            for detail in document["details"] if is_wrong(document) else ():
                print(f"{document['source']}: {detail}", file=sys.stderr)  # noqa: T201
    return int(any(map(is_wrong, documents)))


def _row(catalog: Catalog, name: str) -> Row:
    """A source, or else a benchmark. Raises CatalogError naming the valid ones."""
    return catalog.benchmarks[name] if name in catalog.benchmarks else catalog.source(name)
