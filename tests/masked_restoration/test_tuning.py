"""LoRA tuning: the loss by hand, what is trained, what a resumed run computes, adapters and whom they belong to."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from peft import LoraConfig, get_peft_model

from visual_sentence.errors import UserError
from visual_sentence.language import LanguageModel, load_language_model
from visual_sentence.masked_restoration import (
    AdapterRecord,
    MaskedRestorer,
    evaluate_masked_restoration,
    load_tuned,
    random_known,
)
from visual_sentence.masked_restoration.config import TuningConfig
from visual_sentence.masked_restoration.sequences import ImageSequences
from visual_sentence.masked_restoration.tuning import LoraTuner, add_lora, local_loss

SETTINGS = {"batch_size": 2, "max_steps": 4, "checkpoint_every": 2, "log_every": 1, "tracker": "none", "rank": 2}


@pytest.fixture
def record(llm_folder) -> AdapterRecord:
    return AdapterRecord((4, 4), 0, 0, 5, "f" * 64, "tiny-v2l", None, llm_folder.name, 300, 32)


@pytest.fixture
def tune(llm_folder, sequences, record):
    """Tunes the tiny language model; with other settings, or another model, where given."""

    def run(output, data: ImageSequences = sequences, stop_after: int | None = None, **settings) -> LoraTuner:
        model = load_language_model(str(llm_folder), dtype="float32", device="cpu")
        config = TuningConfig(output=str(output), **{**SETTINGS, **settings})
        tuner = LoraTuner(config, model, data, record, Accelerator(cpu=True), "made-up")
        if stop_after is not None:
            tuner.config = replace(config, max_steps=stop_after)
        tuner.report = tuner.train()
        return tuner

    return run


def lines(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_the_loss_is_that_of_local_tokens_alone(llama, sequences):
    total = []
    for row in range(len(sequences)):
        prefix, tokens = sequences.prefixes[row], sequences.maps[row].flatten().tolist()
        with torch.no_grad():
            logs = llama(torch.tensor([[*prefix, *tokens]])).logits[0].log_softmax(-1)
        total += [-logs[len(prefix) + place - 1, token].item() for place, token in enumerate(tokens)]
    loss = local_loss(llama, llama, sequences)
    assert loss.item() == pytest.approx(sum(total) / len(total), rel=1e-5)


def test_the_papers_layers_and_numbers_are_the_defaults(language_model, tmp_path):
    config = TuningConfig(output=str(tmp_path))
    assert (config.rank, config.alpha, config.target_modules, config.learning_rate) == (
        4,
        32,
        ["q_proj", "k_proj"],
        3e-4,
    )
    adapted = add_lora(language_model, config)
    trained = {name for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * 2 * 2  # layers, projections, matrices A and B
    assert all(".q_proj.lora_" in name or ".k_proj.lora_" in name for name in trained)


def test_it_learns_a_pattern_and_leaves_the_model_alone(tune, tmp_path, llm_folder):
    pattern = torch.tensor([[7, 9, 7, 9]] * 4).expand(8, 4, 4)
    data = ImageSequences([[0]] * 8, pattern)
    before = load_language_model(str(llm_folder), dtype="float32", device="cpu").model.state_dict()
    tuner = tune(
        tmp_path / "run",
        data,
        max_steps=60,
        learning_rate=0.05,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
    )
    assert tuner.report["last_loss"] < 0.5 * tuner.report["first_loss"]
    loaded = load_tuned(
        load_language_model(str(llm_folder), dtype="float32", device="cpu"), str(tmp_path / "run/adapter")
    )
    known = random_known(data.maps, 0.3)
    restored = MaskedRestorer(loaded.language_model.model, 300).restore(data, known)
    with loaded.untuned() as model:
        untuned = MaskedRestorer(model, 300).restore(data, known)
        weights = model.state_dict()
    hits, hits_before = ((maps == data.maps)[~known].float().mean() for maps in (restored, untuned))
    assert hits > hits_before
    for name, tensor in before.items():
        assert weights[name if name in weights else name.replace("_proj.", "_proj.base_layer.")].equal(tensor)


def test_a_resumed_run_goes_on_exactly(tune, tmp_path):
    whole = tune(tmp_path / "whole", dropout=0.1)
    tune(tmp_path / "parts", dropout=0.1, stop_after=2)
    parts = tune(tmp_path / "parts", dropout=0.1, resume="latest")
    assert [line["loss"] for line in lines(tmp_path / "parts")] == [line["loss"] for line in lines(tmp_path / "whole")]
    assert parts.report["steps"] == whole.report["steps"] == 4
    for one, other in zip(parts.trained, whole.trained, strict=True):
        assert one.equal(other)


def test_runs_are_not_mixed(tune, tmp_path):
    tune(tmp_path, max_steps=2)
    with pytest.raises(UserError, match="--resume latest"):
        tune(tmp_path)
    with pytest.raises(UserError, match=r"learning_rate was 0.0003 and is now 0.1"):
        tune(tmp_path, resume="latest", learning_rate=0.1, max_steps=2)


def test_accumulated_batches_are_one_batch(tune, tmp_path):
    one = tune(tmp_path / "one", batch_size=4, max_steps=1)
    two = tune(tmp_path / "two", batch_size=2, gradient_accumulation=2, max_steps=1)
    assert one.report["last_loss"] == pytest.approx(two.report["last_loss"], rel=1e-5)
    for first, second in zip(one.trained, two.trained, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        ({"batch_size": 50}, "A step takes 50 pictures"),
        ({"target_modules": ["query"]}, "has no layers called query .it has .*q_proj"),
        ({"warmup_steps": 4}, "warm-up takes 4 steps"),
        ({"rank": 0}, "--rank is 0"),
        ({"learning_rate": -1.0}, "--learning-rate is -1.0"),
        ({"resume": "nowhere"}, "no checkpoint's folder"),
    ],
    ids=str,
)
def test_wrong_settings_are_refused_in_one_line(settings, found, tune, tmp_path):
    with pytest.raises(UserError, match=found) as caught:
        tune(tmp_path, **settings)
    assert "\n" not in str(caught.value)


def test_merged_models_and_adapters_restore_alike(tune, tmp_path, llm_folder, sequences):
    tune(tmp_path, learning_rate=0.05, merge=True)
    adapter = load_tuned(load_language_model(str(llm_folder), dtype="float32", device="cpu"), str(tmp_path / "adapter"))
    merged = load_tuned(load_language_model(str(tmp_path / "merged"), dtype="float32", device="cpu"))
    known = random_known(sequences.maps, 0.5)
    restored = [MaskedRestorer(one.language_model.model, 300).restore(sequences, known) for one in (adapter, merged)]
    assert restored[0].equal(restored[1])
    assert merged.record == adapter.record
    with pytest.raises(UserError, match="untuned model is gone"), merged.untuned():
        pass


def test_an_adapter_names_its_language_model_and_no_path(tune, tmp_path, llm_folder):
    tune(tmp_path, max_steps=1)
    written = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == llm_folder.name
    assert str(llm_folder.parent) not in "".join(path.read_text() for path in (tmp_path / "adapter").glob("*.json"))


def test_adapters_for_others_are_refused(tune, tmp_path, llm_folder, language_model, gpt2, make_codec):
    tune(tmp_path, max_steps=1)
    adapter = str(tmp_path / "adapter")
    other = LanguageModel(gpt2, language_model.tokenizer, "some-gpt2")
    with pytest.raises(UserError, match=r"300 tokens, width 32.* some-gpt2 has 420 tokens and width 32"):
        load_tuned(other, adapter)
    with pytest.raises(UserError, match=r"no adapter \(no image_sequences.json\), so it fills"):
        load_tuned(language_model, str(llm_folder))
    get_peft_model(
        load_language_model(str(llm_folder), dtype="float32", device="cpu").model, LoraConfig(task_type="CAUSAL_LM")
    ).save_pretrained(tmp_path / "foreign", save_embedding_layers=False)
    with pytest.raises(UserError, match="a PEFT adapter of something else"):
        load_tuned(language_model, str(tmp_path / "foreign"))
    with pytest.raises(UserError, match="was tuned on the tokens of tiny-v2l"):
        load_tuned(language_model, adapter).require_tokens_of(make_codec())
    shutil.copy(tmp_path / "foreign/adapter_config.json", tmp_path / "adapter/adapter_config.json")
    again = load_language_model(str(llm_folder), dtype="float32", device="cpu")
    with pytest.raises(UserError, match="does not fit"):
        load_tuned(again, adapter)


def test_the_evaluation_counts_what_it_says(tune, tmp_path, llm_folder, make_codec, picture_folder, record):
    from visual_sentence.image_io import open_image_source
    from visual_sentence.masked_restoration import SequenceWriter

    codec = make_codec()
    source = open_image_source(str(picture_folder))
    writer = SequenceWriter(codec, load_language_model(str(llm_folder), dtype="float32", device="cpu"))
    sequences = writer.write_all(source)
    frequent = sequences.most_frequent_token()
    tune(tmp_path / "run", sequences, max_steps=1)
    adapter = tmp_path / "run/adapter"
    replace(record, tokens_sha256=codec.fingerprint, most_frequent_token=frequent).save(adapter)
    tuned = load_tuned(load_language_model(str(llm_folder), dtype="float32", device="cpu"), str(adapter))
    found = evaluate_masked_restoration(codec, tuned, source, ratio=0.25, batch_size=5)
    assert found["n"] == 12 and found["masked_tokens"] == 12 * 4
    known = random_known(sequences.maps, 0.25)
    share = (sequences.maps[~known] == frequent).float().mean().item()
    assert found["ways"]["most_frequent_token"]["accuracy"] == pytest.approx(share)
    assert set(found["ways"]) == {
        *("tuned", "untuned", "most_frequent_token", "token_to_the_left", "all_tokens_known", "masked_codes_zero")
    }
    again = evaluate_masked_restoration(codec, tuned, source, ratio=0.25, batch_size=12)
    assert again["ways"]["tuned"]["accuracy"] == found["ways"]["tuned"]["accuracy"]
