"""Training the map: the loss by hand and on its way down, a language model that stays, resuming, the script."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from transformers import AutoImageProcessor, AutoModel

from visual_sentence import UserError
from visual_sentence.frozen_prefix import build_frozen_model, load_frozen_model
from visual_sentence.frozen_prefix.command import train_frozen_from_command_line
from visual_sentence.frozen_prefix.config import FrozenTuningConfig
from visual_sentence.frozen_prefix.pairs import load_pairs
from visual_sentence.frozen_prefix.tuning import FrozenTuner, sentence_loss
from visual_sentence.modeling import FrozenModel

SHORT = {"batch_size": 4, "max_steps": 20, "learning_rate": 0.03, "log_every": 1, "tracker": "none"}


@pytest.fixture
def tune(v2l_folder, language_model, pairs, tmp_path):
    """Runs a training with a model that starts anew."""

    def run(output: str = "out", data=pairs, tower_trainable: bool = False, **settings) -> dict:
        torch.manual_seed(0)
        model, image_processor = build_frozen_model(str(v2l_folder), language_model, 2, tower_trainable)
        config = FrozenTuningConfig(output=str(tmp_path / output), **{**SHORT, **settings})
        return FrozenTuner(config, model, image_processor, language_model, data, Accelerator(cpu=True)).train()

    return run


@pytest.mark.parametrize("tokenizer", ["bpe_tokenizer", "metaspace_tokenizer"])
def test_loss_by_hand(llama, tokenizer, request):
    tokenizer = request.getfixturevalue(tokenizer)
    prefixes, sentences = torch.randn(2, 2, 32) * 0.3, ["dog", "a photo of gold and snow"]
    nats, count = 0.0, 0
    for prefix, sentence in zip(prefixes, sentences, strict=True):
        ids = tokenizer(sentence, add_special_tokens=False)["input_ids"]
        begin = [1] if tokenizer.bos_token else []  # "<s>"
        words = llama.get_input_embeddings()(torch.tensor([*begin, *ids]))
        inputs = torch.cat([words[: len(begin)], prefix, words[len(begin) :]])
        with torch.no_grad():
            log_probs = llama(inputs_embeds=inputs[None]).logits[0].log_softmax(-1)
        first = len(begin) + 1  # the last place of the prefix
        nats -= sum(log_probs[first + place, token].item() for place, token in enumerate(ids))
        count += len(ids)
    with torch.no_grad():
        loss = sentence_loss(llama, tokenizer, prefixes, sentences)
    assert loss.item() == pytest.approx(nats / count, abs=1e-4)


def test_loss_falls_and_nothing_but_the_mapping_moves(tune, language_model, v2l_folder, tmp_path):
    before = {name: tensor.clone() for name, tensor in language_model.model.state_dict().items()}
    report = tune()
    lines = [json.loads(line) for line in (tmp_path / "out/log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 21))
    assert report["last_loss"] < 0.85 * report["first_loss"] and report["steps"] == 20
    assert all(torch.equal(tensor, before[name]) for name, tensor in language_model.model.state_dict().items())
    assert all(parameter.grad is None for parameter in language_model.model.parameters())
    model, _ = load_frozen_model(str(tmp_path / "out/model"), "cpu")
    tower = AutoModel.from_pretrained(v2l_folder).image_tower.state_dict()
    assert all(torch.equal(tensor, tower[name]) for name, tensor in model.image_tower.state_dict().items())
    assert isinstance(AutoModel.from_pretrained(tmp_path / "out/model"), FrozenModel)
    assert not AutoImageProcessor.from_pretrained(tmp_path / "out/model").do_local_view
    assert len(list((tmp_path / "out").glob("image-embeds-*.safetensors"))) == 1


def test_pictures_are_told_apart(tune, pairs, language_model, tmp_path, monkeypatch):
    """Behind each picture its own sentence becomes the likeliest, where the tower sees four different things."""
    seen = torch.eye(16)[torch.arange(12) % 4]
    monkeypatch.setattr("visual_sentence.frozen_prefix.tuning.embed_once", lambda *_: seen)
    tune(max_steps=60, learning_rate=0.1)
    model, _ = load_frozen_model(str(tmp_path / "out/model"), "cpu")
    with torch.no_grad():
        prefixes = model(image_embeds=seen[:4]).prefix_embeds

        def loss(picture: int, sentence: int) -> float:
            told = [pairs.sentence(sentence, 0)]
            return sentence_loss(language_model.model, language_model.tokenizer, prefixes[[picture]], told).item()

        losses = torch.tensor([[loss(picture, sentence) for sentence in range(4)] for picture in range(4)])
    relative = losses - losses.mean(0)  # some sentences are likelier than others behind any picture
    assert relative.argmin(1).tolist() == [0, 1, 2, 3], losses


@pytest.mark.parametrize("tower_trainable", [False, True])
def test_a_resumed_run_equals_an_uninterrupted_one(tune, tmp_path, monkeypatch, tower_trainable, colour_table):
    data = load_pairs(colour_table, caption_column="captions")
    common = {"data": data, "max_steps": 5, "checkpoint_every": 3, "tower_trainable": tower_trainable}
    tune("whole", **common)
    take, steps = FrozenTuner._take, []

    def interrupted(self, batch, watch):
        if len(steps) == 4:
            raise KeyboardInterrupt
        steps.append(batch)
        return take(self, batch, watch)

    monkeypatch.setattr(FrozenTuner, "_take", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune("parts", **common)
    monkeypatch.setattr(FrozenTuner, "_take", take)
    with pytest.raises(UserError, match="continue it with --resume latest"):
        tune("parts", **common)
    with pytest.raises(UserError, match=r"learning_rate was 0\.03 and is now 0\.1"):
        tune("parts", **common, resume="latest", learning_rate=0.1)
    tune("parts", **common, resume="latest")
    whole, parts = (AutoModel.from_pretrained(tmp_path / name / "model").state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(tensor, parts[name]) for name, tensor in whole.items())
    logs = [
        [json.loads(line)["loss"] for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("whole", "parts")
    ]
    assert logs[0] == logs[1] and len(logs[0]) == 5


def test_a_trained_tower_moves(tune, v2l_folder, tmp_path):
    tune(max_steps=2, tower_trainable=True)
    tower = AutoModel.from_pretrained(v2l_folder).image_tower.state_dict()
    trained = AutoModel.from_pretrained(tmp_path / "out/model").image_tower.state_dict()
    assert any(not torch.equal(tensor, tower[name]) for name, tensor in trained.items())
    assert not list((tmp_path / "out").glob("image-embeds-*"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": ""}, "give --output"),
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"learning_rate": 0.0}, "--learning-rate is 0.0"),
        ({"seed": -1}, "--seed is -1"),
        ({"warmup_steps": 20, "max_steps": 20}, "The warm-up takes 20 steps"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UserError, match=message):
        FrozenTuningConfig(**{"output": "out", **settings})


def test_parts_that_do_not_fit(tune, language_model, llama, bpe_tokenizer, frozen, pairs, tmp_path, v2l_folder):
    with pytest.raises(UserError, match="A step takes 13 pictures"):
        tune(batch_size=13)
    stream = type(pairs)(pairs.name, pairs.sentences, pairs.open_pictures, None)
    with pytest.raises(UserError, match="is a stream, and a tower that is trained"):
        tune(data=stream, tower_trainable=True)
    tune("stream", data=stream, max_steps=1)  # one look at each picture is enough
    model, image_processor = frozen
    model.config.hidden_size = 31
    config = FrozenTuningConfig(output=str(tmp_path / "other"), **SHORT)
    with pytest.raises(UserError, match=r"The prefixes are 31 wide, the words of .* 32"):
        FrozenTuner(config, model, image_processor, language_model, pairs, Accelerator(cpu=True))
    with pytest.raises(UserError, match="num_prefix_tokens is a number of values"):
        build_frozen_model(str(v2l_folder), language_model, 0)
    with pytest.raises(UserError, match="is a v2l model, a frozen-prefix is needed"):
        load_frozen_model(str(v2l_folder), "cpu")
    long = type(pairs)("long", [["word " * 3000]] * 4, pairs.open_pictures, pairs.open_picture)
    with pytest.raises(UserError, match="the language model has 2048"):
        tune("long", data=long)


def arguments(v2l_folder, llm_folder, table, output, *more: str) -> list[str]:
    models = ["--global-model", str(v2l_folder), "--llm", str(llm_folder), "--dtype", "float32"]
    data = ["--data", table, "--output", str(output), "--batch-size", "4", "--max-steps", "2", "--tracker", "none"]
    return [*models, *data, *more]


def test_command_line(v2l_folder, llm_folder, colour_table, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    given = arguments(v2l_folder, llm_folder, colour_table, tmp_path / "out", "--label-column", "label")
    assert train_frozen_from_command_line("", given) == 0
    assert capsys.readouterr().out.startswith("finished after 2 steps, 8 images")
    assert json.loads((tmp_path / "out/frozen.json").read_text())["settings"]["seed"] == 0
    for wrong, message in (
        (given[:-2], "Sentences come from --label-column"),
        ([*given, "--train-towers"], "unrecognized arguments"),
        (given, "--resume latest"),
        ([*given[:-4], "--global-model", str(llm_folder)], "is no V2L model with an image tower"),
    ):
        if "no V2L" in message:
            wrong = [*given, "--global-model", str(llm_folder), "--output", str(tmp_path / "new")]
        assert train_frozen_from_command_line("", wrong) == 2
        said = capsys.readouterr().err
        assert said.splitlines()[-1].startswith("error: ") and message in said.splitlines()[-1]


def test_script(v2l_folder, llm_folder, tmp_path, monkeypatch, capsys):
    script = Path(__file__).resolve().parents[2] / "scripts/train_frozen.py"
    given = arguments(v2l_folder, llm_folder, str(tmp_path / "none.parquet"), tmp_path / "out", "--label-column", "a")
    monkeypatch.setattr(sys, "argv", [str(script), *given])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1 and "there is no such file" in said
