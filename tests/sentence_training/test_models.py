"""What a run begins with: config, VQGAN, a Llama's layers, LoRA's matrices; and what it refuses."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import LlamaConfig, LlamaForCausalLM

from visual_sentence.data.shards import TokenShards
from visual_sentence.data.token_sentences import SentenceTable
from visual_sentence.errors import UserError
from visual_sentence.modeling import SimLVMForVisualSentence
from visual_sentence.sentence_training.batches import Collator
from visual_sentence.sentence_training.config import SentenceTrainingConfig
from visual_sentence.sentence_training.lora import TunedModel
from visual_sentence.sentence_training.models import load_simlvm, start_from_codes, weights_fingerprint


@pytest.fixture
def llama_folder(tmp_path):
    """A Llama of words, whose layers have the tiny model's shape."""

    def make(**options) -> str:
        torch.manual_seed(7)
        shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
        config = LlamaConfig(**{"vocab_size": 100, "max_position_embeddings": 64, **shape, **options})
        LlamaForCausalLM(config).save_pretrained(tmp_path / "llama")
        return str(tmp_path / "llama")

    return make


@pytest.mark.parametrize("embedding", ["table", "codebook"])
def test_a_llamas_layers_are_taken_and_its_words_are_not(model_folder, vqgan_folder, llama_folder, embedding):
    reference = str(model_folder(weights=False, embedding=embedding))
    llama = llama_folder(tie_word_embeddings=True)
    plain = load_simlvm(reference, str(vqgan_folder()), seed=3)
    model = load_simlvm(reference, str(vqgan_folder()), seed=3, llama=llama)
    source = LlamaForCausalLM.from_pretrained(llama).state_dict()
    random, checked = plain.language_model.state_dict(), 0
    for name, tensor in model.language_model.state_dict().items():
        if name.startswith(("model.layers.", "model.norm.")):
            assert torch.equal(tensor, source[name]), name
            checked += 1
        else:
            assert torch.equal(tensor, random[name]), name
    assert checked == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"hidden_size": 24, "head_dim": 8}, "e.g. at model."),
        ({"num_hidden_layers": 2}, "e.g. at model.layers.1"),
        ({"num_attention_heads": 4}, "whose num_attention_heads is 2 instead of 4: give --set 'text_config.num_att"),
        ({"rms_norm_eps": 1e-5}, "whose rms_norm_eps is 1e-06 instead of 1e-05"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}, "whose rope_parameters is"),
    ],
)
def test_layers_that_compute_something_else_are_one_line(model_folder, vqgan_folder, llama_folder, options, said):
    with pytest.raises(UserError) as caught:
        load_simlvm(str(model_folder(weights=False)), str(vqgan_folder()), llama=llama_folder(**options))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_what_the_line_says_mends_it(model_folder, vqgan_folder, llama_folder):
    llama = llama_folder(rope_parameters={"rope_type": "default", "rope_theta": 5e5}, num_attention_heads=4)
    settings = [f"text_config.{name}=4" for name in ("num_attention_heads", "num_key_value_heads", "head_dim")]
    settings.append('text_config.rope_parameters={"rope_type": "default", "rope_theta": 500000.0}')
    model = load_simlvm(str(model_folder(weights=False)), str(vqgan_folder()), settings, llama=llama)
    assert model.config.text_config.rope_parameters["rope_theta"] == 5e5


def test_fields_are_set_whether_the_file_names_them_or_not(tmp_path, model_folder, vqgan_folder):
    fields = json.loads((model_folder(weights=False) / "config.json").read_text())
    kept = {name: fields["text_config"][name] for name in ("model_type", "hidden_size", "intermediate_size")}
    kept |= {"vocab_size": 40, "num_hidden_layers": 1, "num_attention_heads": 2}
    short = {"model_type": "simlvm", "vq_config": fields["vq_config"], "text_config": kept, "max_images": 8}
    (tmp_path / "config.json").write_text(json.dumps(short))
    settings = ["text_config.attention_bias=true", "max_images=4", 'special_token_ids={"begin": 32}']
    model = load_simlvm(str(tmp_path), str(vqgan_folder()), settings)
    assert model.language_model.model.layers[0].self_attn.q_proj.bias is not None
    assert model.config.max_images == 4 and model.converter.begin_id == 32


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("text_config.hiden_size=8", "no field 'hiden_size' there"),
        ("words.size=8", "no section 'words'"),
        ("max_images", "give FIELD=VALUE"),
        ("max_images=99", "max_images 99 of 16 tokens are 1584"),
        ("train_vqgan=true", "has train_vqgan true, but sentences are tokenized before training"),
    ],
)
def test_assignments_that_cannot_be_are_one_line(refused, model_folder, vqgan_folder, assignment, said):
    line = refused("--vqgan", vqgan_folder(), "--set", assignment, config=model_folder(weights=False))
    assert said in line


def test_a_vqgan_that_is_trained_with_it_is_refused_with_weights_too(refused, model_folder):
    assert "scripts/train_vqgan.py" in refused(config=model_folder(train_vqgan=True))


def test_no_vqgan_and_no_weights_is_one_line(refused, model_folder, shards):
    assert "give --vqgan" in refused(config=model_folder(weights=False))
    assert "is a simlvm" not in refused("--vqgan", shards, config=model_folder(weights=False))


def test_a_vqgan_of_another_size_is_one_line(refused, model_folder, vqgan_folder):
    config = model_folder(weights=False)
    line = refused("--vqgan", vqgan_folder(), "--set", "vq_config.codebook_size=16", config=config)
    assert "codebook_size is 32, this model's 16" in line


def tuning(**options) -> SentenceTrainingConfig:
    return SentenceTrainingConfig(data=["x"], output="y", **{"lora_rank": 2, **options})


def test_loras_matrices_alone_are_trained(make_simlvm):
    tuned = TunedModel(make_simlvm(), tuning())
    assert len(tuned.names) == 8 and all(".lora_" in name for name in tuned.names)
    assert sum(parameter.numel() for parameter in tuned.trained) == 4 * 2 * (2 * 16)
    tuned = TunedModel(make_simlvm("visual_gru"), tuning(lora_targets=["qkv"]))
    assert sum(parameter.numel() for parameter in tuned.trained) == 2 * 16 + 48 * 2


def test_the_merged_model_says_what_the_adapted_one_says(run, model_folder, shards, tmp_path):
    done = run("--lora-rank", "2", "--learning-rate", "0.1", "--max-steps", "6")
    base = SimLVMForVisualSentence.from_pretrained(model_folder())
    epoch = SentenceTable(TokenShards.open(str(shards)), (1, 1), 0).epoch(0)
    inputs = Collator(base.converter, 16, 8, "targets", "none")([[epoch[0]], [epoch[1]]]).inputs()
    with torch.no_grad():
        before = base(**inputs).logits
        merged = SimLVMForVisualSentence.from_pretrained(done.folder / "model").eval()(**inputs).logits
        with pytest.warns(FutureWarning):  # of transformers, at names that peft uses
            PeftModel.from_pretrained(base.language_model, done.folder / "model/adapter")  # goes into its layers
        adapted = base.eval()(**inputs).logits
    assert torch.allclose(merged, adapted, atol=1e-5) and not torch.allclose(merged, before, atol=1e-3)
    # what is no matrix of the layers that were named is as it was
    untouched = base.state_dict()
    for name, tensor in done.weights.items():
        if not any(part in name for part in ("q_proj", "k_proj", "v_proj", "o_proj")):
            assert torch.equal(tensor, untouched[name]), name
    adapter = json.loads((done.folder / "model/adapter/adapter_config.json").read_text())
    assert not adapter["base_model_name_or_path"] and str(tmp_path) not in json.dumps(adapter)
    checkpoint = done.folder / "checkpoints/step-000006/model.safetensors"
    assert checkpoint.stat().st_size < 4000  # the matrices, not the model


def test_tuning_what_was_never_trained_is_one_line(refused, model_folder, vqgan_folder):
    line = refused("--lora-rank", "2", "--vqgan", vqgan_folder(), config=model_folder(weights=False))
    assert "--lora-rank tunes a trained model, but" in line and "has no weights" in line


def test_fingerprints_tell_models_apart(make_simlvm):
    one, other = make_simlvm(), make_simlvm()
    assert weights_fingerprint(one) == weights_fingerprint(other)
    other.language_model.lm_head.weight.data[0, 0] += 1
    assert weights_fingerprint(one) != weights_fingerprint(other)


@torch.no_grad()
def test_tokens_of_similar_codes_begin_with_similar_rows(make_simlvm):
    model = make_simlvm(aligned_tokens=True)
    before = [table.weight.clone() for table in (model.get_input_embeddings(), model.aligned_embedding)]
    codes = model.vqgan.quantizer.codebook
    count = codes.shape[0]
    codes[1] = codes[0] + 1e-3  # two that look alike
    start_from_codes(model)
    tables = (model.get_input_embeddings(), model.get_output_embeddings(), model.aligned_embedding)
    for table in tables:
        rows = table.weight[:count]  # image tokens come first here
        distance = torch.cdist(rows, rows)
        assert 0 < distance[0, 1] < 0.7 * distance[0, 2:].mean()
    assert model.get_input_embeddings().weight[count:].equal(before[0][count:])  # special ids keep theirs
    assert not model.aligned_embedding.weight.equal(before[1])


def test_only_random_tables_are_started_from_codes(model_folder, vqgan_folder):
    whole = str(model_folder(weights=True))
    kept = SimLVMForVisualSentence.from_pretrained(whole).get_input_embeddings().weight
    assert torch.equal(load_simlvm(whole, str(vqgan_folder())).get_input_embeddings().weight, kept)


def test_from_scratch_passes_weights_over(model_folder, vqgan_folder):
    whole = str(model_folder(weights=True))
    kept = SimLVMForVisualSentence.from_pretrained(whole).get_output_embeddings().weight
    model = load_simlvm(whole, str(vqgan_folder()), ["max_images=3"], from_scratch=True)
    assert model.config.max_images == 3 and not torch.equal(model.get_output_embeddings().weight, kept)
    with pytest.raises(UserError, match="give --vqgan"):
        load_simlvm(whole, from_scratch=True)
