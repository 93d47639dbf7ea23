"""The scheduled release: build what a mixture asks for, check it, and tell what changed; nothing to do is done in seconds."""

from collections.abc import Sequence
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from curation.catalog.file import load_catalog
from curation.errors import ShardError
from curation.inspection.release_difference import release_difference
from curation.inspection.verification import verify
from curation.mixture.file import load_curriculum
from curation.steps.curriculum import releases_of
from curation.storage.store import Store, address, latest, read_manifest
from flows.artifacts import announce, show_release
from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT, mixture_file, shipped_file, verifying_pool
from flows.pipeline import TIMEOUT_SECONDS, build


@task(task_run_name="verify {folder.parent.name} {folder.name}", cache_policy=NO_CACHE, persist_result=False)
def check_release(folder: Path, store: Store) -> None:
    """Recount and rehash a release. Raises ShardError when it does not hold."""
    with verifying_pool(folder, store, is_quiet=True) as pool:
        found = verify(folder, pool)
    if found.problems:
        raise ShardError(f"{address(folder)} does not hold: {'; '.join(found.problems[:5])}")


@flow(name="release", flow_run_name="release {mixture}", validate_parameters=False, timeout_seconds=TIMEOUT_SECONDS)
def release(
    mixture: str,
    root: str = DEFAULT_ROOT,
    catalog: str = DEFAULT_CATALOG,
    quiet: bool = False,
    originals: Sequence[str] = (),
) -> Path:
    """Publish a new release of a mixture if its catalog, data or YAML changed; verify it and show what changed.

    Args:
        mixture: Path of the mixture YAML.
        root: Folder or URL of everything curation makes.
        catalog: Path of the catalog of sources.
        quiet: Show no progress.
        originals: Sources to read from their originals.
    """
    path, stage = mixture_file(mixture)
    curriculum = load_curriculum(path, load_catalog(shipped_file(catalog), originals))
    written = [curriculum.stage(stage)] if stage else curriculum.stages
    store = Store.open(root)
    parents = [store.root / "releases" / one.mixture.name for one in written]
    before = [latest(parent) for parent in parents]
    made = build(mixture, root, catalog, quiet, originals=originals)
    for earlier, folder in zip(before, releases_of(made), strict=True):
        _tell(earlier, folder, store)
    return made


def _tell(before: Path | None, folder: Path, store: Store) -> None:
    """Check and show a release that is new; say so of one that is not."""
    logger = get_run_logger()
    name = folder.parent.name
    if folder == before:
        logger.info("nothing new: %s stays the release of %s", address(folder), name)
        return
    check_release(folder, store)
    manifest = read_manifest(folder)
    show_release(folder, manifest, release_difference(before, folder))
    announce(folder, manifest)
    logger.info("published %s: %s samples", address(folder), f"{manifest['num_samples']:,}")
