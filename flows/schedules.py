"""The deployments of this project and their cron lines, nothing else. `prefect.yaml` says the same for work pools."""

from collections.abc import Sequence

from prefect import serve
from prefect.deployments.runner import RunnerDeployment

from flows.job import DEFAULT_CATALOG, DEFAULT_ROOT
from flows.pipeline import build, curate, ingest
from flows.release import release
from flows.train import train

NIGHTLY = "0 2 * * *"
WEEKLY = "0 4 * * 0"
TAGS = ["curation"]
RECIPE = "training/recipes/demo.yaml"


def deployments(
    mixture: str, root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG, originals: Sequence[str] = ()
) -> list[RunnerDeployment]:
    """Ingestion every night and a release of `mixture` every week; the others on demand.

    One run of each at a time; between them the root's lock lets one write and the others wait.
    """
    places = {"root": root, "catalog": catalog, "originals": list(originals)}
    made = {**places, "mixture": mixture}
    found = [
        ingest.to_deployment("ingest", cron=NIGHTLY, parameters=places, tags=TAGS, concurrency_limit=1),
        curate.to_deployment("curate", parameters=made, tags=TAGS, concurrency_limit=1),
        build.to_deployment("build_mixture", parameters=made, tags=TAGS, concurrency_limit=1),
        release.to_deployment("release", cron=WEEKLY, parameters=made, tags=TAGS, concurrency_limit=1),
        train.to_deployment("train", parameters={"run": RECIPE}, tags=["training"], concurrency_limit=1),
    ]
    return [deployment for deployment in found if isinstance(deployment, RunnerDeployment)]  # coroutines in async callers only


def serve_schedules(
    mixture: str, root: str = DEFAULT_ROOT, catalog: str = DEFAULT_CATALOG, originals: Sequence[str] = ()
) -> None:
    """Serve the deployments until stopped."""
    serve(*deployments(mixture, root, catalog, originals))
