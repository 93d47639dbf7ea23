import pytest

from curation.report.refused import duplicate_clusters, rejected_examples
from curation.report.release_facts import ReleaseFacts, read_facts


@pytest.fixture
def release(made_up) -> ReleaseFacts:
    return read_facts(made_up.folder, made_up.manifest, {}, [])


def test_examples_are_the_first_records_of_each_reason(made_up, release):
    examples = rejected_examples(release.sources, made_up.source_folders)

    assert set(examples) == {"missing_image", "empty_answer", "bad_json"}
    assert [record.record_id for record in examples["missing_image"]] == [f"shapes:records.json:{n}" for n in range(3)]
    assert examples["missing_image"][0].detail == "no picture 'a.png'"


def test_raw_records_are_cut_and_printable(made_up, release):
    examples = rejected_examples(release.sources, made_up.source_folders)

    assert examples["empty_answer"][0].raw == "\ufffd\ufffd{"
    assert len(examples["bad_json"][0].raw) == 301 and examples["bad_json"][0].raw.endswith("x…")


def test_a_duplicate_is_shown_beside_its_twin(made_up, release):
    (cluster,) = duplicate_clusters(made_up.folder, release.sources, made_up.source_folders)

    (member,) = cluster.members
    assert cluster.size == 1
    assert member.side.sample_id == f"{cluster.keeper.sample_id}-d1"
    assert member.side.question == cluster.keeper.question == "Is it blue?"
    assert member.side.thumbnails[0].data_uri == cluster.keeper.thumbnails[0].data_uri != ""
    assert member.detail == "same"


def test_without_folders_there_are_no_examples(made_up, release):
    assert not any(rejected_examples(release.sources, {}).values())
    assert duplicate_clusters(made_up.folder, release.sources, {}) == []
