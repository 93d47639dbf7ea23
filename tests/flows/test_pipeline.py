"""The flows themselves, in this process; Prefect's own server makes that slow."""

from pathlib import Path

import pytest

from tests.curation.steps.test_ingest_release import Reads, shared_release


@pytest.mark.extra
def test_an_ingest_run_reads_an_archive_that_its_sources_share_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from flows.pipeline import ingest

    monkeypatch.setenv("CURATION_RUNTIME", "process")
    shared_release(tmp_path / "up")
    reads = Reads(monkeypatch)
    found = ingest(("others", "few"), str(tmp_path / "root"), str(tmp_path / "up" / "catalog.yaml"), quiet=True)
    assert list(found) == ["others", "few"]
    assert sum(artefact.manifest["counts"]["samples"] for artefact in found.values()) == 14
    assert reads.names == ["coco.tar.gz"]
