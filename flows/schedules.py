"""The deployments of this project and their cron lines, nothing else."""

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT
from flows.pipeline import build, ingest

NIGHTLY = "0 2 * * *"
WEEKLY = "0 4 * * 0"


def serve_schedules(mixture: str, root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG) -> None:
    """Serve ingestion every night and the release of `mixture` every week, until stopped."""
    settings = {"root": root, "catalog": catalog}
    nightly = ingest.to_deployment(name="nightly", cron=NIGHTLY, parameters=settings, tags=["curation"], concurrency_limit=1)
    weekly = build.to_deployment(
        name="weekly", cron=WEEKLY, parameters={**settings, "mixture": mixture}, tags=["curation"], concurrency_limit=1
    )
    assert isinstance(nightly, RunnerDeployment) and isinstance(weekly, RunnerDeployment)  # coroutines in async callers only
    serve(nightly, weekly)
