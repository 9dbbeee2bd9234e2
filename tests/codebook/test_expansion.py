import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from visual_sentence.codebook import Item, distinct_items, expand_vocabulary, vocabulary_entries
from visual_sentence.codebook.expansion import encode_prompts
from visual_sentence.codebook.vocabulary import readable_texts
from visual_sentence.errors import UserError


@pytest.fixture
def entries(tokenizer):
    return vocabulary_entries(tokenizer)


@pytest.fixture
def forwards(language_model):
    """Counts the sequences that the language model reads."""
    counted = []
    hook = language_model.register_forward_hook(
        lambda module, args, kwargs, output: counted.append(len(args[0])), with_kwargs=True
    )
    yield counted
    hook.remove()


def items_one_by_one(model, tokenizer, entries, next_tokens):
    """The expansion as a plain loop; `next_tokens(ids)` gives the continuations of one whole prompt."""
    readable = readable_texts(tokenizer)
    prefix_length = len(encode_prompts(tokenizer, [entry.text for entry in entries]).prefix_ids)
    found = {"bigram": [], "trigram": []}

    def keep(ids, kind):
        text = " ".join(tokenizer.decode(ids[prefix_length:]).split())
        found[kind].append(Item(text, tuple(ids[prefix_length:]), kind))

    for entry in entries:
        ids = tokenizer(f"a photo of {entry.text}")["input_ids"]
        for second in filter(readable.__contains__, next_tokens(ids)):
            keep([*ids, second], "bigram")
            for third in filter(readable.__contains__, next_tokens([*ids, second])):
                keep([*ids, second, third], "trigram")
    return found["bigram"] + found["trigram"]


def test_subwords_need_no_language_model(tokenizer, entries, tmp_path):
    items = expand_vocabulary(entries, tokenizer, folder=tmp_path, ngrams=1)
    assert [item.text for item in items] == [entry.text for entry in entries]
    assert all(" ".join(tokenizer.decode(item.token_ids).split()) == item.text for item in items)
    with pytest.raises(UserError, match="ngrams=2"):
        expand_vocabulary(entries, tokenizer, folder=tmp_path, ngrams=2)


def test_same_items_as_generate_one_at_a_time(language_model, tokenizer, entries, tmp_path):
    def greedy(ids):
        output = language_model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=1, do_sample=False
        )
        return output[0, len(ids) :].tolist()

    items = expand_vocabulary(entries, tokenizer, folder=tmp_path, model=language_model, batch_size=50)
    expected = items_one_by_one(language_model, tokenizer, entries, greedy)
    assert items[len(entries) :] == expected
    kinds = [item.kind for item in expected]
    # Some were dropped, so the rule for unreadable tokens was at work.
    assert 0 < kinds.count("trigram") < kinds.count("bigram") < len(entries)
    assert len({item.token_ids[-1] for item in expected}) > 20


def test_both_new_tokens_of_one_generate_call(language_model, tokenizer, entries, tmp_path):
    items = expand_vocabulary(entries, tokenizer, folder=tmp_path, model=language_model)
    trigrams = {item.token_ids for item in items if item.kind == "trigram"}
    prefix_ids = encode_prompts(tokenizer, ["cat"]).prefix_ids
    for ids in sorted(trigrams)[:20]:
        prompt = torch.tensor([[*prefix_ids, *ids[:-2]]])
        output = language_model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=2, do_sample=False
        )
        assert output[0, len(prefix_ids) :].tolist() == list(ids)


@pytest.mark.parametrize("ngrams", [2, 3])
def test_two_continuations_equal_a_plain_loop(language_model, tokenizer, entries, tmp_path, ngrams):
    @torch.inference_mode()
    def top_two(ids):
        return language_model(torch.tensor([ids])).logits[0, -1].topk(2).indices.tolist()

    entries = entries[::4]
    items = expand_vocabulary(entries, tokenizer, folder=tmp_path, model=language_model, ngrams=ngrams, continuations=2)
    expected = items_one_by_one(language_model, tokenizer, entries, top_two)
    kinds = ("bigram", "trigram")[: ngrams - 1]
    assert items[len(entries) :] == [item for item in expected if item.kind in kinds]


def test_a_model_without_logits_to_keep(tokenizer, entries, tmp_path):
    class OldModel(GPT2LMHeadModel):
        def forward(self, input_ids=None, past_key_values=None, attention_mask=None, use_cache=None):
            return super().forward(
                input_ids, past_key_values=past_key_values, attention_mask=attention_mask, use_cache=use_cache
            )

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2, initializer_range=0.5)
    model = OldModel(config).eval()
    items = expand_vocabulary(entries[:40], tokenizer, folder=tmp_path, model=model)
    plain = items_one_by_one(
        model,
        tokenizer,
        entries[:40],
        lambda ids: [int(model(torch.tensor([ids])).logits[0, -1].argmax())],
    )
    assert items[40:] == plain


def test_an_interrupted_run_continues(language_model, tokenizer, entries, tmp_path, forwards, monkeypatch):
    def expand(folder):
        return expand_vocabulary(entries, tokenizer, folder=folder, model=language_model, batch_size=16, chunk_size=32)

    expected = expand(tmp_path / "whole")
    whole, _ = sum(forwards), forwards.clear()

    def interrupt(*_):
        if len(forwards) > 12:
            raise KeyboardInterrupt

    hook = language_model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        expand(tmp_path / "halved")
    hook.remove()
    forwards.clear()
    assert expand(tmp_path / "halved") == expected
    assert 0 < sum(forwards) < whole
    forwards.clear()
    assert expand(tmp_path / "halved") == expected
    assert not forwards


def test_other_settings_are_refused(language_model, tokenizer, entries, tmp_path):
    expand_vocabulary(entries[:9], tokenizer, folder=tmp_path, model=language_model, ngrams=2)
    with pytest.raises(UserError, match="ngrams was 2 and is now 3"):
        expand_vocabulary(entries[:9], tokenizer, folder=tmp_path, model=language_model, ngrams=3)
    with pytest.raises(UserError, match="language_model"):
        expand_vocabulary(entries[:9], tokenizer, folder=tmp_path, model=language_model, ngrams=2, llm_name="other")


def test_prefix_is_shared_by_few_entries_too(tokenizer):
    prompts = encode_prompts(tokenizer, ["cat", "cats"])
    assert prompts.prefix_ids == tokenizer("a photo of")["input_ids"]
    assert all(prompts.suffixes)


def test_first_of_equal_texts_stays():
    items = [
        Item("king fisher", (1,), "subword"),
        Item("king fisher", (2, 3), "bigram"),
        Item("x", (4,), "bigram"),
    ]
    assert distinct_items(items) == [items[0], items[2]]
