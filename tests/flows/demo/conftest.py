from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from curation.catalog.file import load_catalog
from curation.catalog.spec import Catalog
from flows.demo.planted import Planted
from flows.demo.world import generate

REPOSITORY = Path(__file__).parents[3]


@dataclass(frozen=True)
class World:
    """A generated world, its ledger, and the demo's catalog, which is made to look at it."""

    folder: Path
    planted: Planted
    catalog: Catalog


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("demo") / "upstream"
    planted = generate(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CURATION_DEMO_DATA", str(folder))
        yield World(folder, planted, load_catalog(REPOSITORY / "flows/demo/catalog.yaml"))
