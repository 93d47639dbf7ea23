"""What `plan` and `diff` do with a mixture that was read: count, plan, and put the plan into a document."""

from typing import Any

from curation.catalog.spec import Catalog
from curation.mixture.file import WrittenMixture
from curation.planning.counts import Basis, ingested_counts, published_counts
from curation.planning.difference import Planned
from curation.planning.plan import plan_document, plan_mixture
from curation.storage.store import Store


def planned(written: WrittenMixture, catalog: Catalog, basis: Basis, root: str) -> Planned:
    """The plan of a mixture on one kind of counts. Raises PlanError pointing at the line that asks for too much."""
    mixture = written.mixture
    with written.pointing():
        found = (
            published_counts(catalog, mixture) if basis == "published" else ingested_counts(Store.at(root), catalog, mixture)
        )
        return Planned(mixture, plan_mixture(mixture, catalog, found), found)


def documented(made: Planned, catalog: Catalog) -> dict[str, Any]:
    """The plan as a document."""
    return plan_document(made.plan, catalog, made.mixture, made.counts)
