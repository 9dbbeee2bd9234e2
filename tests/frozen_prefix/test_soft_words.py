"""Pictures as words: the same likelihoods as by hand, words that cannot be written, a model left as it was."""

import pytest
import torch

from visual_sentence import LanguageModel, UserError
from visual_sentence.completion import LocalCompletions
from visual_sentence.completion.questions import encode_question
from visual_sentence.few_shot import ClassificationPrompt, Example, InContextClassifier
from visual_sentence.frozen_prefix import PrefixWords

LABELS = ["goldfish", "French bulldog", "dog", "dog sled"]
WIDTH = 32


def by_hand(model, words, prompt_ids, answer_ids) -> float:
    """Log-likelihood of an answer, by input embeddings put together here."""
    embedding, whole = model.get_input_embeddings().weight, [*prompt_ids, *answer_ids]
    rows = [words[i - len(embedding)] if i >= len(embedding) else embedding[i] for i in whole]
    with torch.no_grad():
        log_probs = model(inputs_embeds=torch.stack(rows)[None]).logits[0].log_softmax(-1)
    return sum(log_probs[place - 1, whole[place]].item() for place in range(len(prompt_ids), len(whole)))


@pytest.mark.parametrize("style", ["plain", "paper", "published-code"])
@pytest.mark.parametrize("kind", ["llama-bpe", "llama-metaspace", "gpt2-bpe", "mistral-bpe"])
def test_likelihoods_are_those_of_input_embeddings(kind, style, request):
    name, tokens = kind.split("-")
    model, tokenizer = request.getfixturevalue(name), request.getfixturevalue(f"{tokens}_tokenizer")
    prefixes = torch.randn(5, 2, WIDTH) * 0.3
    with PrefixWords(LanguageModel(model, tokenizer, "tiny")) as pictures:
        words = pictures.add(prefixes[:3]) + pictures.add(prefixes[3:])
        assert words[4] == ["<picture-4-0>", "<picture-4-1>"] and len(pictures) == 5
        prompt = ClassificationPrompt(style)
        support = [Example(tuple(row), label) for row, label in zip(words, LABELS, strict=False)]
        queries = [["".join(words[4])], words[0]]
        texts = [prompt.render(support, query, LABELS) for query in queries]
        answers = [prompt.answer(label) for label in LABELS]
        completions = LocalCompletions(pictures.language_model)
        cached = completions.log_likelihoods(texts, answers)
        plain = LocalCompletions(pictures.language_model, use_cache=False).log_likelihoods(texts, answers)
        copy = pictures.language_model.tokenizer
        for answer in InContextClassifier(completions, prompt, "likelihood").classify(support, queries, LABELS):
            assert answer.label in LABELS
    rows = prefixes.flatten(0, 1)
    for row, text in enumerate(texts):
        assert sum(token >= 420 for token in copy(text)["input_ids"]) == 10
        question = encode_question(copy, text, answers)  # where prompt and answers part in token ids
        for column, answer_ids in enumerate(question.answer_ids):
            expected = by_hand(model, rows, question.prompt_ids, answer_ids)
            assert plain[row, column].item() == pytest.approx(expected, abs=1e-4)
            assert cached[row, column].item() == pytest.approx(expected, abs=1e-4)


def test_model_and_tokenizer_are_left_as_they_were(llama, bpe_tokenizer):
    before = {name: tensor.clone() for name, tensor in llama.state_dict().items()}
    ids, embedding = bpe_tokenizer("<picture-0-0> dog")["input_ids"], llama.get_input_embeddings()
    given = torch.randint(0, 420, (1, 9))
    with torch.no_grad():
        logits = llama(given).logits
        with PrefixWords(LanguageModel(llama, bpe_tokenizer, "tiny")) as pictures:
            assert torch.equal(llama(given).logits, logits)
            pictures.add(torch.randn(2, 2, WIDTH))
            assert torch.equal(llama(given).logits, logits)
            assert llama.get_input_embeddings() is not embedding
            with pytest.raises(UserError, match="close that one first"):
                PrefixWords(LanguageModel(llama, bpe_tokenizer, "tiny"))
    assert llama.get_input_embeddings() is embedding
    assert llama.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in llama.state_dict().items())
    assert bpe_tokenizer("<picture-0-0> dog")["input_ids"] == ids


def test_pictures_can_be_read_and_not_written(language_model):
    """Also where the model has more rows than its tokenizer has entries."""
    model, tokenizer = language_model.model, language_model.tokenizer
    model.resize_token_embeddings(320)
    rows = model.get_input_embeddings().weight
    assert len(tokenizer) < 320
    with PrefixWords(language_model) as pictures:
        (words,) = pictures.add(rows[None, 5:7] * 40)  # rows that the tied or untied head would favour
        own = pictures.language_model.tokenizer
        ids = own.convert_tokens_to_ids(words)
        assert ids == [320, 321] and pictures.first_id == 320
        assert model(input_ids=torch.tensor([ids])).logits.shape[-1] == 320
        text = LocalCompletions(pictures.language_model).complete(["".join(words) + " a"], 8)[0]
        assert "<picture" not in text
    assert len(tokenizer) < 320


def test_prefixes_of_another_width_are_refused(language_model):
    with PrefixWords(language_model) as pictures, pytest.raises(UserError, match="got \\(1, 2, 7\\)"):
        pictures.add(torch.zeros(1, 2, 7))
