import json

import pytest

from tests.support.releases import TinySample, png_bytes, write_release
from training.inspect import main


@pytest.fixture
def pictures(tmp_path):
    samples = [TinySample(sample_id=f"p{n:02d}", images=(png_bytes(),) * (n % 2), category="ocr") for n in range(20)]
    return str(write_release(tmp_path / "r", samples, samples_per_shard=6))


def test_samples_are_shown_as_a_person_reads_them(pictures, capsys):
    assert main(["stream", pictures, "--head", "2", "--shuffle", "file"]) == 0
    shown = capsys.readouterr().out
    assert "p00  (shapes, ocr, CC0-1.0)\n  human   What is it?\n  gpt     A shape." in shown
    assert "p01" in shown
    assert "image 0: 7" in shown
    assert "p02" not in shown


def test_json_is_one_document(pictures, capsys):
    assert main(["stream", pictures, "--head", "3", "--json", "--shuffle", "file"]) == 0
    samples = json.loads(capsys.readouterr().out)["samples"]
    assert [sample["id"] for sample in samples] == ["p00", "p01", "p02"]
    assert [len(sample["images"]) for sample in samples] == [0, 1, 0]


@pytest.mark.parametrize("decode", ["none", "pil"])
def test_bench_tells_speed_and_shares(pictures, capsys, decode):
    assert main(["stream", pictures, "--bench", "--json", "--decode", decode]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["num_samples"], found["shares"]) == (20, {"ocr": 1.0})
    assert found["samples_per_second"] > 0
    assert main(["stream", pictures, "--bench"]) == 0
    assert "ocr          100.0%" in capsys.readouterr().out


def test_which_names_a_batch_of_any_rank(pictures, capsys):
    batches = []
    for rank in (0, 1):
        arguments = ["--seed=3", "--step=2", f"--rank={rank}", "--world-size=2", "--batch-size=3", "--json"]
        assert main(["which", pictures, *arguments]) == 0
        batches.append([sample["id"] for sample in json.loads(capsys.readouterr().out)["samples"]])
    assert main(["stream", pictures, "--seed=3", "--head=18", "--json"]) == 0
    order = [sample["id"] for sample in json.loads(capsys.readouterr().out)["samples"]]
    assert batches == [order[12:18:2], order[13:18:2]]


def test_errors_are_told_in_a_line(pictures, capsys, tmp_path):
    assert main(["stream", str(tmp_path)]) == 1
    assert "no release at" in capsys.readouterr().err
    assert main(["which", pictures, "--step=99"]) == 1
    assert "rank 0 of 1 has 20 batches of 1" in capsys.readouterr().err
    assert main(["which", pictures, "--step=0", "--rank=2"]) == 2
    with pytest.raises(SystemExit, match="2"):
        main(["which", pictures, "--step=-1"])
