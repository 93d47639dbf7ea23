import hashlib

import mlcroissant
import pytest

from curation.report import write_report
from curation.report.croissant import describe
from curation.report.gather import gather


@pytest.fixture
def description(made_up) -> dict:
    return describe(made_up.folder, gather(made_up.folder, made_up.manifest, made_up.source_folders).release)


def test_files_are_listed_with_their_hashes(made_up, description):
    files = [node for node in description["distribution"] if node["@type"] == "cr:FileObject"]

    assert [node["contentUrl"] for node in files] == ["shards/tiny-000000.tar", "shards/tiny-000001.tar", "index.parquet"]
    for node in files:
        content = (made_up.folder / node["contentUrl"]).read_bytes()
        assert node["sha256"] == hashlib.sha256(content).hexdigest()
        assert node["contentSize"] == f"{len(content)} B"


def test_every_reference_is_to_something_there(description):
    files = {node["@id"] for node in description["distribution"]}
    sources = [field["source"] for records in description["recordSet"] for field in records["field"]]
    used = {part["@id"] for source in sources for key, part in source.items() if key in ("fileSet", "fileObject")}
    within = {part["@id"] for node in description["distribution"] for part in node.get("containedIn", [])}

    assert used <= files and within <= files
    assert used == {"sample-files", "image-files", "index.parquet"}


def test_samples_have_the_fields_that_readers_expect(description):
    fields = {records["@id"]: [field["name"] for field in records["field"]] for records in description["recordSet"]}

    assert fields["samples"] == ["id", "source", "category", "license", "conversations", "images"]
    assert set(fields) == {"samples", "image-members", "index"}


def test_a_release_without_images_describes_none(made_up):
    gathered = gather(made_up.folder, made_up.manifest, {})
    described = describe(made_up.folder, gathered.release)

    assert [records["@id"] for records in described["recordSet"]] == ["samples", "index"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning:rdflib", "ignore::DeprecationWarning:mlcroissant")
def test_mlcroissant_finds_nothing_wrong_and_reads_the_index(made_up):
    write_report(made_up.folder, made_up.manifest, made_up.source_folders)

    dataset = mlcroissant.Dataset(jsonld=str(made_up.folder / "croissant.json"))

    assert not dataset.metadata.issues.errors
    rows = list(dataset.records("index"))
    assert len(rows) == made_up.manifest["num_samples"]
