"""The flows: which steps run in which order. One Prefect task a stage and source; rows and pictures are for the steps.

Tasks that reach beyond this machine get retries; reading local files does not, since it would fail the same way again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from curation.catalog import Source
from curation.mixture import Mixture, load_mixture
from curation.steps.clean import Clean
from curation.steps.deduplicate import Deduplicate
from curation.steps.ingest import Ingest
from curation.steps.shard import Shard
from curation.steps.step import Artefact
from flows.artifacts import show_ingested
from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT, Job, open_job, shipped_file

SOURCES_AT_ONCE = 4
"""Sources under way together: small ones leave cores idle between their passes."""


def _threads() -> TaskRunner[PrefectFuture[Any]]:
    """A fresh runner a flow; the steps' own work happens in the pool, so threads only wait."""
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=SOURCES_AT_ONCE)
    return runner  # type: ignore[return-value]  # Prefect types its own runner as no TaskRunner[PrefectFuture]


@task(task_run_name="ingest {source.name}", cache_policy=NO_CACHE, persist_result=False)
def ingest_source(source: Source, job: Job) -> Artefact:
    """Checked samples of one source."""
    return Ingest(job.catalog, source).run(job.store, job.pool)


@task(task_run_name="clean {source.name}", cache_policy=NO_CACHE, persist_result=False)
def clean_source(source: Source, ingested: Artefact, job: Job) -> Artefact:
    """Signatures of one source."""
    return Clean(source.name, source.prompt_texts).run(ingested, job.store, job.pool)


@task(name="deduplicate", cache_policy=NO_CACHE, persist_result=False)
def deduplicate(cleaned: Mapping[str, Artefact], job: Job) -> Artefact:
    """Verdicts over all sources."""
    return Deduplicate().run(cleaned, job.store)


@task(task_run_name="shard {mixture.name}", cache_policy=NO_CACHE, persist_result=False)
def write_release(mixture: Mixture, ingested: Mapping[str, Artefact], pool: Artefact, job: Job) -> Artefact:
    """The published release."""
    return Shard(job.catalog, mixture).run(ingested, pool, job.store, job.pool)


@flow(name="ingest", task_runner=_threads(), validate_parameters=False)
def ingest(
    sources: Sequence[str] = (), root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG, quiet: bool = False
) -> dict[str, Artefact]:
    """Ingest the named sources of the catalog, or all of them.

    Args:
        sources: Names of sources; none means all.
        root: Folder or URL of everything curation makes.
        catalog: Path of the catalog of sources.
        quiet: Show no progress.
    """
    with open_job(root, catalog, is_quiet=quiet) as job:
        rows = [job.catalog.source(name) for name in sources or job.catalog.sources]
        artefacts = _results({row.name: ingest_source.submit(row, job) for row in rows})
    show_ingested({name: artefact.manifest for name, artefact in artefacts.items()})
    return artefacts


@flow(name="build", task_runner=_threads(), validate_parameters=False)
def build(mixture: str, root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG, quiet: bool = False) -> Path:
    """Build the release of a mixture YAML, doing only what is not there yet; returns its folder.

    Args:
        mixture: Path of the mixture YAML.
        root: Folder or URL of everything curation makes.
        catalog: Path of the catalog of sources.
        quiet: Show no progress.
    """
    with open_job(root, catalog, is_quiet=quiet) as job:
        spec = load_mixture(shipped_file(mixture), job.catalog)
        rows = [row for row in job.catalog.sources.values() if spec.takes_part(row.name)]
        ingested = _results({row.name: ingest_source.submit(row, job) for row in rows})
        cleaned = _results({row.name: clean_source.submit(row, ingested[row.name], job) for row in rows})
        return write_release(spec, ingested, deduplicate(cleaned, job), job).folder


def _results(futures: Mapping[str, PrefectFuture[Artefact]]) -> dict[str, Artefact]:
    """Results by name. All tasks are waited for, so that one failing source does not cut short the others' work."""
    for future in futures.values():
        future.wait()
    return {name: future.result() for name, future in futures.items()}
