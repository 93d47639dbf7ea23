"""The command `curate` itself: its options, and what its commands share."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.environment import prepare_environment
from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT, shipped_file

if TYPE_CHECKING:
    from curation.catalog import Catalog

app = typer.Typer(
    name="curate",
    help="Curate and mix multimodal instruction data into WebDataset shards.",
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
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout and nothing else there.")]
MixtureArgument = Annotated[str, typer.Argument(metavar="MIXTURE.yaml", help="A mixture, such as mixtures/demo.yaml.")]
CountsOption = Annotated[Literal["ingested", "published"], typer.Option(help="What the plan is made on.")]


class Globals:
    """What the options in front of the command say."""

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
    Globals.root, Globals.catalog, Globals.is_quiet = root, catalog, quiet
    prepare_environment(verbosity=verbose)


def open_catalog() -> "Catalog":
    """The catalog that `--catalog` names. Raises CatalogError."""
    from curation.catalog import load_catalog

    return load_catalog(shipped_file(Globals.catalog))
