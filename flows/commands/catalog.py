"""Commands on the catalog and its sources: `sources`, `try`, `ingest`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from flows.commands.app import Globals, JsonOption, app, open_catalog, own_catalog
from flows.commands.help import DATA
from flows.embedded_server import embedded_server


@app.command(rich_help_panel=DATA)
def sources(
    names: Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help="All by default.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask where the sources lie: reachable, size, revision, licence, count.")
    ] = False,
    pin: Annotated[
        bool, typer.Option("--pin", help="Write the commits that branches on the Hub mean beside the catalog, as `.lock`.")
    ] = False,
    refresh: Annotated[bool, typer.Option("--refresh", help="With --pin: ask the Hub anew for what is pinned.")] = False,
    json: JsonOption = False,
) -> None:
    """The catalog: what there is, and what of it is ingested."""
    from curation.inspection.inventory import inventory
    from curation.storage.store import Store
    from flows.views import as_json, cut_to_fit, shortened, shorter, table

    if (check and pin) or (refresh and not pin):
        raise typer.BadParameter("give one of --check and --pin; --refresh goes with --pin")
    if pin:
        from flows.source_commands import pin as write_pins

        raise typer.Exit(write_pins(own_catalog(), names or (), Globals.root, refresh=refresh, is_json=json))
    known = open_catalog()
    if check:
        from flows.source_commands import show_check

        raise typer.Exit(show_check(known, names or (), is_json=json))
    rows = inventory(known, Store.if_there(Globals.root), names or ())
    if json:
        print(as_json({"sources": rows}))  # noqa: T201
        return
    columns = ("source", "category", "licence", "location", "state", "expected", "samples", "rejected")
    keys = ("source", "category", "license", "location", "state", "expected", "samples", "rejected")
    states = {"not ingested": "-", "count differs": "differs"}
    shown = [
        {
            **row,
            "location": shortened(row["location"][0]),
            "license": shorter(row["license"]),
            "state": states.get(row["state"], row["state"]),
        }
        for row in rows
    ]
    cells = [["-" if row[key] is None else row[key] for key in keys] for row in shown]
    console = Console()
    cells = cut_to_fit(columns, cells, "location", console.width)
    console.print(table(f"catalog {Globals.catalog}", columns, cells, text_columns=5, is_tight=True))


@app.command(name="try", rich_help_panel=DATA)
def try_(
    source: Annotated[str | None, typer.Argument(metavar="SOURCE", help="A source or benchmark of the catalog.")] = None,
    head: Annotated[int, typer.Option("--head", metavar="N", min=1, max=10_000, help="Records of each part.")] = 20,
    guess: Annotated[
        str | None, typer.Option("--guess", metavar="PATH", help="Suggest a catalog row for a folder or file.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """What a source's first records become, or a row for unknown data. Writes nothing, ingests nothing."""
    from flows.source_commands import show_guess, show_try

    if (source is None) == (guess is None):
        raise typer.BadParameter("give either SOURCE or --guess PATH")
    if guess is not None:
        show_guess(Path(guess), Path(Globals.catalog), is_json=json)
    elif source is not None:
        show_try(open_catalog(), source, head, is_json=json)


@app.command(rich_help_panel=DATA)
def ingest(
    names: Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help="All by default.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask again what branches, buckets and URLs hold now.")] = False,
    json: JsonOption = False,
) -> None:
    """Upstream data to checked samples and a quarantine."""
    from curation.inspection.inventory import ingest_summary
    from curation.storage.store import Store, address
    from flows.views import as_json, table

    Store.open(Globals.root)
    known = open_catalog()
    for name in names or ():
        known.source(name)  # a misspelt name is told at once, not after the flow has started
    with embedded_server() as ready:
        from flows.pipeline import ingest as flow

        ready()
        artefacts = flow(tuple(names or ()), Globals.root, Globals.catalog, Globals.is_quiet, refresh, Globals.originals)
    if json:
        found = {
            name: {"folder": address(artefact.folder), "counts": artefact.manifest["counts"]}
            for name, artefact in artefacts.items()
        }
        print(as_json({"sources": found}))  # noqa: T201
        return
    columns = ("source", "records", "samples", "rejected", "reasons")
    rows = [ingest_summary(name, artefact.manifest) for name, artefact in artefacts.items()]
    Console().print(table("ingested", columns, rows))
