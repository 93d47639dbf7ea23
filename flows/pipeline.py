"""The flows: which steps run in which order. One Prefect task a stage and source; rows and pictures are for the steps.

What failed to be fetched is tried again, with pauses, in runs of deployments; reading local files is not, since it would fail
the same way again, and whoever sits at a terminal decides for themselves.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect import Task, flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner

from curation.catalog.spec import Row, Source
from curation.errors import FetchError
from curation.mixture.dedup import DedupSpec
from curation.mixture.file import WrittenMixture, load_curriculum
from curation.mixture.spec import Mixture
from curation.steps.clean import Clean
from curation.steps.curriculum import PublishStages
from curation.steps.decontaminate import Decontaminate
from curation.steps.deduplicate import Deduplicate
from curation.steps.embed import Embed
from curation.steps.ingest import Begun, Ingest
from curation.steps.measure import Measure
from curation.steps.picture_pass import look_at_archives
from curation.steps.shard import Shard
from curation.steps.sign import Sign
from curation.steps.step import Artefact
from curation.steps.survivors import Survivors
from curation.upstream.inputs import forget_fetched
from flows.artifacts import RunProgress, is_deployed, show_ingested
from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT, Job, logged_job, mixture_file

SOURCES_AT_ONCE = 4
"""Sources under way together: small ones leave cores idle between their passes."""
FETCH_PAUSES_SECONDS = (60, 300, 1_500)
"""Before a source whose fetching failed is tried again; the client has tried each request several times by then."""
TIMEOUT_SECONDS = 3 * 24 * 3_600
"""After which a run is taken to hang, so that its schedule goes on."""


def _threads() -> TaskRunner[PrefectFuture[Any]]:
    """A fresh runner a flow; the steps' own work happens in the pool, so threads only wait."""
    runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=SOURCES_AT_ONCE)
    return runner  # type: ignore[return-value]  # Prefect types its own runner as no TaskRunner[PrefectFuture]


def may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    """Whether a task of a deployment failed for what may have passed by the next attempt."""
    return is_deployed() and isinstance(state.result(raise_on_failure=False), FetchError)


@task(
    task_run_name="ingest {source.name}",
    cache_policy=NO_CACHE,
    persist_result=False,
    retries=len(FETCH_PAUSES_SECONDS),
    retry_delay_seconds=list(FETCH_PAUSES_SECONDS),
    retry_jitter_factor=0.3,
    retry_condition_fn=may_pass,
)
def ingest_source(source: Row, job: Job, begun: Begun | None = None) -> Artefact:
    """Checked samples of one source, of which the records may be read already."""
    step = Ingest(job.catalog, source)
    whole = (lambda: step.run(job.store, job.pool)) if begun is None else (lambda: step.finish(begun, job.store, job.pool))
    return job.step("ingest", source.name, whole)


@task(task_run_name="read {source.name}", cache_policy=NO_CACHE, persist_result=False)
def read_source(source: Row, job: Job) -> Begun:
    """The records of one source."""
    return Ingest(job.catalog, source).begin(job.store, job.pool)


@task(name="look at shared archives", cache_policy=NO_CACHE, persist_result=False)
def look_at_shared_archives(begun: Sequence[Begun], job: Job) -> None:
    """The pictures of sources that lie in archives of releases: each archive read once for all of them."""
    look_at_archives([read for source in begun for read in source.archive_reads()], job.pool, f"{len(begun)} sources")


@task(task_run_name="measure {source.name}", cache_policy=NO_CACHE, persist_result=False)
def measure_source(source: Source, ingested: Artefact, job: Job) -> Artefact:
    """Facts of one source's samples, which plans read."""
    return job.step("measure", source.name, lambda: Measure(source.name).run(ingested, job.store, job.pool))


@task(task_run_name="clean {source.name}", cache_policy=NO_CACHE, persist_result=False)
def clean_source(source: Source, ingested: Artefact, job: Job) -> Artefact:
    """Signatures of one source."""
    step = Clean(source.name, source.prompt_texts)
    return job.step("clean", source.name, lambda: step.run(ingested, job.store, job.pool))


@task(task_run_name="sign {source.name}", cache_policy=NO_CACHE, persist_result=False)
def sign_source(source: Source, ingested: Artefact, spec: DedupSpec, job: Job) -> Artefact:
    """Text signatures of one source."""
    step = Sign(source.name, source.prompt_texts, spec.signing())
    return job.step("sign", source.name, lambda: step.run(ingested, job.store, job.pool))


@task(task_run_name="embed {source.name}", cache_policy=NO_CACHE, persist_result=False)
def embed_source(source: Source, ingested: Artefact, spec: DedupSpec, job: Job) -> Artefact:
    """Vectors of one source's texts, by the model that the mixture names."""
    step = Embed(source.name, source.prompt_texts, spec)
    return job.step("embed", source.name, lambda: step.run(ingested, job.store, job.pool))


@task(name="deduplicate", cache_policy=NO_CACHE, persist_result=False)
def deduplicate(
    spec: DedupSpec | None,
    cleaned: Mapping[str, Artefact],
    signed: Mapping[str, Artefact],
    ingested: Mapping[str, Artefact],
    embedded: Mapping[str, Artefact],
    job: Job,
) -> Artefact:
    """Verdicts over all sources."""
    step = Deduplicate(spec)
    return job.step("deduplicate", "pool", lambda: step.run(cleaned, job.store, signed, job.pool, ingested, embedded))


@task(name="decontaminate", cache_policy=NO_CACHE, persist_result=False)
def decontaminate(
    mixture: Mixture, pooled: Artefact, ingested: Mapping[str, Artefact], benchmarks: Mapping[str, Artefact], job: Job
) -> Artefact:
    """Verdicts once the samples are held against benchmarks; those of the pool where the mixture names none."""
    if mixture.decontaminate is None:
        return pooled
    prompts = {name: job.catalog.sources[name].prompt_texts for name in ingested}
    step = Decontaminate(mixture.decontaminate, prompts)
    return job.step("decontaminate", "pool", lambda: step.run(pooled, ingested, benchmarks, job.store, job.pool))


@task(name="note survivors", cache_policy=NO_CACHE, persist_result=False)
def note_survivors(ingested: Mapping[str, Artefact], measured: Mapping[str, Artefact], pool: Artefact, job: Job) -> Artefact:
    """The rows of every source that the pool keeps."""
    return job.step("survivors", "pool", lambda: Survivors().run(ingested, measured, pool, job.store))


@task(task_run_name="shard {written.mixture.name}", cache_policy=NO_CACHE, persist_result=False)
def write_release(
    written: WrittenMixture, ingested: Mapping[str, Artefact], pool: Artefact, accepted: Sequence[str], job: Job
) -> Artefact:
    """The published release."""
    with written.pointing():
        step = Shard(job.catalog, written.mixture)
        return job.step("shard", written.mixture.name, lambda: step.run(ingested, pool, job.store, job.pool, accepted))


@flow(
    name="ingest",
    flow_run_name="ingest into {root}",
    task_runner=_threads(),
    validate_parameters=False,
    timeout_seconds=TIMEOUT_SECONDS,
)
def ingest(
    sources: Sequence[str] = (),
    root: str = DEFAULT_ROOT,
    catalog: str = DEFAULT_CATALOG,
    quiet: bool = False,
    refresh: bool = False,
    originals: Sequence[str] = (),
) -> dict[str, Artefact]:
    """Ingest the named sources of the catalog, or all of them.

    Args:
        sources: Names of sources; none means all.
        root: Folder or URL of everything curation makes.
        catalog: Path of the catalog of sources.
        quiet: Show no progress.
        refresh: Ask again what branches, buckets and URLs hold now, in place of what they held when first fetched.
        originals: Sources to read from their originals.
    """
    arguments = {"sources": list(sources), "catalog": catalog, "refresh": refresh, "originals": list(originals)}
    with logged_job("ingest", arguments, root, catalog, is_quiet=quiet, originals=originals) as job:
        rows = [job.catalog.source(name) for name in sources or job.catalog.sources]
        for row in rows if refresh else ():
            forget_fetched(job.catalog, row, job.store)
        progress = RunProgress(2 * len(rows))
        artefacts = _ingested(rows, job, progress)
        _results({row.name: measure_source.submit(row, artefacts[row.name], job) for row in rows}, progress)
    show_ingested({name: artefact.manifest for name, artefact in artefacts.items()})
    return artefacts


@flow(
    name="curate",
    flow_run_name="curate {mixture}",
    task_runner=_threads(),
    validate_parameters=False,
    timeout_seconds=TIMEOUT_SECONDS,
)
def curate(
    mixture: str,
    root: str = DEFAULT_ROOT,
    catalog: str = DEFAULT_CATALOG,
    quiet: bool = False,
    originals: Sequence[str] = (),
) -> Path:
    """Everything a mixture needs but its shards; returns the pool's folder.

    Args:
        mixture: Path of the mixture YAML, or `FILE#STAGE`.
        root: Folder or URL of everything curation makes.
        catalog: Path of the catalog of sources.
        quiet: Show no progress.
        originals: Sources to read from their originals.
    """
    arguments = {"mixture": mixture, "catalog": catalog, "originals": list(originals)}
    with logged_job("curate", arguments, root, catalog, is_quiet=quiet, originals=originals) as job:
        path, stage = mixture_file(mixture)
        curriculum = load_curriculum(path, job.catalog)
        wanted = [curriculum.stage(stage)] if stage or not curriculum.is_staged else curriculum.stages
        return [_curate_one(written.mixture, job)[1] for written in wanted][-1].folder


@flow(
    name="build",
    flow_run_name="build {mixture}",
    task_runner=_threads(),
    validate_parameters=False,
    timeout_seconds=TIMEOUT_SECONDS,
)
def build(
    mixture: str,
    root: str = DEFAULT_ROOT,
    catalog: str = DEFAULT_CATALOG,
    quiet: bool = False,
    accepted: Sequence[str] = (),
    originals: Sequence[str] = (),
) -> Path:
    """Build the release of a mixture YAML, or those of its stages, doing only what is not there yet; returns its folder.

    Args:
        mixture: Path of the mixture YAML, or `FILE#STAGE`.
        root: Folder or URL of everything curation makes.
        catalog: Path of the catalog of sources.
        quiet: Show no progress.
        accepted: Sources that the mixture's guard lets pass whatever they lost.
        originals: Sources to read from their originals.
    """
    arguments = {"mixture": mixture, "catalog": catalog, "accepted": list(accepted), "originals": list(originals)}
    with logged_job("build", arguments, root, catalog, is_quiet=quiet, originals=originals) as job:
        path, stage = mixture_file(mixture)
        curriculum = load_curriculum(path, job.catalog)
        if stage is not None or not curriculum.is_staged:
            return _build_one(curriculum.stage(stage), accepted, job).folder
        stages = {str(written.stage): _build_one(written, accepted, job) for written in curriculum.stages}
        return PublishStages(curriculum.name).run(stages, job.store).folder


def _build_one(written: WrittenMixture, accepted: Sequence[str], job: Job) -> Artefact:
    ingested, pool = _curate_one(written.mixture, job)
    return write_release(written, ingested, pool, accepted, job)


def _curate_one(mixture: Mixture, job: Job) -> tuple[dict[str, Artefact], Artefact]:
    """The ingested sources of a mixture, and the verdicts over them."""
    rows = [row for row in job.catalog.sources.values() if mixture.takes_part(row)]
    spec = mixture.dedup
    is_semantic = spec is not None and bool(spec.semantic)
    progress = RunProgress((3 + (spec is not None) + is_semantic) * len(rows))
    ingested = _ingested(rows, job, progress)
    measured = _results({row.name: measure_source.submit(row, ingested[row.name], job) for row in rows}, progress)
    cleaned = _results({row.name: clean_source.submit(row, ingested[row.name], job) for row in rows}, progress)
    signed = {row.name: sign_source.submit(row, ingested[row.name], spec, job) for row in rows if spec}
    embedded = {row.name: embed_source.submit(row, ingested[row.name], spec, job) for row in rows if spec and spec.semantic}
    benchmarks = _benchmarks(mixture, job)
    pooled = deduplicate(spec, cleaned, _results(signed, progress), ingested, _results(embedded, progress), job)
    pool = decontaminate(mixture, pooled, ingested, benchmarks, job)
    note_survivors(ingested, measured, pool, job)
    return ingested, pool


def _benchmarks(mixture: Mixture, job: Job) -> dict[str, Artefact]:
    """The evaluation sets that the mixture is held against, ingested."""
    names = mixture.decontaminate.names(list(job.catalog.benchmarks)) if mixture.decontaminate else []
    return _ingested([job.catalog.benchmarks[name] for name in names], job)


def _ingested(rows: Sequence[Row], job: Job, progress: RunProgress | None = None) -> dict[str, Artefact]:
    """Rows ingested; those that may share archives of a release first read their records, then the archives together.

    A row whose records cannot be read leaves the others alone: it fails when it is ingested by itself.
    """
    sharing = [row for row in rows if any(part.images is not None and part.images.archives for part in row.parts)]
    if len(sharing) < 2:
        return _results({row.name: ingest_source.submit(row, job) for row in rows}, progress)
    names = {row.name for row in sharing}
    alone = {row.name: ingest_source.submit(row, job) for row in rows if row.name not in names}
    reading = {row.name: read_source.submit(row, job) for row in sharing}
    begun = {name: future.result() for name, future in reading.items() if _is_done(future)}
    look_at_shared_archives(list(begun.values()), job)
    together = {row.name: ingest_source.submit(row, job, begun.get(row.name)) for row in sharing}
    found = _results(alone | together, progress)
    return {row.name: found[row.name] for row in rows}


def _is_done(future: PrefectFuture[Any]) -> bool:
    future.wait()
    return future.state.is_completed()


def _results(futures: Mapping[str, PrefectFuture[Artefact]], progress: RunProgress | None = None) -> dict[str, Artefact]:
    """Results by name. All tasks are waited for, so that one failing source does not cut short the others' work."""
    for name, future in futures.items():
        future.wait()
        if progress is not None:
            progress.advance(name)
    return {name: future.result() for name, future in futures.items()}
