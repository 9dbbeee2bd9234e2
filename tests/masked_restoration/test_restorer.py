"""Filling masked tokens: known ones forced, the same tokens however they are batched, nothing but local tokens."""

import pytest
import torch

from visual_sentence.errors import UserError
from visual_sentence.masked_restoration import ImageSequences, MaskedRestorer, random_known
from visual_sentence.masked_restoration.evaluation import copy_from_the_left


def greedy(model, prefix: list[int], tokens: list[int], known: list[bool], codebook_size: int) -> list[int]:
    """Worked out token by token, with nothing of the restorer's."""
    written = list(prefix)
    for token, is_known in zip(tokens, known, strict=True):
        if not is_known:
            with torch.no_grad():
                logits = model(torch.tensor([written])).logits[0, -1, :codebook_size]
            token = int(logits.argmax())
        written.append(token)
    return written[len(prefix) :]


@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_tokens_are_those_of_a_loop(name, batch_size, sequences, request):
    model = request.getfixturevalue(name)
    known = random_known(sequences.maps, 0.4, seed=2)
    restored = MaskedRestorer(model, 250, batch_size=batch_size).restore(sequences, known)
    for row in range(len(sequences)):
        expected = greedy(
            model, sequences.prefixes[row], sequences.maps[row].flatten().tolist(), known[row].flatten().tolist(), 250
        )
        assert restored[row].flatten().tolist() == expected


def test_the_plain_way_gives_the_same(llama, sequences):
    known = random_known(sequences.maps, 0.5)
    expected = MaskedRestorer(llama, 300, use_cache=False).restore(sequences, known)
    assert MaskedRestorer(llama, 300).restore(sequences, known).equal(expected)


def test_masked_tokens_are_not_read(llama, sequences):
    known = random_known(sequences.maps, 0.3)
    other = ImageSequences(sequences.prefixes, torch.where(known, sequences.maps, 17))
    restorer = MaskedRestorer(llama, 300)
    assert restorer.restore(other, known).equal(restorer.restore(sequences, known))


def test_known_tokens_stay_and_only_local_ones_are_written(llama, sequences):
    known = random_known(sequences.maps, 0.6)
    maps = sequences.maps % 20
    restored = MaskedRestorer(llama, 20).restore(ImageSequences(sequences.prefixes, maps), known)
    assert restored[known].equal(maps[known]) and restored.max() < 20


def test_nothing_masked_changes_nothing(llama, sequences):
    known = torch.ones_like(sequences.maps, dtype=torch.bool)
    assert MaskedRestorer(llama, 300).restore(sequences, known).equal(sequences.maps)


def test_masks_have_their_size_and_belong_to_their_picture():
    maps = torch.arange(3 * 64).view(3, 8, 8)
    known = random_known(maps, 0.3, seed=4)
    assert (~known).flatten(1).sum(1).tolist() == [19, 19, 19]  # round(0.3 * 64)
    assert not known[0].equal(known[1])
    assert random_known(maps[1:2], 0.3, seed=4)[0].equal(known[1])
    assert not random_known(maps, 0.3, seed=5).equal(known)
    assert (~random_known(maps, 0.001)).flatten(1).sum(1).tolist() == [1, 1, 1]
    for ratio in (0, 1, -0.3):
        with pytest.raises(UserError, match="between 0 and 1"):
            random_known(maps, ratio)


def test_copies_from_the_left():
    maps = torch.tensor([[[1, 2], [3, 4]], [[5, 6], [7, 8]]])
    known = torch.tensor([[[True, False], [False, True]], [[False, False], [True, False]]])
    assert copy_from_the_left(maps, known).tolist() == [[[1, 1], [1, 4]], [[7, 7], [7, 7]]]
