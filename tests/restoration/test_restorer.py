"""Both ways of restoring write the same tokens, whatever the model, the batch and the mode."""

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM, MambaConfig, MambaForCausalLM

from visual_sentence import UserError
from visual_sentence.completion.prefix_cache import SharedPrefix
from visual_sentence.language import LanguageModel, load_language_model
from visual_sentence.restoration import packing
from visual_sentence.restoration.copies import noisy_copies
from visual_sentence.restoration.examples import NoisyCopyExamples, SharedExamples, draw_examples
from visual_sentence.restoration.local_tokens import LocalTokensOnly, ids_without_meaning
from visual_sentence.restoration.prompts import Pair
from visual_sentence.restoration.restorer import InContextRestorer
from visual_sentence.restoration.tasks import TASKS, hole_of, seeded, steps_of

GRID = (4, 6)


@pytest.fixture(params=["llama", "mistral", "gpt2"])
def language_model(request, bpe_tokenizer, metaspace_tokenizer) -> LanguageModel:
    tokenizer = metaspace_tokenizer if request.param == "llama" else bpe_tokenizer
    return LanguageModel(request.getfixturevalue(request.param), tokenizer, f"tiny-{request.param}")


@pytest.fixture
def tiny_llama(llama, bpe_tokenizer) -> LanguageModel:
    return LanguageModel(llama, bpe_tokenizer, "tiny-llama")


def random_maps(count: int, seed: int, grid: tuple[int, int] = GRID) -> torch.Tensor:
    return torch.randint(3, 420, (count, *grid), generator=torch.Generator().manual_seed(seed))


def examples_of(mode: str, restorer: InContextRestorer, task: str, degraded: torch.Tensor, clean: torch.Tensor):
    if mode == "leak-free":
        others = random_maps(3, 7), random_maps(3, 8)
        return draw_examples(restorer.writer, task, *others, 4, seeded(0, "examples"))
    pairs = zip(degraded, clean, strict=True)
    return NoisyCopyExamples([noisy_copies(*pair, restorer.vocabulary, (0.5, 0.23)) for pair in pairs], task)


@pytest.mark.parametrize("mode", ["leak-free", "paper"])
@pytest.mark.parametrize("task", TASKS)
def test_both_ways_write_the_same_tokens(task, mode, language_model):
    variant = "paper" if task in ("rotation", "outpainting") else "published-code"
    restorer = InContextRestorer(language_model, variant=variant, condition=5, max_batch_tokens=700)
    degraded, clean = random_maps(2, 1), random_maps(2, 2)
    examples = examples_of(mode, restorer, task, degraded, clean)
    fast, plain = (way(task, degraded, examples) for way in (restorer.restore, restorer.restore_plain))
    hole = hole_of(task, *GRID)
    assert torch.equal(fast, plain)
    assert torch.equal(fast[:, ~hole], degraded[:, ~hole])
    assert set(fast[:, hole].flatten().tolist()) <= set(restorer.vocabulary.tolist())
    assert len(set(fast[:, hole].flatten().tolist())) > 1


@pytest.mark.parametrize("task", ["inpainting", "deblurring"])
def test_the_plain_way_is_a_loop_over_forward_passes(task, tiny_llama):
    restorer = InContextRestorer(tiny_llama, condition=5, step=3)
    (degraded,), clean = random_maps(1, 1), random_maps(1, 2)
    examples = examples_of("paper", restorer, task, degraded[None], clean)
    expected = degraded.flatten().tolist()
    pieces = {"end": " >\nOutput: ", "begin": "###\nInput: < "}
    ids = {name: tiny_llama.tokenizer(text)["input_ids"] for name, text in pieces.items()}
    instruction = "Learning a new language and predict the 3 tokens following the examples.\n"
    for step in steps_of(task, *GRID, 3):
        prompt = tiny_llama.tokenizer(instruction)["input_ids"]
        places = range(step[0] - 5, step[0]) if task == "inpainting" else step
        for copy in examples.copies[0]:
            source = copy.clean if task == "inpainting" else copy.degraded
            prompt += ids["begin"] + [source[place] for place in places] + ids["end"]
            prompt += [copy.clean[place] for place in step]
        source = expected if task == "inpainting" else degraded.flatten().tolist()
        prompt += ids["begin"] + [source[place] for place in places] + ids["end"]
        for place in step:
            logits = tiny_llama.model(torch.tensor([prompt])).logits[0, -1]
            logits[tiny_llama.tokenizer.eos_token_id] = -torch.inf  # the only special token
            prompt.append(int(logits.argmax()))
            expected[place] = prompt[-1]
    assert restorer.restore_plain(task, degraded[None], examples).flatten().tolist() == expected


@pytest.mark.parametrize("limit", [1, 300, 100_000])
def test_batches_change_nothing(limit, tiny_llama):
    degraded = random_maps(3, 1)
    for task in ("inpainting", "deblurring"):
        restorer = InContextRestorer(tiny_llama, variant="paper", condition=5, max_batch_tokens=limit)
        examples = examples_of("leak-free", restorer, task, degraded, degraded)
        alone = [restorer.restore(task, one[None], examples)[0] for one in degraded]
        assert torch.equal(restorer.restore(task, degraded, examples), torch.stack(alone))


def test_a_step_longer_than_what_is_left_is_cut(tiny_llama):
    restorer = InContextRestorer(tiny_llama, step=5)
    degraded = random_maps(2, 1)
    for task in ("inpainting", "outpainting", "shift"):
        examples = examples_of("leak-free", restorer, task, degraded, degraded)
        assert torch.equal(restorer.restore(task, degraded, examples), restorer.restore_plain(task, degraded, examples))


def test_models_of_another_kind_are_asked_with_the_whole_prompt(bpe_tokenizer):
    sizes = {"vocab_size": 420, "hidden_size": 32, "initializer_range": 0.3}
    torch.manual_seed(0)
    mamba = MambaForCausalLM(MambaConfig(**sizes, num_hidden_layers=2, state_size=4)).eval()
    bloom = BloomForCausalLM(BloomConfig(**sizes, n_layer=2, n_head=4)).eval()
    degraded = random_maps(2, 1)
    for model, shares in ((mamba, False), (bloom, True)):
        restorer = InContextRestorer(LanguageModel(model, bpe_tokenizer, "other"))
        examples = examples_of("leak-free", restorer, "rotation", degraded, degraded)
        assert (restorer._prefix is not None) == shares and not restorer._can_pack
        fast, plain = (way("rotation", degraded, examples) for way in (restorer.restore, restorer.restore_plain))
        assert torch.equal(fast, plain)


def test_prompts_are_packed_only_where_a_trial_shows_that_it_works(llama, gpt2, mistral, monkeypatch):
    assert packing.can_pack(SharedPrefix(llama)) and packing.can_pack(SharedPrefix(gpt2))
    assert not packing.can_pack(SharedPrefix(mistral))  # its window counts entries of the cache
    forward = type(llama).forward

    def forgets_positions(self, input_ids=None, attention_mask=None, position_ids=None, **kwargs):
        return forward(self, input_ids=input_ids, attention_mask=attention_mask, **kwargs)

    monkeypatch.setattr(type(llama), "forward", forgets_positions)
    assert not packing.can_pack(SharedPrefix(llama))


def test_equal_prompts_are_asked_once(tiny_llama, monkeypatch):
    rows = []
    monkeypatch.setattr(
        "visual_sentence.restoration.restorer.write_packed",
        lambda prefix, prompts, count, processor: rows.append(len(prompts)) or [[5] * count for _ in prompts],
    )
    restorer = InContextRestorer(tiny_llama)
    degraded = torch.full((2, *GRID), 9)
    degraded[0, 0, 0] = 8
    restored = restorer.restore("deblurring", degraded, SharedExamples([Pair((1, 2), (3, 4))] * 3))
    assert rows == [2] and (restored == 5).all()


def test_no_model_writes_what_is_no_local_token(tiny_llama):
    restorer = InContextRestorer(tiny_llama, codebook_size=50)
    assert restorer.vocabulary.tolist() == [token for token in range(50) if token != tiny_llama.tokenizer.eos_token_id]
    degraded = random_maps(1, 1) % 50
    examples = SharedExamples([Pair((20, 21), (22, 23))])
    for way in (restorer.restore, restorer.restore_plain):
        assert set(way("deblurring", degraded, examples).flatten().tolist()) <= set(range(50))


def test_local_tokens_only():
    scores = torch.tensor([[9.0, 1.0, 5.0, 8.0], [0.0, 3.0, 2.0, 9.0]])
    only = LocalTokensOnly(3, [0])
    assert only(None, scores).tolist() == [[-torch.inf, 1, 5, -torch.inf], [-torch.inf, 3, 2, -torch.inf]]
    assert only(None, scores.half()).dtype == torch.float16
    assert LocalTokensOnly(9)(None, scores).tolist() == scores.tolist()  # more entries than the model has logits
    with pytest.raises(UserError, match="None of the 2 entries"):
        LocalTokensOnly(2, [0, 1])


def test_special_and_unused_ids_mean_nothing(metaspace_tokenizer):
    assert ids_without_meaning(metaspace_tokenizer) == [0, 1, 2]

    class Gaps:
        all_special_ids, added_tokens_decoder = [4], {}

        @staticmethod
        def get_vocab():
            return {"a": 0, "b": 3, "<s>": 4}

    assert ids_without_meaning(Gaps()) == [1, 2, 4]


def test_examples_are_drawn_from_pairs_of_maps(tiny_llama):
    writer = InContextRestorer(tiny_llama, condition=3).writer
    degraded, clean = torch.arange(48).view(2, 4, 6), torch.arange(100, 148).view(2, 4, 6)
    seen = set()
    for seed in range(30):
        drawn = draw_examples(writer, "inpainting", degraded, clean, 4, seeded(seed))
        assert len(drawn.shared) == 4
        pictures = [(pair.target[0] - 100) // 24 for pair in drawn.shared]
        assert sorted(pictures) == [0, 0, 1, 1] and pictures[:2] == pictures[2:]
        for pair, picture in zip(drawn.shared, pictures, strict=True):
            place = pair.target[0] - 100 - 24 * picture
            assert pair.target == tuple(range(100 + 24 * picture + place, 102 + 24 * picture + place))
            assert place in (7, 13)  # steps of one token at a run's end are left out
            assert pair.source == tuple(range(24 * picture + place - 3, 24 * picture + place))
            seen.add((picture, place))
    assert len(seen) == 4
    (pair,) = draw_examples(writer, "shift", degraded[:1], clean[:1], 1, seeded(0)).shared
    assert [token - 100 for token in pair.target] == list(pair.source)
    with pytest.raises(UserError, match="there is none: give examples"):
        draw_examples(writer, "shift", degraded[:0], clean[:0], 1, seeded(0))


def test_inside_a_hole_examples_read_the_clean_map(tiny_llama):
    writer = InContextRestorer(tiny_llama, condition=4, step=1).writer
    degraded, clean = torch.arange(24).view(1, 4, 6), torch.arange(100, 124).view(1, 4, 6)
    pairs = {pair.target[0]: pair.source for seed in range(40) for pair in draw_one(writer, degraded, clean, seed)}
    assert pairs[107] == (3, 4, 5, 6) and pairs[108] == (4, 5, 6, 107) and pairs[114] == (10, 11, 12, 113)


def draw_one(writer, degraded, clean, seed):
    return draw_examples(writer, "inpainting", degraded, clean, 1, seeded(seed)).shared


def test_prompts_that_do_not_fit_are_refused_with_what_would(tiny_llama, monkeypatch):
    degraded = random_maps(1, 1, (16, 16))
    restorer = InContextRestorer(tiny_llama)
    examples = SharedExamples([Pair((5,) * 16, (6, 7))] * 10)
    needed = len(restorer.writer.shared(examples.shared)) + len(restorer.writer.rest((), (5,) * 16)) + 2
    example = len(restorer.writer.example(examples.shared[0]))
    config = tiny_llama.model.config

    def refusal(limit: int, shown: SharedExamples, task: str = "inpainting") -> str:
        monkeypatch.setattr(config, "max_position_embeddings", limit)
        with pytest.raises(UserError) as raised:
            restorer.restore(task, degraded, shown)
        return str(raised.value)

    line = refusal(needed - 1, examples)
    assert f"takes {needed} tokens with its answer, but tiny-llama reads {needed - 1}" in line
    assert "take at most 9 examples or n of at most 15 or a language model with a longer context" in line
    assert "take at most 7 examples" in refusal(needed - 3 * example, examples)
    assert "at most" not in refusal(20, examples)
    monkeypatch.setattr(config, "max_position_embeddings", needed)
    restorer.restore("inpainting", degraded, examples)
    for fits in (9, 7):
        monkeypatch.setattr(config, "max_position_embeddings", needed - (10 - fits) * example)
        restorer.restore("inpainting", degraded, SharedExamples(examples.shared[:fits]))
    short = InContextRestorer(tiny_llama, condition=15)
    monkeypatch.setattr(config, "max_position_embeddings", needed - 1)
    short.restore("inpainting", degraded, SharedExamples([Pair((5,) * 15, (6, 7))] * 10))
    assert "or n of" not in refusal(60, SharedExamples([Pair((5, 6), (6, 7))] * 10), "deblurring")


@pytest.mark.slow
@pytest.mark.offline_stack
def test_both_ways_agree_with_the_real_language_model(offline_models):
    loaded = load_language_model("offline", dtype="float32", device="cpu")
    restorer = InContextRestorer(loaded)
    assert restorer._can_pack and len(restorer.vocabulary) > 49_000
    maps = [
        restorer.vocabulary[torch.randint(len(restorer.vocabulary), (2, 4, 4), generator=seeded(0, name))]
        for name in ("given", "degraded", "clean")
    ]
    for task in ("inpainting", "deblurring"):
        examples = draw_examples(restorer.writer, task, *maps[1:], 10, seeded(0))
        fast, plain = (way(task, maps[0], examples) for way in (restorer.restore, restorer.restore_plain))
        assert torch.equal(fast, plain)
