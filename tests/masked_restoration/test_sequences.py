"""Pictures as sequences: what stands where, padding, files, and models that do not belong together."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from visual_sentence.errors import UserError
from visual_sentence.image_io import open_image
from visual_sentence.language import LanguageModel, entry_texts
from visual_sentence.masked_restoration import ImageSequences, SequenceWriter
from visual_sentence.words import WordFinder


@pytest.fixture
def shown(picture_folder) -> list:
    return [open_image(path) for path in sorted(picture_folder.iterdir())]


def test_a_sequence_is_begin_words_and_map(make_codec, language_model, shown):
    codec = make_codec()
    finder = WordFinder(codec.model, codec.image_processor)
    sequences = SequenceWriter(codec, language_model, finder, 2).write(shown[:3])
    words = [found.token_ids for found in finder.find(shown[:3], 2)]
    assert sequences.prefixes == [[0, *first, *second] for first, second in words]  # 0 is the end token: no begin token
    assert sequences.maps.equal(codec.encode(shown[:3]).image_tokens)


def test_without_words_only_the_begin_token_stands_in_front(make_codec, language_model, shown):
    sequences = SequenceWriter(make_codec(tower=False), language_model).write_all(shown, batch_size=5)
    assert sequences.prefixes == [[0]] * 12 and sequences.maps.shape == (12, 4, 4)


def test_inputs_are_padded_on_the_left(sequences):
    inputs = sequences.inputs("cpu")
    assert inputs["input_ids"].shape == (5, 4 + 16)
    assert inputs["input_ids"][:, -16:].equal(sequences.maps.flatten(1))
    assert inputs["attention_mask"].sum(1).tolist() == [17, 18, 20, 19, 17]
    assert inputs["position_ids"][0].tolist() == [0, 0, 0, *range(17)]
    assert inputs["input_ids"][1, 2:4].tolist() == [0, 5]


def test_files_keep_everything(sequences, tmp_path):
    sequences.save(tmp_path / "tokens.safetensors")
    back = ImageSequences.load(tmp_path / "tokens.safetensors")
    assert back.prefixes == sequences.prefixes and back.maps.equal(sequences.maps)
    (tmp_path / "tokens.safetensors").write_bytes(b"cut off")
    with pytest.raises(UserError, match=r"damaged.*delete it"):
        ImageSequences.load(tmp_path / "tokens.safetensors")


def test_the_commonest_token(sequences):
    maps = torch.tensor([[[5, 5], [9, 9]], [[5, 2], [9, 3]]])
    assert ImageSequences([[0], [0]], maps).most_frequent_token() == 5


def test_words_need_something_that_finds_them(make_codec, language_model):
    with pytest.raises(UserError, match="--global-model offline"):
        SequenceWriter(make_codec(tower=False), language_model, None, 5)


def test_codes_that_are_not_the_language_models_words_are_refused(make_codec, language_model):
    texts = entry_texts(language_model.tokenizer)
    swapped = [texts[1], texts[0], *texts[2:]]
    with pytest.raises(UserError, match=r"id 0 is .* give the language model that it was made for, tiny"):
        SequenceWriter(make_codec(words=swapped), language_model)


def test_a_language_model_with_fewer_tokens_is_refused(make_codec, language_model):
    config = LlamaConfig(vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1)
    small = LanguageModel(LlamaForCausalLM(config), language_model.tokenizer, "small")
    with pytest.raises(UserError, match="300 local tokens, but small only 64"):
        SequenceWriter(make_codec(), small)


def test_the_fingerprint_tells_models_apart_and_not_dtypes(make_codec):
    codec, other = make_codec(), make_codec(seed=1)
    fingerprint = codec.fingerprint
    assert fingerprint == make_codec().fingerprint != other.fingerprint
    again = make_codec()
    again.model.to(torch.bfloat16)
    assert again.fingerprint == fingerprint
    with torch.no_grad():
        codec.model.decoder.net.conv_out.weight.zero_()  # decides no token
    del codec.__dict__["fingerprint"]
    assert codec.fingerprint == fingerprint
