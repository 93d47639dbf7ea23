from curation.report.release_facts import read_facts, total_by_reason
from tests.curation.report.made_up import write_made_up

LICENSES = {"shapes": "CC0-1.0", "words": "unknown"}


def test_every_record_is_accounted_for(made_up):
    release = read_facts(made_up.folder, made_up.manifest, LICENSES, [])

    assert release.sources
    for source in release.sources:
        assert source.records == source.num_rejected + source.num_dropped + source.num_left_out + source.num_taken
    assert sum(source.samples for source in release.sources) == release.num_samples == 7


def test_figures_of_a_source_come_from_manifest_index_and_verdicts(made_up):
    by_name = {source.name: source for source in read_facts(made_up.folder, made_up.manifest, LICENSES, []).sources}

    assert (by_name["words"].left_out, by_name["words"].num_taken, by_name["words"].samples) == ({"over_cap": 1}, 3, 4)
    assert (by_name["shapes"].num_illustrated, by_name["shapes"].num_images) == (3, 4)
    assert list(by_name["shapes"].rejected) == ["missing_image", "empty_answer"]
    assert (by_name["gone"].category, by_name["gone"].samples, by_name["gone"].license) == ("ocr", 0, None)


def test_sources_and_categories_come_largest_first(made_up):
    release = read_facts(made_up.folder, made_up.manifest, LICENSES, [])

    assert [source.name for source in release.sources] == ["words", "shapes", "gone"]
    assert [category.name for category in release.categories] == ["language", "general"]
    assert [source.name for source in release.present] == ["words", "shapes"]


def test_unknown_licence_comes_last_and_is_known_as_such(made_up):
    release = read_facts(made_up.folder, made_up.manifest, LICENSES, [])

    assert list(release.licenses) == ["CC0-1.0", "unknown"]
    assert [source.name for source in release.sources if source.is_license_unknown] == ["words"]


def test_targets_are_normalised_and_a_category_asked_for_is_shown_though_empty(tmp_path):
    asked = write_made_up(tmp_path, ratios={"general": 2, "language": 1, "ocr": 1, "code": 0})
    facts = {c.name: c for c in read_facts(asked.folder, asked.manifest, LICENSES, []).categories}

    assert {name: category.target for name, category in facts.items()} == {"general": 0.5, "language": 0.25, "ocr": 0.25}
    assert facts["ocr"].samples == 0
    assert sum(category.share for category in facts.values()) == 1


def test_totals_add_reasons_up():
    assert total_by_reason([{"a": 1, "b": 2}, {"a": 4}, {}]) == {"a": 5, "b": 2}
    assert list(total_by_reason([{"a": 1, "b": 2}])) == ["b", "a"]
