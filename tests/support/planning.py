"""Catalogs with stated counts, and plans made on them."""

from curation.catalog.spec import Catalog, Expected
from curation.mixture.spec import Mixture
from curation.planning.counts import Counts, published_counts
from curation.planning.difference import Planned
from curation.planning.plan import plan_mixture


def stating(catalog: Catalog, **expected: int) -> Catalog:
    """The catalog with expected counts."""
    sources = {
        name: source.model_copy(update={"expected": Expected(records=expected[name])}) if name in expected else source
        for name, source in catalog.sources.items()
    }
    return catalog.model_copy(update={"sources": sources})


def planned(mixture: Mixture, catalog: Catalog, counts: Counts | None = None) -> Planned:
    """A plan, on published counts unless others are given."""
    counts = counts or published_counts(catalog, mixture)
    return Planned(mixture, plan_mixture(mixture, catalog, counts), counts)
