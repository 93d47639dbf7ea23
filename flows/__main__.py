"""The command `curate`. Results go to stdout, progress and messages to stderr; exit 0 done, 1 failed, 2 wrong usage."""

import errno
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from curation.errors import CurationError
from flows.environment import prepare_environment
from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT, mixture_file, open_pool, shipped_file

if TYPE_CHECKING:
    from curation.catalog import Catalog

app = typer.Typer(
    name="curate",
    help="Curate and mix multimodal instruction data into WebDataset shards.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
_DISK_ERRORS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "read-only file system",
}

RootOption = Annotated[
    str,
    typer.Option(
        "--root", envvar="CURATION_ROOT", help="Folder, or URL such as s3://bucket/prefix, of everything curation makes."
    ),
]
CatalogOption = Annotated[str, typer.Option("--catalog", envvar="CURATION_CATALOG", help="The catalog of sources.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
MixtureArgument = Annotated[str, typer.Argument(metavar="MIXTURE.yaml", help="A mixture, such as mixtures/demo.yaml.")]


CountsOption = Annotated[Literal["ingested", "published"], typer.Option(help="What the plan is made on.")]


class _Globals:
    root = DEFAULT_ROOT
    catalog = DEFAULT_CATALOG
    is_quiet = False


@app.callback()
def settings(
    root: RootOption = DEFAULT_ROOT,
    catalog: CatalogOption = DEFAULT_CATALOG,
    verbose: Annotated[int, typer.Option("--verbose", "-v", count=True, help="Let Prefect and Ray speak.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Curate and mix multimodal instruction data into WebDataset shards."""
    _Globals.root, _Globals.catalog, _Globals.is_quiet = root, catalog, quiet
    prepare_environment(verbosity=verbose)


@app.command()
def sources(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE...]", help="All by default.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Ask where the sources lie: reachable, size, revision, licence, count.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """The catalog: what there is, and what of it is ingested."""
    from curation.catalog import load_catalog
    from curation.inventory import inventory
    from curation.store import Store
    from flows.views import as_json, shortened, table

    known = load_catalog(shipped_file(_Globals.catalog))
    if check:
        from flows.source_commands import show_check

        raise typer.Exit(show_check(known, names or (), is_json=json))
    rows = inventory(known, Store.if_there(_Globals.root), names or ())
    if json:
        print(as_json({"sources": rows}))  # noqa: T201
        return
    columns = ("source", "category", "licence", "location", "state", "expected", "samples", "rejected")
    keys = ("source", "category", "license", "location", "state", "expected", "samples", "rejected")
    shown = [{**row, "location": shortened(row["location"][0])} for row in rows]
    cells = [["-" if row[key] is None else row[key] for key in keys] for row in shown]
    Console().print(table(f"catalog {_Globals.catalog}", columns, cells, text_columns=5))


@app.command(name="try")
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
        show_guess(Path(guess), Path(_Globals.catalog), is_json=json)
    elif source is not None:
        show_try(source, Path(shipped_file(_Globals.catalog)), head, is_json=json)


@app.command()
def ingest(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE...]", help="All by default.")] = None,
    refresh: Annotated[bool, typer.Option("--refresh", help="Ask again what branches, buckets and URLs hold now.")] = False,
) -> None:
    """Upstream data to checked samples and a quarantine."""
    from curation.catalog import load_catalog
    from curation.inventory import ingest_summary
    from curation.store import Store
    from flows.views import table

    Store.open(_Globals.root)
    known = load_catalog(shipped_file(_Globals.catalog))
    for name in names or ():
        known.source(name)  # a misspelt name is told at once, not after the flow has started
    from flows.pipeline import ingest as flow

    artefacts = flow(tuple(names or ()), _Globals.root, _Globals.catalog, _Globals.is_quiet, refresh)
    columns = ("source", "records", "samples", "rejected", "reasons")
    rows = [ingest_summary(name, artefact.manifest) for name, artefact in artefacts.items()]
    Console().print(table("ingested", columns, rows))


@app.command()
def plan(
    mixture: MixtureArgument,
    counts: CountsOption = "ingested",
    json: JsonOption = False,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Also draw the plan as a page.")] = None,
) -> None:
    """Dry run: what each source and category would give. Touches no picture."""
    from curation.mixture_file import load_curriculum
    from curation.planning import curriculum_document
    from flows.comparing import documented, planned
    from flows.views import as_json

    known = _catalog()
    path, stage = mixture_file(mixture)
    curriculum = load_curriculum(path, known)
    wanted = [curriculum.stage(stage)] if stage else curriculum.stages
    documents = {written.stage or "": documented(planned(written, known, counts, _Globals.root), known) for written in wanted}
    document = curriculum_document(curriculum.name, documents) if len(documents) > 1 else next(iter(documents.values()))
    if html is not None:
        from curation.plan_page import write_plan_page

        write_plan_page(Path(html), list(documents.values()))
        print(html, file=sys.stderr)  # noqa: T201
    if json:
        print(as_json(document))  # noqa: T201
        return
    from flows.plan_views import show_plan

    for part in documents.values():
        show_plan(Console(), part)


@app.command()
def stats(
    names: Annotated[list[str] | None, typer.Argument(metavar="[SOURCE...]", help="All that are ingested by default.")] = None,
    json: JsonOption = False,
) -> None:
    """Lengths and sizes of the ingested samples, by source and category; reads Parquet piece by piece."""
    from curation.runtime.frames import summed
    from curation.statistics import EMPTY, KEYS, pieces, statistics, tally
    from curation.store import Store, latest
    from flows.statistics_views import show_statistics
    from flows.views import as_json

    known, store = _catalog(), Store.at(_Globals.root)
    rows = [known.source(name) for name in names or known.sources]
    folders = {row.name: latest(store.root / "sources" / row.name) for row in rows}
    samples = {name: sorted(folder.glob("samples-*.parquet")) for name, folder in folders.items() if folder is not None}
    if not samples:
        raise CurationError(f"nothing of {', '.join(folders)} is ingested under {_Globals.root}; run `curate ingest` first")
    categories = {row.name: row.category.value for row in rows if row.name in samples}
    document = statistics(summed(pieces(samples), tally, EMPTY, KEYS), categories)
    if json:
        print(as_json(document))  # noqa: T201
        return
    show_statistics(Console(), document)


@app.command()
def diff(
    before: Annotated[str, typer.Argument(metavar="A.yaml")],
    after: Annotated[str, typer.Argument(metavar="B.yaml")],
    counts: CountsOption = "ingested",
    json: JsonOption = False,
) -> None:
    """What changes between two mixtures: samples entering and leaving, by source and category."""
    from curation.difference import plan_difference
    from curation.mixture_file import load_written
    from flows.comparing import planned
    from flows.views import as_json, table

    known = _catalog()
    files = (mixture_file(name) for name in (before, after))
    left, right = (planned(load_written(path, known, stage), known, counts, _Globals.root) for path, stage in files)
    document = plan_difference(left, right, known) | {"warnings": [*left.counts.warnings, *right.counts.warnings]}
    document["warnings"] = list(dict.fromkeys(document["warnings"]))
    if not document["exact"]:
        document["warnings"].append("the mixtures pick differently and no facts are stored: figures are the least that changes")
    if json:
        print(as_json(document))  # noqa: T201
        return
    for kind, title in (("categories", "category"), ("sources", "source")):
        rows = [(name, *entry.values()) for name, entry in document[kind].items()]
        if kind == "categories":
            rows.append(("total", *document["total"].values(), *document["changed"].values()))
        Console().print(table(f"by {title}", (title, "before", "after", "entering", "leaving"), rows))
    for warning in document["warnings"]:
        Console().print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


@app.command()
def build(
    mixture: MixtureArgument,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", metavar="SOURCE", help="Go on although the guard stops at this source.")
    ] = None,
    require_license: Annotated[
        bool, typer.Option("--require-license", help="Refuse sources whose licence is unknown.")
    ] = False,
) -> None:
    """Everything a release needs, in order, skipping what is done. The last line on stdout is the release's path."""
    from curation.mixture_file import load_curriculum
    from curation.planning import require_licences
    from curation.store import Store, address, read_manifest
    from flows.views import conservation_table

    Store.open(_Globals.root)
    known = _catalog()
    path, stage = mixture_file(mixture)
    curriculum = load_curriculum(path, known)  # before anything is started
    for name in accept or ():
        known.source(name)
    if require_license:
        for written in [curriculum.stage(stage)] if stage else curriculum.stages:
            require_licences(written.mixture, known)
    from flows.pipeline import build as flow

    release = flow(mixture, _Globals.root, _Globals.catalog, _Globals.is_quiet, tuple(accept or ()))
    console = Console(stderr=True, quiet=_Globals.is_quiet)
    from curation.steps.curriculum import releases_of

    for folder in releases_of(release):
        manifest = read_manifest(folder)
        console.print(conservation_table(manifest["conservation"], manifest["sources"]))
        size = manifest["num_bytes"] / 1e6
        facts = f"{manifest['num_samples']:,} samples in {len(manifest['shards'])} shards, {size:,.1f} MB"
        console.print(facts, highlight=False)
        for warning in manifest["warnings"]:
            console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    print(address(release))  # noqa: T201


@app.command()
def verify(
    release: Annotated[str, typer.Argument(help="A release's folder, or its mixture's name.")], json: JsonOption = False
) -> None:
    """Recount and rehash every shard of a release against its manifest."""
    from curation.lookup import find_release
    from curation.runtime.pool import InProcessPool
    from curation.store import Store, address
    from curation.verification import verify as check
    from flows.views import as_json

    folder = find_release(Store.at(_Globals.root), release)
    found = check(folder, InProcessPool(open_pool(is_quiet=_Globals.is_quiet).reporter))
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


@app.command()
def why(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="A sample_id, or SOURCE:FILE:POSITION, or SOURCE:UPSTREAM-ID.")
    ],
    release: Annotated[str | None, typer.Option("--release", help="Look in this release only.")] = None,
    json: JsonOption = False,
) -> None:
    """The life of one sample or rejected record: origin, verdicts, twin, place in the shards."""
    from curation.lookup import find_release, look_up
    from curation.store import Store
    from flows.views import as_json, show_life

    store = Store.at(_Globals.root)
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


@app.command()
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


@app.command()
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
    from curation.lookup import find_release
    from curation.store import Store
    from flows.inspection import inspect_stream

    found = release if "://" in release or Path(release).exists() else find_release(Store.at(_Globals.root), release)
    status = inspect_stream(command, str(found), options)
    if status:
        raise typer.Exit(status)


@app.command()
def dups(
    mixture: MixtureArgument,
    sample: Annotated[int, typer.Option("--sample", min=1, help="How many clusters to show.")] = 5,
    kind: Annotated[
        str | None, typer.Option("--kind", help="Only exact_duplicate, near_duplicate, repeated_turns or conflicting_answer.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Clusters of duplicates in a mixture's pool, as a person reads them: what was kept, and what was dropped for it."""
    from curation.catalog import load_catalog
    from curation.clusters import clusters
    from curation.mixture_file import load_mixture
    from curation.store import Store
    from flows.job import mixture_file
    from flows.views import as_json, show_clusters

    known = load_catalog(shipped_file(_Globals.catalog))
    path, stage = mixture_file(mixture)
    spec = load_mixture(path, known, stage)
    found = clusters(Store.at(_Globals.root), known, spec, sample, kind)
    if json:
        print(as_json({"mixture": spec.name} | asdict(found)))  # noqa: T201
        return
    show_clusters(Console(soft_wrap=True), found)


@app.command()
def report(release: Annotated[str, typer.Argument(help="A release's folder, or its mixture's name.")]) -> None:
    """The data card and the report page of a release; prints their paths."""
    from curation.lookup import find_release
    from curation.report import CARD_NAME, CROISSANT_NAME, PAGE_NAME
    from curation.store import Store, address

    folder = find_release(Store.at(_Globals.root), release)
    for name in (CARD_NAME, CROISSANT_NAME, PAGE_NAME):
        print(address(folder / name))  # noqa: T201


@app.command()
def explore(
    release: Annotated[
        str | None, typer.Option("--release", help="A release's folder or mixture; the newest by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; other machines reach none but 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8765,
) -> None:
    """Search and look at samples, verdicts and rejected records on a local web page. Runs until stopped."""
    import uvicorn

    from curation.explore.index import make_index, newest_release
    from curation.explore.records import Records
    from curation.explore.search import Index
    from curation.explore.site import make_site
    from curation.lookup import NotFoundError, find_release
    from curation.store import Store, read_manifest

    store = Store.at(_Globals.root)
    folder = find_release(store, release) if release else newest_release(store)
    if folder is None:
        raise NotFoundError(f"no release under {_Globals.root} yet; make one with `curate build MIXTURE.yaml`")
    manifest = read_manifest(folder)
    index = Index(make_index(store, folder, open_pool(is_quiet=_Globals.is_quiet).reporter))
    records = Records(store, manifest["inputs"]["sources"])
    hosts = ["127.0.0.1", "localhost", "[::1]"] if host in ("127.0.0.1", "localhost", "::1") else ["*"]
    site = make_site(f"{manifest['name']} {folder.name}", index, records, hosts=hosts)
    Console(stderr=True).print(
        f"http://{host}:{port}/ shows {folder.parent.name}/{folder.name}; Ctrl-C stops it", highlight=False
    )
    uvicorn.run(site, host=host, port=port, log_level="warning")


@app.command()
def leakage(
    release: Annotated[str, typer.Argument(help="A release's folder, or its mixture's name.")], json: JsonOption = False
) -> None:
    """How much of each benchmark the sources of a release hold, and how many samples were dropped for it."""
    from curation.lookup import find_release
    from curation.store import Store, read_manifest
    from flows.views import as_json, leakage_table

    rows = read_manifest(find_release(Store.at(_Globals.root), release)).get("leakage")
    if rows is None:
        _fail(f"{release} was held against no benchmark; say `decontaminate: all` in its mixture and build it again", 1)
    elif json:
        print(as_json({"leakage": rows}))  # noqa: T201
    else:
        Console().print(leakage_table(rows))


@app.command()
def serve(mixture: MixtureArgument = "mixtures/cambrian-10m.yaml") -> None:
    """Serve the scheduled flows: nightly ingestion, and a weekly release of MIXTURE. Runs until stopped."""
    from curation.mixture_file import load_curriculum

    path, stage = mixture_file(mixture)
    load_curriculum(path, _catalog()).stage(stage)
    from flows.schedules import serve_schedules

    serve_schedules(mixture, _Globals.root, _Globals.catalog)


def _catalog() -> "Catalog":
    from curation.catalog import load_catalog

    return load_catalog(shipped_file(_Globals.catalog))


def main() -> None:
    """Run the command line; what a user can mend is told in one paragraph, without a traceback."""
    try:
        app()
    except CurationError as problem:
        _fail(str(problem), problem.exit_code)
    except OSError as problem:
        if problem.errno not in _DISK_ERRORS and not isinstance(problem, PermissionError):
            raise
        reason = _DISK_ERRORS.get(problem.errno or 0, "no permission")
        where = problem.filename or Path(_Globals.root)
        _fail(f"{where}: {reason}. Nothing half-done was published; make room or access and run the same command again.", 1)
    except KeyboardInterrupt:
        _fail("stopped. What is finished is kept; the same command goes on from there.", 130)


def _fail(message: str, code: int) -> None:
    print(f"curate: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(code)


if __name__ == "__main__":
    main()
