import math

import pytest
import torch
from torch import nn
from transformers import LlamaConfig
from transformers.modeling_outputs import CausalLMOutputWithPast

from visual_sentence.completion.decoding import PositionMaskConstraint, TrieConstraint, matching_answers
from visual_sentence.completion.prefix_cache import SharedPrefix
from visual_sentence.completion.questions import Question, batches, encode_question
from visual_sentence.completion.scoring import cached_log_likelihoods, plain_log_likelihoods

QUESTION = Question(prompt_ids=(1, 2), answer_ids=((5, 6), (5, 7, 8), (9,)), overlap="")
END = 0


class BigramModel(nn.Module):
    """After token a, token b has probability `table[a][b]`: answers can be scored on paper."""

    device = torch.device("cpu")

    def __init__(self, table):
        super().__init__()
        self.logits = torch.tensor(table).log()
        self.config = LlamaConfig(num_hidden_layers=1)

    def forward(self, input_ids, past_key_values=None, attention_mask=None, position_ids=None, use_cache=False):
        if past_key_values is not None:
            states = torch.zeros(*input_ids.shape, 1)[:, None]
            past_key_values.update(states, states, 0)
        return CausalLMOutputWithPast(logits=self.logits[input_ids], past_key_values=past_key_values)


@pytest.fixture
def bigram():
    return BigramModel([[0.1, 0.2, 0.7], [0.5, 0.25, 0.25], [0.3, 0.6, 0.1]])


@pytest.fixture(params=["cached", "plain"])
def score(request):
    """Both ways to score, with one signature."""
    if request.param == "plain":
        return plain_log_likelihoods
    return lambda questions, model: cached_log_likelihoods(questions, SharedPrefix(model), batch_size=2)


def test_likelihoods_worked_out_by_hand(bigram, score):
    questions = [
        Question((1, 0), ((2,), (1, 1), (2, 1, 0)), ""),
        Question((1, 0, 2), ((0,), (0, 2), (1, 0, 0)), ""),
    ]
    expected = [[0.7, 0.2 * 0.25, 0.7 * 0.6 * 0.5], [0.3, 0.3 * 0.7, 0.6 * 0.5 * 0.1]]
    expected = [[math.log(value) for value in row] for row in expected]
    assert score(questions, bigram).tolist() == [pytest.approx(row, abs=1e-6) for row in expected]


def test_answers_begin_where_any_encoding_parts(bpe_tokenizer):
    prompt, answers = "Output: ", ["dog", "French_bulldog"]
    question = encode_question(bpe_tokenizer, prompt, answers)
    full = [tuple(bpe_tokenizer(prompt + answer)["input_ids"]) for answer in answers]
    assert [question.prompt_ids + ids for ids in question.answer_ids] == full
    # The space at the prompt's end belongs to the answers' first tokens.
    assert question.overlap == " "
    assert bpe_tokenizer.decode(question.prompt_ids) == "Output:"


def test_a_closing_end_token_is_not_part_of_the_prompt(bpe_tokenizer):
    with_end = [*bpe_tokenizer("Words")["input_ids"], bpe_tokenizer.eos_token_id]

    class ClosingTokenizer:
        eos_token_id = bpe_tokenizer.eos_token_id
        decode = staticmethod(bpe_tokenizer.decode)

        def __call__(self, texts, **kwargs):
            return {"input_ids": [with_end for _ in texts]}

    assert encode_question(ClosingTokenizer(), "Words").prompt_ids == tuple(with_end[:-1])


@pytest.mark.parametrize("mixed_lengths", [True, False])
def test_batches_hold_every_sequence_once_and_stay_small(mixed_lengths):
    lengths = [3, 1, 3, 3, 2, 1, 3]
    groups = list(batches(lengths, 2, mixed_lengths))
    assert sorted(index for group in groups for index in group) == list(range(7))
    assert max(map(len, groups)) == 2
    if not mixed_lengths:
        assert all(len({lengths[index] for index in group}) == 1 for group in groups)


@pytest.mark.parametrize(
    ("constraint", "generated", "allowed"),
    [
        (TrieConstraint, [], {5, 9}),
        (TrieConstraint, [5], {6, 7}),
        (TrieConstraint, [5, 6], {END}),
        (TrieConstraint, [9], {END}),
        (PositionMaskConstraint, [], {5, 9}),
        (PositionMaskConstraint, [9], {6, 7, END}),
        (PositionMaskConstraint, [9, 6], {8, END}),
    ],
)
def test_constraints_leave_only_the_allowed_tokens(constraint, generated, allowed):
    prompt = list(QUESTION.prompt_ids)
    processor = constraint([QUESTION], start=len(prompt), end_id=END)
    scores = processor(torch.tensor([prompt + generated]), torch.zeros(1, 10))
    assert set(scores[0].isfinite().nonzero()[:, 0].tolist()) == allowed


def test_a_complete_row_is_left_alone():
    processor = TrieConstraint([QUESTION], start=0, end_id=END)
    assert processor(torch.tensor([[9, END, 3]]), torch.ones(1, 10)).tolist() == [[1.0] * 10]


@pytest.mark.parametrize(("generated", "matching"), [([5], [0, 1]), ([5, 7], [1]), ([9, 3, 3], [2]), ([], [0, 1, 2])])
def test_matching_answers(generated, matching):
    assert matching_answers(QUESTION, generated) == matching


def test_the_overlap_keeps_the_spaces_of_sentencepiece(metaspace_tokenizer):
    prompt, answers = "The photo shows:", [" dog", " goldfish"]
    question = encode_question(metaspace_tokenizer, prompt, answers)
    assert question.overlap
    assert metaspace_tokenizer.decode(question.prompt_ids, skip_special_tokens=True) + question.overlap == prompt
