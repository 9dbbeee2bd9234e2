"""The local codebook: a row for every token id, equal to what encoder and language model say by themselves."""

import shutil
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    CLIPImageProcessor,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from typer.testing import CliRunner

from visual_sentence.codebook.local import (
    LocalCodebook,
    build_local_codebook,
    codebook_of_language_model,
    codebook_of_texts,
    entry_texts,
)
from visual_sentence.errors import UserError
from visual_sentence.language import LanguageModel
from visual_sentence.modeling import LocalVocabulary
from visual_sentence_cli.main import app

LAYERS = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


@pytest.fixture(scope="session")
def clip_folder(llm_folder, tmp_path_factory) -> str:
    """A saved dual encoder of random weights, which reads texts with the tiny language model's tokenizer."""
    folder = tmp_path_factory.mktemp("clip")
    tokenizer = AutoTokenizer.from_pretrained(llm_folder, pad_token="<eos>")
    texts = {**LAYERS, "vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0, "max_position_embeddings": 32}
    config = {"projection_dim": 16, "text_config": texts, "vision_config": {**LAYERS, "image_size": 32}}
    torch.manual_seed(0)
    AutoModel.from_config(AutoConfig.for_model("clip", **config)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def codebook() -> LocalCodebook:
    vocabulary = LocalVocabulary(["<eos>", "cat", "Ã", "café"], "tiny-llm")
    return LocalCodebook(torch.randn(4, 3), vocabulary, {"kind": "text"})


def ids_of(tokenizer: PreTrainedTokenizerFast, *tokens: str) -> list[int]:
    return [tokenizer.get_vocab()[token] for token in tokens]


def test_every_id_has_a_text(tokenizer):
    texts = entry_texts(tokenizer)
    assert len(texts) == len(tokenizer) and all(texts)
    # special tokens, whole words with and without their space, a byte that is no character, a blank
    shown = [texts[i] for i in ids_of(tokenizer, "<eos>", "Ġphoto", "a", "Ġa", "Ã", "Ġ")]
    assert shown == ["<eos>", "photo", "a", "a", "Ã", "Ġ"]


def test_ids_that_no_token_has_keep_their_place(tokenizer):
    class Gap(PreTrainedTokenizerFast):
        def get_vocab(self) -> dict[str, int]:
            return {token: token_id for token, token_id in super().get_vocab().items() if token_id != 7}

        def convert_ids_to_tokens(self, ids, skip_special_tokens=False):
            return None if ids == 7 else super().convert_ids_to_tokens(ids, skip_special_tokens)

    texts = entry_texts(Gap(tokenizer_object=tokenizer.backend_tokenizer, eos_token="<eos>"))
    assert len(texts) == len(tokenizer) and texts[7] == "<unused 7>"
    assert texts[8:] == entry_texts(tokenizer)[8:]


@pytest.mark.parametrize("templates", ["plain", ("a photo of a {}.", "the {} in the rain", "{}")])
def test_rows_are_what_the_encoder_says_of_each_text(tokenizer, encoder, tmp_path, templates):
    codebook = codebook_of_texts(tokenizer, encoder, folder=tmp_path, templates=templates, llm_name="tiny-llm")
    assert codebook.embeddings.shape == (len(tokenizer), 16) and codebook.embeddings.dtype == torch.float32
    for token, text in {"<eos>": "<eos>", "Ġphoto": "photo", "Ã": "Ã", "Ġ": "Ġ", "!": "!"}.items():
        prompts = [text] if templates == "plain" else [template.format(text) for template in templates]
        vectors = torch.cat([encoder.encode_token_ids(encoder.tokenize([prompt])) for prompt in prompts])
        (row,) = ids_of(tokenizer, token)
        # the mean over templates stays as it is: shorter than 1 where there are several
        assert torch.allclose(codebook.embeddings[row], vectors.mean(0), atol=1e-5), text
        assert codebook.vocabulary.words[row] == text
    with_and_without_space = codebook.embeddings[ids_of(tokenizer, "a", "Ġa")]
    assert torch.equal(*with_and_without_space)
    provenance = codebook.provenance
    assert (provenance["kind"], provenance["language_model"]) == ("text", "tiny-llm")
    assert (provenance["joint_encoder"], len(provenance["templates"])) == ("tiny-encoder", len(prompts))
    texts = set(entry_texts(tokenizer))
    assert provenance["counts"]["distinct_texts"] == len(texts)
    # the encoder ignores case
    assert provenance["counts"]["distinct_vectors"] == len({text.lower() for text in texts}) < len(texts)


def test_an_interrupted_build_goes_on_where_it_stopped(tokenizer, encoder, tmp_path, monkeypatch):
    expected = codebook_of_texts(tokenizer, encoder, folder=tmp_path / "whole", templates=("{}", "the {}"))
    whole, _ = len(encoder.encoded), encoder.encoded.clear()
    from visual_sentence.codebook import local

    embed = local.embed_texts
    monkeypatch.setattr(local, "embed_texts", lambda *args, **kwargs: embed(*args, **kwargs, chunk_prompts=100))
    encoder.fail_after = 200
    with pytest.raises(KeyboardInterrupt):
        codebook_of_texts(tokenizer, encoder, folder=tmp_path / "halved", templates=("{}", "the {}"))
    encoder.fail_after = None
    encoder.encoded.clear()
    again = codebook_of_texts(tokenizer, encoder, folder=tmp_path / "halved", templates=("{}", "the {}"))
    assert 0 < len(encoder.encoded) < whole
    assert torch.allclose(again.embeddings, expected.embeddings, atol=1e-6)
    encoder.encoded.clear()
    codebook_of_texts(tokenizer, encoder, folder=tmp_path / "halved", templates=("{}", "the {}"))
    assert not encoder.encoded  # a third run has nothing left to do


def test_input_embeddings_without_the_padding_rows(tokenizer, language_model, tmp_path):
    codebook = codebook_of_language_model(LanguageModel(language_model, tokenizer, "tiny-llama"), folder=tmp_path)
    matrix = language_model.model.embed_tokens.weight
    assert codebook.provenance["counts"] == {"entries": len(tokenizer), "embedding_rows": len(tokenizer) + 12}
    assert torch.equal(codebook.embeddings, matrix[: len(tokenizer)]) and not codebook.embeddings.requires_grad
    assert codebook.vocabulary == LocalVocabulary(entry_texts(tokenizer), "tiny-llama")
    codebook.embeddings.zero_()
    assert matrix[: len(tokenizer)].any()  # a copy


def test_a_tokenizer_larger_than_the_model_is_refused(tokenizer, language_model, tmp_path):
    model = LlamaForCausalLM(deepcopy(language_model.config))  # resizing changes it
    model.resize_token_embeddings(len(tokenizer) - 3)
    with pytest.raises(UserError, match=f"for {len(tokenizer) - 3} tokens, but its tokenizer has {len(tokenizer)}"):
        codebook_of_language_model(LanguageModel(model, tokenizer, "tiny"), folder=tmp_path)


def test_both_kinds_from_folders(llm_folder, clip_folder, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(llm_folder)
    by_text = build_local_codebook("text", str(llm_folder), clip_folder, folder=tmp_path / "text", device="cpu")
    by_llm = build_local_codebook("llm", str(llm_folder), folder=tmp_path / "llm")
    assert len(by_text) == len(by_llm) == len(tokenizer)
    assert by_text.vocabulary == by_llm.vocabulary and by_llm.vocabulary.language_model == str(llm_folder)
    weights = load_file(llm_folder / "model.safetensors")
    assert torch.equal(by_llm.embeddings, weights["model.embed_tokens.weight"][: len(tokenizer)])
    assert torch.allclose(by_text.embeddings.norm(dim=1), torch.ones(len(tokenizer)), atol=1e-5)
    assert by_text.provenance["joint_encoder"] == clip_folder
    assert LocalCodebook.load(tmp_path / "text").provenance == by_text.provenance


def test_half_precision_is_a_matter_of_storage(llm_folder, tmp_path):
    half = build_local_codebook("llm", str(llm_folder), folder=tmp_path / "half", dtype=torch.float16)
    whole = build_local_codebook("llm", str(llm_folder), folder=tmp_path / "whole")
    assert load_file(tmp_path / "half" / "local_codebook.safetensors")["embeddings"].dtype == torch.float16
    assert half.embeddings.dtype == torch.float32 and torch.equal(half.embeddings, whole.embeddings.half().float())
    read_in_half = build_local_codebook("llm", str(llm_folder), folder=tmp_path / "bf16", llm_dtype="bfloat16")
    assert torch.equal(read_in_half.embeddings, whole.embeddings.bfloat16().float())


def test_another_kind_or_vocabulary_needs_another_folder(llm_folder, clip_folder, tokenizer, encoder, tmp_path):
    build_local_codebook("llm", str(llm_folder), folder=tmp_path)
    with pytest.raises(UserError, match='kind was "llm" and is now "text"'):
        build_local_codebook("text", str(llm_folder), clip_folder, folder=tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"language_model was .* and is now null; texts was"):
        codebook_of_texts(tokenizer, encoder, folder=tmp_path)
    codebook_of_texts(tokenizer, encoder, folder=tmp_path / "text")
    with pytest.raises(UserError, match="templates was"):
        codebook_of_texts(tokenizer, encoder, folder=tmp_path / "text", templates="photo")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"kind": "words"}, "no local codebook of kind 'words': choose one of text, llm"),
        ({"kind": "text", "templates": "phot"}, "no template set 'phot'"),
        ({"kind": "llm", "llm": "no/such/model"}, "no/such/model"),
        ({"kind": "llm", "llm_dtype": "int8"}, "int8"),
    ],
)
def test_mistakes_are_answered_in_one_line(llm_folder, tmp_path, arguments, said):
    with pytest.raises(UserError, match=said) as error:
        build_local_codebook(**{"llm": str(llm_folder), "folder": tmp_path / "out", **arguments})
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_save_and_load(codebook, tmp_path):
    codebook.save(tmp_path / "new" / "folder")
    again = LocalCodebook.load(tmp_path / "new" / "folder")
    assert torch.equal(again.embeddings, codebook.embeddings) and again.vocabulary == codebook.vocabulary
    assert again.provenance["kind"] == "text" and {"embeddings_sha256", "words_sha256"} < set(again.provenance)
    again.save(tmp_path / "again")
    for path in (tmp_path / "new" / "folder").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name


@pytest.mark.parametrize("name", ["local_codebook.json", "local_vocabulary.json", "local_codebook.safetensors"])
def test_a_missing_file_is_named(codebook, tmp_path, name):
    codebook.save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=f"There is no {name} in .*, so it holds no local codebook"):
        LocalCodebook.load(tmp_path)


@pytest.mark.parametrize("name", ["local_codebook.json", "local_vocabulary.json", "local_codebook.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1, 2]", b"\xff\xfe\x00garbage"])
def test_a_damaged_file_is_no_codebook(codebook, tmp_path, name, content):
    codebook.save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match="holds no local codebook as it was saved") as error:
        LocalCodebook.load(tmp_path)
    assert "\n" not in str(error.value)


def test_parts_of_two_builds_are_not_mixed(codebook, tmp_path):
    codebook.save(tmp_path)
    save_file({"embeddings": codebook.embeddings + 1}, tmp_path / "local_codebook.safetensors")
    with pytest.raises(UserError, match="do not match their digest"):
        LocalCodebook.load(tmp_path)
    codebook.save(tmp_path)
    path = tmp_path / "local_vocabulary.json"
    path.write_text(path.read_text(encoding="utf-8").replace("cat", "dog"), encoding="utf-8")
    with pytest.raises(UserError, match="not the one that was saved with the embeddings"):
        LocalCodebook.load(tmp_path)


def test_parts_that_do_not_fit_are_refused(codebook):
    with pytest.raises(UserError, match=r"4 entries needs one vector for each, found embeddings of shape \(3, 3\)"):
        LocalCodebook(codebook.embeddings[:3], codebook.vocabulary, {})
    broken = codebook.embeddings.clone()
    broken[2, 1] = float("inf")
    with pytest.raises(UserError, match=r"1 vectors .* not finite, the first is that of entry 2"):
        LocalCodebook(broken, codebook.vocabulary, {})


@pytest.fixture
def padded_llm_folder(llm_folder, tmp_path) -> str:
    """The tiny language model with ten more rows than its tokenizer has entries."""
    model = LlamaForCausalLM.from_pretrained(llm_folder)
    model.resize_token_embeddings(len(AutoTokenizer.from_pretrained(llm_folder)) + 10)
    shutil.copytree(llm_folder, tmp_path / "padded")
    model.save_pretrained(tmp_path / "padded")
    return str(tmp_path / "padded")


def test_the_command_embeds_texts(llm_folder, clip_folder, tmp_path):
    models = ["--llm", str(llm_folder), "--encoder", clip_folder, "--device", "cpu"]
    choices = ["--templates", "a drawing of {}", "--half", "--output", str(tmp_path / "out")]
    outcome = CliRunner().invoke(app, ["codebook", "local", *models, *choices])
    assert (outcome.exit_code, outcome.stdout) == (0, f"300 entries of 16 dimensions: {tmp_path / 'out'}\n")
    provenance = LocalCodebook.load(tmp_path / "out").provenance
    assert (provenance["kind"], provenance["templates"]) == ("text", ["a drawing of {}"])
    assert load_file(tmp_path / "out" / "local_codebook.safetensors")["embeddings"].dtype == torch.float16


def test_the_command_takes_input_embeddings_and_tells_of_padding(padded_llm_folder, tmp_path):
    arguments = ["--kind", "llm", "--llm", padded_llm_folder, "--dtype", "bfloat16", "--output", str(tmp_path / "out")]
    outcome = CliRunner().invoke(app, ["codebook", "local", *arguments])
    said = f"300 entries of 32 dimensions (the model's other 10 rows are padding): {tmp_path / 'out'}\n"
    assert (outcome.exit_code, outcome.stdout) == (0, said)
    codebook = LocalCodebook.load(tmp_path / "out")
    assert codebook.provenance["kind"] == "llm"
    assert torch.equal(codebook.embeddings, codebook.embeddings.bfloat16().float())


def test_the_commands_help_names_its_options():
    outcome = CliRunner().invoke(app, ["codebook", "local", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert outcome.exit_code == 0
    for option in ("--output", "--kind", "--llm", "--encoder", "--templates", "--half", "--device", "--dtype"):
        assert option in outcome.output
