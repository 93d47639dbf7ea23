"""The deployments of this project and their cron lines, nothing else. `prefect.yaml` says the same for work pools."""

from collections.abc import Sequence

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT
from flows.pipeline import ingest
from flows.release import release

NIGHTLY = "0 2 * * *"
WEEKLY = "0 4 * * 0"
TAGS = ["curation"]


def deployments(
    mixture: str, root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG, originals: Sequence[str] = ()
) -> list[RunnerDeployment]:
    """Ingestion every night and a release of `mixture` every week. One run of each at a time; the root's lock does the rest."""
    settings = {"root": root, "catalog": catalog, "originals": list(originals)}
    nightly = ingest.to_deployment("nightly", cron=NIGHTLY, parameters=settings, tags=TAGS, concurrency_limit=1)
    weekly = release.to_deployment(
        "weekly", cron=WEEKLY, parameters={**settings, "mixture": mixture}, tags=TAGS, concurrency_limit=1
    )
    assert isinstance(nightly, RunnerDeployment) and isinstance(weekly, RunnerDeployment)  # coroutines in async callers only
    return [nightly, weekly]


def serve_schedules(
    mixture: str, root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG, originals: Sequence[str] = ()
) -> None:
    """Serve the deployments until stopped."""
    serve(*deployments(mixture, root, catalog, originals))
