"""Commands on mixtures: `plan`, `stats`, `diff`, `build`, `dups`, `serve`."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from curation.errors import CurationError
from flows.commands.app import CountsOption, Globals, JsonOption, MixtureArgument, app, open_catalog
from flows.commands.help import DATA, MIXING, WATCHING
from flows.embedded_server import embedded_server
from flows.job import mixture_file


@app.command(rich_help_panel=MIXING)
def plan(
    mixture: MixtureArgument,
    counts: CountsOption = "ingested",
    json: JsonOption = False,
    html: Annotated[str | None, typer.Option("--html", metavar="FILE", help="Also draw the plan as a page.")] = None,
) -> None:
    """Dry run: what each source and category would give. Touches no picture."""
    from curation.mixture.file import load_curriculum
    from curation.planning.plan import curriculum_document
    from flows.comparing import documented, planned
    from flows.views import as_json

    known = open_catalog()
    path, stage = mixture_file(mixture)
    curriculum = load_curriculum(path, known)
    wanted = [curriculum.stage(stage)] if stage else curriculum.stages
    documents = {written.stage or "": documented(planned(written, known, counts, Globals.root), known) for written in wanted}
    document = curriculum_document(curriculum.name, documents) if len(documents) > 1 else next(iter(documents.values()))
    if html is not None:
        from curation.planning.page import write_plan_page

        write_plan_page(Path(html), list(documents.values()))
        print(html, file=sys.stderr)  # noqa: T201
    if json:
        print(as_json(document))  # noqa: T201
        return
    from flows.plan_views import show_plan

    for part in documents.values():
        show_plan(Console(), part)


@app.command(rich_help_panel=DATA)
def stats(
    names: Annotated[list[str] | None, typer.Argument(metavar="SOURCE...", help="All that are ingested by default.")] = None,
    json: JsonOption = False,
) -> None:
    """Lengths and sizes of the ingested samples, by source and category; reads Parquet piece by piece."""
    from curation.inspection.statistics import EMPTY, KEYS, pieces, statistics, tally
    from curation.runtime.frames import summed
    from curation.storage.store import Store, latest
    from flows.statistics_views import show_statistics
    from flows.views import as_json

    known, store = open_catalog(), Store.at(Globals.root)
    rows = [known.source(name) for name in names or known.sources]
    folders = {row.name: latest(store.root / "sources" / row.name) for row in rows}
    samples = {name: sorted(folder.glob("samples-*.parquet")) for name, folder in folders.items() if folder is not None}
    if not samples:
        raise CurationError(f"nothing of {', '.join(folders)} is ingested under {Globals.root}; run `curate ingest` first")
    categories = {row.name: row.category.value for row in rows if row.name in samples}
    document = statistics(summed(pieces(samples), tally, EMPTY, KEYS), categories)
    if json:
        print(as_json(document))  # noqa: T201
        return
    show_statistics(Console(), document)


@app.command(rich_help_panel=MIXING)
def diff(
    before: Annotated[str, typer.Argument(metavar="A.yaml")],
    after: Annotated[str, typer.Argument(metavar="B.yaml")],
    counts: CountsOption = "ingested",
    json: JsonOption = False,
) -> None:
    """What changes between two mixtures: samples entering and leaving, by source and category."""
    from curation.mixture.file import load_written
    from curation.planning.difference import plan_difference
    from flows.comparing import planned
    from flows.views import as_json, table

    known = open_catalog()
    files = (mixture_file(name) for name in (before, after))
    left, right = (planned(load_written(path, known, stage), known, counts, Globals.root) for path, stage in files)
    document = plan_difference(left, right, known) | {"warnings": [*left.counts.warnings, *right.counts.warnings]}
    document["warnings"] = list(dict.fromkeys(document["warnings"]))
    if not document["exact"]:
        document["warnings"].append("the mixtures pick differently and no facts are stored: figures are the least that changes")
    if json:
        print(as_json(document))  # noqa: T201
        return
    for kind, title in (("categories", "category"), ("sources", "source")):
        rows = [(name, *entry.values()) for name, entry in document[kind].items()]
        if kind == "sources":
            Console().print()
        else:
            rows.append(("total", *document["total"].values(), *document["changed"].values()))
        Console().print(table(f"by {title}", (title, "before", "after", "entering", "leaving"), rows))
    for warning in document["warnings"]:
        Console().print(f"warning: {warning}", style="yellow", highlight=False, markup=False)


@app.command(rich_help_panel=MIXING)
def build(
    mixture: MixtureArgument,
    accept: Annotated[
        list[str] | None, typer.Option("--accept", metavar="SOURCE", help="Go on although the guard stops at this source.")
    ] = None,
    require_license: Annotated[
        bool, typer.Option("--require-license", help="Refuse sources whose licence is unknown.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Everything a release needs, in order, skipping what is done. The last line on stdout is the release's path."""
    from curation.mixture.file import load_curriculum
    from curation.planning.plan import require_licences
    from curation.storage.store import Store, address, read_manifest
    from flows.views import as_json, conservation_table

    Store.open(Globals.root)
    known = open_catalog()
    path, stage = mixture_file(mixture)
    curriculum = load_curriculum(path, known)  # before anything is started
    for name in accept or ():
        known.source(name)
    if require_license:
        for written in [curriculum.stage(stage)] if stage else curriculum.stages:
            require_licences(written.mixture, known)
    with embedded_server() as ready:
        from flows.pipeline import build as flow

        ready()
        release = flow(mixture, Globals.root, Globals.catalog, Globals.is_quiet, tuple(accept or ()), Globals.originals)
    from curation.steps.curriculum import releases_of

    manifests = {address(folder): read_manifest(folder) for folder in releases_of(release)}
    if json:
        shown = ("name", "fingerprint", "num_samples", "num_bytes", "conservation", "warnings")
        built = [{"path": path, **{key: manifest[key] for key in shown}} for path, manifest in manifests.items()]
        print(as_json({"path": address(release), "releases": built}))  # noqa: T201
        return
    console = Console(stderr=True, quiet=Globals.is_quiet)
    for manifest in manifests.values():
        console.print(conservation_table(manifest["conservation"], manifest["sources"]))
        size = manifest["num_bytes"] / 1e6
        facts = f"{manifest['num_samples']:,} samples in {len(manifest['shards'])} shards, {size:,.1f} MB"
        console.print(facts, highlight=False)
        for warning in manifest["warnings"]:
            console.print(f"warning: {warning}", style="yellow", highlight=False, markup=False)
    print(address(release))  # noqa: T201


@app.command(rich_help_panel=MIXING)
def dups(
    mixture: MixtureArgument,
    sample: Annotated[int, typer.Option("--sample", min=1, help="How many clusters to show.")] = 5,
    kind: Annotated[
        str | None,
        typer.Option(
            "--kind", help="Only exact_duplicate, near_duplicate, semantic_duplicate, repeated_turns or conflicting_answer."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Clusters of duplicates in a mixture's pool, as a person reads them: what was kept, and what was dropped for it."""
    from curation.inspection.clusters import clusters
    from curation.mixture.file import load_mixture
    from curation.storage.store import Store
    from flows.job import mixture_file
    from flows.views import as_json, show_clusters

    known = open_catalog()
    path, stage = mixture_file(mixture)
    spec = load_mixture(path, known, stage)
    found = clusters(Store.at(Globals.root), known, spec, sample, kind)
    if json:
        print(as_json({"mixture": spec.name} | asdict(found)))  # noqa: T201
        return
    show_clusters(Console(soft_wrap=True), found)


@app.command(rich_help_panel=WATCHING)
def serve(mixture: MixtureArgument = "mixtures/cambrian-10m.yaml") -> None:
    """Serve the scheduled flows: nightly ingestion, and a weekly release of MIXTURE. Runs until stopped."""
    from curation.mixture.file import load_curriculum

    path, stage = mixture_file(mixture)
    load_curriculum(path, open_catalog()).stage(stage)
    from flows.schedules import serve_schedules

    serve_schedules(mixture, Globals.root, Globals.catalog, Globals.originals)
