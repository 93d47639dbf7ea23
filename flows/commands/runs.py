"""Commands on the runs of a root: `runs`, `metrics`."""

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Globals, JsonOption, app
from flows.commands.help import WATCHING


@app.command(rich_help_panel=WATCHING)
def runs(
    run: Annotated[str | None, typer.Argument(metavar="RUN", help="One run, step by step; all by default.")] = None,
    last: Annotated[int, typer.Option("--last", min=1, help="How many of the newest runs to show.")] = 20,
    json: JsonOption = False,
) -> None:
    """What was run on this root, when, and how it ended."""
    from curation.inspection.lookup import NotFoundError
    from curation.run_log import runs as logged
    from curation.storage.store import Store
    from flows.run_views import show_run, show_runs
    from flows.views import as_json

    found = logged(Store.at(Globals.root), None if run else last)
    if run is not None:
        found = [one for one in found if one.run.startswith(run)]
        if not found:
            raise NotFoundError(f"no run '{run}' under {Globals.root}; `curate runs` lists them")
    if json:
        print(as_json({"runs": [asdict(one) for one in found]}))  # noqa: T201
    elif run is not None:
        for one in found:
            show_run(Console(), one)
    else:
        show_runs(Console(), found)


@app.command(rich_help_panel=WATCHING)
def metrics(json: JsonOption = False) -> None:
    """Counters of the root's runs, sources and releases as Prometheus text."""
    from curation.run_metrics import metrics_document, prometheus_text
    from curation.storage.store import Store
    from flows.views import as_json

    store = Store.at(Globals.root)
    if json:
        print(as_json({"metrics": metrics_document(store)}))  # noqa: T201
    else:
        print(prometheus_text(store), end="")  # noqa: T201
