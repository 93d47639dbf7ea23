"""The command `curate` itself: its options, and what its commands share."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from curation.runtime.settings import FILE_VARIABLE
from flows.commands.help import GroupedHelp
from flows.environment import prepare_environment
from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT, shipped_file

if TYPE_CHECKING:
    from curation.catalog.spec import Catalog

_HELP = """Curate and mix multimodal instruction data into WebDataset shards.

\b
catalog -> ingest -> clean -> dedup -> decontaminate -> mix -> shard -> stream
"""
_EXAMPLES = """\b
A first look, from nothing to a release and its report:
  curate try SOURCE                      what a source's first records become
  curate ingest SOURCE                   fetch, check and keep them
  curate plan MIXTURE.yaml               what a mixture would give
  curate build MIXTURE.yaml              make its release; prints the path
  curate explore                         look at it in a browser

\b
Say once where things lie: export CURATION_ROOT=... CURATION_CATALOG=...
Then curate COMMAND --help. Exit status: 0 done or holds, 1 failed or does not
hold, 2 wrong usage or settings. A stopped command goes on when run again.
"""

app = typer.Typer(
    name="curate",
    cls=GroupedHelp,
    help=_HELP,
    epilog=_EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

RootOption = Annotated[
    str,
    typer.Option(
        "--root", envvar="CURATION_ROOT", help="Folder, or URL such as s3://bucket/prefix, of everything curation makes."
    ),
]
CatalogOption = Annotated[str, typer.Option("--catalog", envvar="CURATION_CATALOG", help="The catalog of sources.")]
RuntimeOption = Annotated[
    str | None, typer.Option("--runtime", metavar="FILE", help="Where and how fast to compute; also CURATION_RUNTIME_FILE.")
]
OriginalsOption = Annotated[
    str,
    typer.Option(
        "--originals",
        metavar="SOURCE,...|all",
        envvar="CURATION_ORIGINALS",
        help="Sources to read from their original places in place of a release.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
MixtureArgument = Annotated[str, typer.Argument(metavar="MIXTURE.yaml", help="A mixture, such as mixtures/demo.yaml.")]
CountsOption = Annotated[Literal["ingested", "published"], typer.Option(help="What the plan is made on.")]


class Globals:
    """What the options in front of the command say."""

    root = DEFAULT_ROOT
    catalog = DEFAULT_CATALOG
    originals: tuple[str, ...] = ()
    is_quiet = False


@app.callback(cls=GroupedHelp, help=_HELP, epilog=_EXAMPLES)
def settings(
    root: RootOption = DEFAULT_ROOT,
    catalog: CatalogOption = DEFAULT_CATALOG,
    originals: OriginalsOption = "",
    runtime: RuntimeOption = None,
    verbose: Annotated[
        int,
        typer.Option("--verbose", "-v", count=True, show_default=False, help="Say what is done, step by step; -vv: in detail."),
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors only.")] = False,
) -> None:
    """Keep what stands before the command's name for the commands."""
    Globals.root, Globals.catalog, Globals.is_quiet = root, catalog, quiet
    Globals.originals = tuple(name for text in originals.split(",") if (name := text.strip()))
    if runtime is not None:
        os.environ[FILE_VARIABLE] = str(Path(runtime).absolute())
    prepare_environment(verbosity=verbose, is_quiet=quiet)


def open_catalog() -> "Catalog":
    """The catalog that `--catalog` names, with the originals that `--originals` does. Raises CatalogError."""
    from curation.catalog.file import load_catalog

    return load_catalog(shipped_file(Globals.catalog), Globals.originals)


def own_catalog() -> Path:
    """The catalog file that `--catalog` names, to write beside it. Raises CatalogError for the package's own."""
    from curation.errors import CatalogError

    path = Path(Globals.catalog)
    shipped = shipped_file(Globals.catalog)
    if not path.exists() and shipped != path:
        raise CatalogError(f"{path} came with the package; copy it here first (cp {shipped} .) and pin the copy")
    return path
