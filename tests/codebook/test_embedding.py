import numpy as np
import pytest
import torch
import torch.nn.functional as F

from visual_sentence.codebook import embed_texts
from visual_sentence.errors import UserError

TEXTS = [
    "cat",
    "a golden retriever",
    "Cat",
    "dog",
    "cat",
    "fire engine",
    "x",
    "dogs",
    "old towers near the river",
]
TEMPLATES = ("a photo of a {}.", "{}", "the {} in the rain")


@pytest.mark.parametrize("renormalize", [False, True])
def test_same_as_one_word_at_a_time(encoder, tmp_path, renormalize):
    embeddings = embed_texts(
        encoder, TEXTS, folder=tmp_path, templates=TEMPLATES, renormalize=renormalize, token_budget=64
    )
    assert (embeddings.shape, embeddings.dtype) == ((len(TEXTS), 16), np.float32)
    for text, embedding in zip(TEXTS, embeddings, strict=True):
        prompts = [template.format(text) for template in TEMPLATES]
        one = torch.cat([encoder.encode_token_ids(encoder.tokenize([prompt])) for prompt in prompts]).mean(0)
        one = F.normalize(one, dim=0) if renormalize else one
        assert np.abs(embedding - one.numpy()).max() < 1e-5


def test_equal_prompts_are_encoded_once(encoder, tmp_path):
    embeddings = embed_texts(encoder, TEXTS, folder=tmp_path, templates=("{}", "the {}", "{}"))
    # The encoder ignores case, so that "Cat" is "cat" to it; one of the three templates is given twice.
    words = {text.lower() for text in TEXTS}
    assert len(encoder.encoded) == 2 * len(words)
    assert np.array_equal(embeddings[0], embeddings[2]) and np.array_equal(embeddings[0], embeddings[4])


def test_batches_stay_within_the_budget(encoder, tmp_path, monkeypatch):
    sizes = []
    encode = encoder.encode_token_ids
    monkeypatch.setattr(
        encoder,
        "encode_token_ids",
        lambda batch: (sizes.append((len(batch), max(map(len, batch)))), encode(batch))[1],
    )
    embed_texts(encoder, TEXTS, folder=tmp_path, templates=TEMPLATES, token_budget=60)
    assert all(count == 1 or count * longest <= 60 for count, longest in sizes)
    assert max(count for count, _ in sizes) > 1


def test_an_interrupted_run_continues(encoder, tmp_path):
    expected = embed_texts(encoder, TEXTS, folder=tmp_path / "whole", templates=TEMPLATES, chunk_prompts=6)
    whole, _ = len(encoder.encoded), encoder.encoded.clear()
    encoder.fail_after = 10
    with pytest.raises(KeyboardInterrupt):
        embed_texts(encoder, TEXTS, folder=tmp_path / "halved", templates=TEMPLATES, chunk_prompts=6)
    encoder.fail_after = None
    encoder.encoded.clear()
    again = embed_texts(encoder, TEXTS, folder=tmp_path / "halved", templates=TEMPLATES, chunk_prompts=6)
    assert np.array_equal(again, expected)
    assert 0 < len(encoder.encoded) < whole


def test_other_settings_are_refused(encoder, tmp_path):
    embed_texts(encoder, TEXTS, folder=tmp_path)
    with pytest.raises(UserError, match="renormalize was false and is now true"):
        embed_texts(encoder, TEXTS, folder=tmp_path, renormalize=True)
    with pytest.raises(UserError, match="texts"):
        embed_texts(encoder, TEXTS[1:], folder=tmp_path)
