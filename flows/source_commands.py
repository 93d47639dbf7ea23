"""The commands that look at sources without ingesting them: `curate try`, `curate try --guess`, `curate sources --check`."""

import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from curation.catalog.spec import Catalog, Row
from flows.views import as_json, size, table

if TYPE_CHECKING:
    from curation.upstream.pinning import Pin


def show_try(known: Catalog, name: str, head: int, *, is_json: bool) -> None:
    """Print what the first records of a source or benchmark become."""
    from curation.inspection.trial import try_row
    from flows.trial_views import show_trial, trial_document

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
    from curation.inspection.checking import check_rows, is_wrong

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


def pin(path: Path, names: Sequence[str], root: str, *, refresh: bool, is_json: bool) -> int:
    """Write the commits of the catalog's branches on the Hub beside it and print them; returns 1 when one is not known."""
    from curation.catalog.file import load_catalog
    from curation.catalog.pins import lock_file, pins_text, read_pins
    from curation.storage.store import Store, replacing
    from curation.upstream.pinning import pins_of, with_pins

    catalog = load_catalog(path, is_pinned=False)
    rows = [_row(catalog, name) for name in names] or [*catalog.sources.values(), *catalog.benchmarks.values()]
    known, store = read_pins(path), Store.if_there(root)
    pins = pins_of(catalog, rows, known, store.root if store else None, refresh=refresh)
    target = lock_file(path)
    text = pins_text(with_pins(known, pins))
    if not target.exists() or target.read_text() != text:
        with replacing(target) as temporary:
            temporary.write_text(text)
    if is_json:
        print(as_json({"lock": str(target), "pins": [asdict(found) for found in pins]}))  # noqa: T201
    else:
        cells = [(found.dataset, found.branch, found.commit or "-", _news(found)) for found in pins]
        Console().print(table(str(target), ("dataset", "branch", "commit", ""), cells, text_columns=4))
        for found in pins:
            if found.problem is not None:
                print(found.problem, file=sys.stderr)  # noqa: T201
    return int(any(found.problem is not None for found in pins))


def _news(found: "Pin") -> str:
    if found.problem is not None:
        return "not known" if found.before is None else "not asked, kept"
    if found.before is None:
        return "new"
    return "as before" if found.before == found.commit else f"was {found.before[:12]}"


def _row(catalog: Catalog, name: str) -> Row:
    """A source, or else a benchmark. Raises CatalogError naming the valid ones."""
    return catalog.benchmarks[name] if name in catalog.benchmarks else catalog.source(name)
