"""The scheduled release: build what a mixture asks for, check it, and tell what changed; nothing to do is done in seconds."""

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from curation.catalog import load_catalog
from curation.errors import ShardError
from curation.mixture import load_mixture
from curation.release_difference import release_difference
from curation.runtime.pool import InProcessPool
from curation.store import Store, address, latest, read_manifest
from curation.verification import verify
from flows.artifacts import announce, show_release
from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT, shipped_file
from flows.pipeline import build


@task(task_run_name="verify {folder.name}", cache_policy=NO_CACHE, persist_result=False)
def check_release(folder: Path) -> None:
    """Recount and rehash a release. Raises ShardError when it does not hold."""
    found = verify(folder, InProcessPool())
    if found.problems:
        raise ShardError(f"{address(folder)} does not hold: {'; '.join(found.problems[:5])}")


@flow(name="release", validate_parameters=False)
def release(mixture: str, root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG, quiet: bool = False) -> Path:
    """Publish a new release of a mixture if its catalog, data or YAML changed; verify it and show what changed.

    Args:
        mixture: Path of the mixture YAML.
        root: Folder or URL of everything curation makes.
        catalog: Path of the catalog of sources.
        quiet: Show no progress.
    """
    name = load_mixture(shipped_file(mixture), load_catalog(shipped_file(catalog))).name
    parent = Store.open(root).root / "releases" / name
    before = latest(parent)
    folder = build(mixture, root, catalog, quiet)
    logger = get_run_logger()
    if folder == before:
        logger.info("nothing new: %s stays the release of %s", address(folder), name)
        return folder
    check_release(folder)
    manifest = read_manifest(folder)
    show_release(folder, manifest, release_difference(before, folder))
    announce(folder, manifest)
    logger.info("published %s: %s samples", address(folder), f"{manifest['num_samples']:,}")
    return folder
