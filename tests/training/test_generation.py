import pytest
import torch
from PIL import Image

from tests.support.releases import demo_samples, png_bytes, write_release
from tests.support.runs import run_settings
from tests.training.test_chat import CASES, golden_tokenizer, turns
from training.chat import tokenize_conversation, tokenize_prompt
from training.config import RunConfig
from training.errors import CheckpointError, ConfigError
from training.export import export_model, load_run
from training.generation import load_answerer, main
from training.layout import IGNORE_ID
from training.loop import Trainer
from training.tokenizers import build_byte_tokenizer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that has learnt one sentence by heart, whatever is asked."""
    folder = tmp_path_factory.mktemp("generation")
    samples = [s for s in demo_samples(60) if s.images]
    samples = [type(s)(sample_id=s.sample_id, question=s.question, answer="A red hat.", images=s.images) for s in samples]
    release = write_release(folder / "release", samples, samples_per_shard=50)
    settings = run_settings(
        release=str(release), output=str(folder / "run"), optimisation={"num_train_steps": 60, "learning_rate": 0.02}
    )
    Trainer(RunConfig.model_validate(settings)).train(lambda report: None)
    return folder / "run"


@pytest.mark.parametrize(("template", "name"), [*CASES, ("v1", "bytes"), ("llama_3", "bytes")])
def test_a_prompt_has_the_tokens_that_training_has(template, name, tmp_path):
    tokenizer = build_byte_tokenizer() if name == "bytes" else golden_tokenizer(name, tmp_path)
    ids, labels = tokenize_conversation(turns("<image>\nWhat is it?", "yes it is"), tokenizer, template)
    first = next(number for number, label in enumerate(labels) if label != IGNORE_ID)
    assert tokenize_prompt("<image>\nWhat is it?", tokenizer, template) == ids[:first]


@pytest.mark.parametrize("place", ["checkpoints/step-00000060", "export"])
def test_the_command_answers(trained, tmp_path, capsys, place):
    (tmp_path / "picture.png").write_bytes(png_bytes(30, 20))
    assert main([str(trained / place), str(tmp_path / "picture.png"), "What colour is the shape?"]) == 0
    assert capsys.readouterr().out == "A red hat.\n"


def test_questions_without_a_picture_are_answered(trained, capsys):
    assert main([str(trained / "export"), "-", "Hello?", "--max-new-tokens", "3"]) == 0
    assert len(capsys.readouterr().out) <= 4


def test_samplers_see_the_picture_in_generation(trained):
    answerer = load_answerer(trained / "export")
    calls = []
    answerer.model.connector.vision_sampler_layers[0].register_forward_hook(lambda *call: calls.append(call[1][0].shape))
    answerer.answer("What colour is the shape?", [Image.new("RGB", (30, 30))], max_new_tokens=4)
    assert calls == [(4, 1, 16)]  # once, in the prefill, for 2 x 2 cells


def test_wrong_places_are_told(trained, tmp_path, capsys):
    assert main([str(tmp_path), "-", "q"]) == 1
    assert "is no checkpoint and no export" in capsys.readouterr().err
    assert main([str(trained / "export"), str(tmp_path / "gone.png"), "q"]) == 2
    assert "gone.png' cannot be read" in capsys.readouterr().err
    (tmp_path / "bad.png").write_bytes(b"no picture")
    assert main([str(trained / "export"), str(tmp_path / "bad.png"), "q"]) == 1
    with pytest.raises(ConfigError, match="2 image markers and there are 1 images"):
        load_answerer(trained / "export").answer("<image> <image>", [Image.new("RGB", (3, 3))])


def test_an_export_is_read_by_transformers(trained):
    from transformers import AutoModelForCausalLM

    _, model = load_run(trained / "export")
    found = AutoModelForCausalLM.from_pretrained(trained / "export", local_files_only=True)
    for name, value in model.language.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_a_checkpoint_becomes_an_export(trained, tmp_path):
    config, model = load_run(trained / "checkpoints" / "step-00000060")
    export_model(tmp_path / "export", model, config)
    _, again = load_run(tmp_path / "export")
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in model.state_dict().items())


def test_weights_of_another_model_are_refused(trained, tmp_path):
    (tmp_path / "export").mkdir()
    for file in (trained / "export").iterdir():
        content = file.read_bytes()
        if file.name == "run.json":
            content = content.replace(b'"depth": 1', b'"depth": 2')
        (tmp_path / "export" / file.name).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"names missing \(model\.vision_sampler_0\.layers\.1"):
        load_run(tmp_path / "export")
