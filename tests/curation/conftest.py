from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from curation.catalog.spec import Catalog
from curation.storage.store import Store
from tests.support.upstream import write_world

settings.register_profile("curation", deadline=None, max_examples=60, print_blob=True)
settings.load_profile("curation")


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Nothing here survives a power cut, nor has to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(str(tmp_path / "root"))


@pytest.fixture
def world(tmp_path: Path) -> Catalog:
    return write_world(tmp_path / "upstream")


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cuts sources into many partitions, as large ones are."""
    monkeypatch.setattr("curation.sources.json_spans.CHUNK_BYTES", 300)
    monkeypatch.setattr("curation.sources.readers.CHUNK_BYTES", 300)
    monkeypatch.setattr("curation.steps.picture_pass.MIN_LOOK_PICTURES", 8)
    monkeypatch.setattr("curation.steps.picture_pass.MAX_LOOK_PICTURES", 8)


@pytest.fixture(scope="session")
def real_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One root for all tests that read the real slices, so that those are ingested once."""
    return Store.open(str(tmp_path_factory.mktemp("real")))
