from pathlib import Path

import datasets
import pytest
import yaml
from huggingface_hub import DatasetCard

from curation.report import write_report
from curation.report.data_card import card_head, render_card, size_category
from curation.report.gather import gather
from curation.report.release_facts import ReleaseFacts
from tests.curation.report.made_up import write_made_up


@pytest.fixture
def release(made_up) -> ReleaseFacts:
    return gather(made_up.folder, made_up.manifest, made_up.source_folders).release


def _head(card: str) -> dict:
    opening, head, _ = card.split("---\n", 2)
    assert opening == ""
    return yaml.safe_load(head)


def test_head_is_yaml_that_says_what_the_release_is(release):
    head = _head(render_card(release))

    assert head == card_head(release)
    assert head["license"] == "other" and head["license_name"] == "several-licences-by-source"
    assert "visual-question-answering" in head["task_categories"] and "text-generation" in head["task_categories"]
    assert head["size_categories"] == ["n<1K"]
    assert head["configs"][0]["data_files"] == [{"split": "train", "path": "shards/*.tar"}]


def test_every_column_a_sample_may_have_is_declared(release):
    names = [column["name"] for column in card_head(release)["dataset_info"]["features"]]

    assert names == ["__key__", "__url__", "json", "png", "0.png", "1.png"]


def test_tables_show_shares_licences_and_conservation(release):
    card = render_card(release)

    assert "| words | language | 4 | 57.1 % | **unknown** |" in card
    assert "| shapes | general | 3 | 42.9 % | CC0-1.0 |" in card
    assert "| shapes | 10 | 6 | 1 | 0 | 3 | 3 |" in card
    assert "| **all** | 15 | 7 | 1 | 1 | 6 | 7 |" in card
    assert "Nobody has stated a licence for words." in card
    assert "source 'gone' has no samples to give" in card


def test_tables_have_as_many_cells_in_every_row(tmp_path):
    asked = write_made_up(tmp_path, ratios={"general": 0.5, "language": 0.5})
    card = render_card(gather(asked.folder, asked.manifest, asked.source_folders).release)
    tables = [part for part in card.split("\n\n") if part.startswith("|")]

    assert len(tables) == 4
    assert all(len({line.count("|") for line in table.splitlines()}) == 1 for table in tables)
    assert "| general | 3 | 42.9 % | 50.0 % |" in card


def test_settings_are_the_mixture(release):
    block = render_card(release).split("```yaml\n")[1].split("```")[0]

    assert yaml.safe_load(block) == release.mixture


@pytest.mark.parametrize(
    ("num_samples", "name"), [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (7_000_000, "1M<n<10M"), (10**9, "n>1B")]
)
def test_size_category_is_the_range_of_the_number(num_samples, name):
    assert size_category(num_samples) == name


@pytest.mark.parametrize(
    ("license_name", "expected"),
    [
        ("CC-BY-4.0", {"license": "cc-by-4.0"}),
        ("My-Own", {"license": "other", "license_name": "My-Own", "license_link": "README.md#licences"}),
        ("unknown", {"license": "other", "license_name": "unknown", "license_link": "README.md#licences"}),
    ],
)
def test_a_single_licence_is_named(made_up, license_name, expected):
    from curation.report.release_facts import read_facts

    facts = read_facts(Path(made_up.folder), made_up.manifest, {"shapes": license_name, "words": license_name}, [])

    assert {key: value for key, value in card_head(facts).items() if key.startswith("license")} == expected


def test_datasets_reads_the_folder_by_its_card(made_up, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_report(made_up.folder, made_up.manifest, made_up.source_folders)
    rows = list(datasets.load_dataset(str(made_up.folder), split="train", streaming=True, cache_dir=str(tmp_path / "cache")))

    assert [row["json"]["source"] for row in rows] == ["shapes", "words", "words", "shapes", "words", "shapes", "words"]
    assert rows[3]["0.png"].size == (8, 6) and rows[3]["png"] is None
    assert rows[1]["png"] is None


def test_the_hub_library_reads_the_head(made_up):
    """What the Hub checks before it takes a card: YAML of known keys, a valid size, a licence it knows or `other`."""
    write_report(made_up.folder, made_up.manifest, made_up.source_folders)
    card = DatasetCard.load(made_up.folder / "README.md")

    assert card.data.pretty_name == "tiny"
    assert card.data.size_categories == ["n<1K"]
    assert card.data.configs is not None
    assert DatasetCard(f"---\n{card.data.to_yaml()}\n---\n").data.to_dict() == card.data.to_dict()
