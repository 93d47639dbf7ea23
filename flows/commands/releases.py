"""Commands on releases: `verify`, `why`, `stream`, `which`, `report`, `explore`, `leakage`."""

import sys
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from curation.runtime.progress import reporter_for
from flows.commands.app import Globals, JsonOption, app
from flows.commands.help import RELEASES


@app.command(rich_help_panel=RELEASES)
def verify(
    release: Annotated[str, typer.Argument(help="A release's folder, or its mixture's name.")], json: JsonOption = False
) -> None:
    """Recount and rehash every shard of a release against its manifest."""
    from curation.inspection.lookup import find_release
    from curation.inspection.verification import verify as check
    from curation.storage.store import Store, address
    from flows.job import verifying_pool
    from flows.views import as_json

    store = Store.at(Globals.root)
    folder = find_release(store, release)
    with verifying_pool(folder, store, is_quiet=Globals.is_quiet) as pool:
        found = check(folder, pool)
    if json:
        print(as_json(asdict(found) | {"release": address(folder)}))  # noqa: T201
    else:
        console = Console()
        for problem in found.problems:
            console.print(f"wrong: {problem}", style="red", highlight=False, markup=False)
        state = "does not hold" if found.problems else "holds"
        facts = f"{found.num_samples:,} samples, {found.num_shards} shards, {found.num_bytes:,} bytes"
        console.print(f"{address(folder)} {state}: {facts}", highlight=False, markup=False, soft_wrap=True)
    if found.problems:
        raise typer.Exit(1)


@app.command(rich_help_panel=RELEASES)
def why(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="A sample_id, or SOURCE:FILE:POSITION, or SOURCE:UPSTREAM-ID.")
    ],
    release: Annotated[str | None, typer.Option("--release", help="Look in this release only.")] = None,
    json: JsonOption = False,
) -> None:
    """The life of one sample or rejected record: origin, verdicts, twin, place in the shards."""
    from curation.inspection.lookup import find_release, look_up
    from curation.storage.store import Store
    from flows.views import as_json, show_life

    store = Store.at(Globals.root)
    lives = look_up(store, identifier, find_release(store, release) if release else None)
    if json:
        print(as_json({"id": identifier, "found": [asdict(life) for life in lives]}))  # noqa: T201
        return
    for life in lives:
        show_life(Console(soft_wrap=True), life)


ReleaseArgument = Annotated[str, typer.Argument(metavar="RELEASE", help="A release's folder or URL, or its mixture's name.")]
SeedOption = Annotated[int, typer.Option("--seed", help="The stream's seed.")]
EpochOption = Annotated[int, typer.Option("--epoch", min=0)]
ShuffleOption = Annotated[Literal["block", "full", "file"], typer.Option("--shuffle")]
KeepOption = Annotated[str | None, typer.Option("--keep", metavar="FILE.parquet", help="Only the sample_ids listed there.")]


@app.command(rich_help_panel=RELEASES)
def stream(
    release: ReleaseArgument,
    head: Annotated[int, typer.Option("--head", min=1, help="Samples to show.")] = 5,
    bench: Annotated[bool, typer.Option("--bench", help="Read for some seconds and tell how fast that was.")] = False,
    decode: Annotated[Literal["none", "pil", "turbo"], typer.Option("--decode", help="With --bench.")] = "none",
    seed: SeedOption = 0,
    epoch: EpochOption = 0,
    shuffle: ShuffleOption = "block",
    keep: KeepOption = None,
    json: JsonOption = False,
) -> None:
    """Samples of a release as a person reads them, or with --bench the speed of reading them."""
    options = {"head": head, "bench": bench, "decode": decode, "json": json}
    _inspect("stream", release, options | {"seed": seed, "epoch": epoch, "shuffle": shuffle, "keep": keep})


@app.command(rich_help_panel=RELEASES)
def which(
    release: ReleaseArgument,
    step: Annotated[int, typer.Option("--step", min=0, help="Train step of the epoch, from 0.")],
    rank: Annotated[int, typer.Option("--rank", min=0)] = 0,
    world_size: Annotated[int, typer.Option("--world-size", min=1)] = 1,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="A rank's.")] = 1,
    tail: Annotated[Literal["even", "drop", "pad"], typer.Option("--tail")] = "even",
    seed: SeedOption = 0,
    epoch: EpochOption = 0,
    shuffle: ShuffleOption = "block",
    keep: KeepOption = None,
    json: JsonOption = False,
) -> None:
    """The samples of any batch of a stream, from counts alone: no shard is opened."""
    options = {"step": step, "rank": rank, "world-size": world_size, "batch-size": batch_size, "tail": tail, "json": json}
    _inspect("which", release, options | {"seed": seed, "epoch": epoch, "shuffle": shuffle, "keep": keep})


def _inspect(command: str, release: str, options: dict[str, object]) -> None:
    from curation.errors import CurationError, StoreError
    from curation.inspection.lookup import find_release
    from curation.storage.store import Store
    from flows.inspection import inspect_stream

    try:
        found = str(find_release(Store.at(Globals.root), release))
    except CurationError as problem:  # tars of others, and releases of other roots, are streamed by folder or URL
        if "://" not in release and not Path(release).exists():
            raise StoreError(f"'{release}' is no folder, tar or URL, and no release of the root: {problem}") from None
        found = release
    status = inspect_stream(command, found, options)
    if status:
        raise typer.Exit(status)


@app.command(rich_help_panel=RELEASES)
def report(
    release: Annotated[str, typer.Argument(help="A release's folder, or its mixture's name.")], json: JsonOption = False
) -> None:
    """The data card and the report page of a release; prints their paths."""
    from curation.inspection.lookup import find_release
    from curation.report import CARD_NAME, CROISSANT_NAME, PAGE_NAME
    from curation.storage.store import Store, address
    from flows.views import as_json

    folder = find_release(Store.at(Globals.root), release)
    files = {"card": CARD_NAME, "croissant": CROISSANT_NAME, "page": PAGE_NAME}
    found = {kind: address(folder / name) for kind, name in files.items()}
    print(as_json(found) if json else "\n".join(found.values()))  # noqa: T201


@app.command(rich_help_panel=RELEASES)
def explore(
    release: Annotated[
        str | None, typer.Option("--release", help="A release's folder or mixture; the newest by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; other machines reach none but 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535, help="Port to listen at; 0 for any that is free.")] = 8765,
    json: JsonOption = False,
) -> None:
    """Search and look at samples, verdicts and rejected records on a local web page. Runs until stopped."""
    import uvicorn

    from curation.explore.index import make_index, newest_release
    from curation.explore.records import Records
    from curation.explore.search import Index
    from curation.explore.site import listen, make_site
    from curation.inspection.lookup import NotFoundError, find_release
    from curation.storage.store import Store, address, read_manifest

    store = Store.at(Globals.root)
    folder = find_release(store, release) if release else newest_release(store)
    if folder is None:
        raise NotFoundError(f"no release under {Globals.root} yet; make one with `curate build MIXTURE.yaml`")
    manifest = read_manifest(folder)
    index = Index(make_index(store, folder, reporter_for(sys.stderr, is_quiet=Globals.is_quiet)))
    records = Records(store, manifest["inputs"]["sources"])
    hosts = ["127.0.0.1", "localhost", "[::1]"] if host in ("127.0.0.1", "localhost", "::1") else ["*"]
    site = make_site(f"{manifest['name']} {folder.name}", index, records, hosts=hosts)
    listening = listen(host, port)
    url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    if json:
        # On one line: whoever started this reads on while it runs.
        print(dumps({"url": url, "mixture": folder.parent.name, "release": address(folder)}), flush=True)  # noqa: T201
    else:
        told = f"{url} shows {folder.parent.name}/{folder.name}; Ctrl-C stops it"
        Console(stderr=True).print(told, highlight=False, soft_wrap=True)
    uvicorn.Server(uvicorn.Config(site, log_level="warning")).run(sockets=[listening])


@app.command(rich_help_panel=RELEASES)
def leakage(
    release: Annotated[str, typer.Argument(help="A release's folder, or its mixture's name.")], json: JsonOption = False
) -> None:
    """How much of each benchmark the sources of a release hold, and how many samples were dropped for it."""
    from curation.inspection.lookup import NotFoundError, find_release
    from curation.storage.store import Store, read_manifest
    from flows.views import as_json, leakage_table

    rows = read_manifest(find_release(Store.at(Globals.root), release)).get("leakage")
    if rows is None:
        raise NotFoundError(
            f"{release} was held against no benchmark; say `decontaminate: all` in its mixture and build it again"
        )
    if json:
        print(as_json({"leakage": rows}))  # noqa: T201
    else:
        Console().print(leakage_table(rows))
