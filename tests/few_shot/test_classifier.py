"""One classifier, seven ways to read an answer: cached and plain agree, and each way does what it says."""

import random

import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
)

from visual_sentence import LanguageModel
from visual_sentence.completion import LocalCompletions
from visual_sentence.completion.prefix_cache import SharedPrefix, can_share_cache
from visual_sentence.errors import UserError
from visual_sentence.few_shot import (
    PROMPT_STYLES,
    SCORING_MODES,
    ClassificationPrompt,
    Example,
    InContextClassifier,
)
from visual_sentence.few_shot.classifier import BAG_SEED, CONTENT_FREE_BAGS
from visual_sentence.modeling.cache_names import CACHE


def classifier_of(model, tokenizer, batch_size=16, use_cache=True, **settings):
    """A classifier that asks a model in this process."""
    completions = LocalCompletions(LanguageModel(model, tokenizer, "tiny"), batch_size, use_cache)
    return InContextClassifier(completions, **settings)


@pytest.fixture
def fed_tokens(llama):
    """The number of tokens in each forward pass of the Llama model."""
    seen = []
    hook = llama.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    yield seen
    hook.remove()


def assert_same(answers, expected):
    assert [(answer.label, answer.text) for answer in answers] == [(answer.label, answer.text) for answer in expected]
    for answer, other in zip(answers, expected, strict=True):
        assert answer.scores == pytest.approx(other.scores, abs=1e-5)


@pytest.mark.parametrize("scoring", SCORING_MODES)
@pytest.mark.parametrize("style", PROMPT_STYLES)
@pytest.mark.parametrize("tokenizer_name", ["bpe_tokenizer", "metaspace_tokenizer"])
@pytest.mark.parametrize("model_name", ["llama", "gpt2", "mistral"])
def test_cached_equals_plain(request, model_name, tokenizer_name, style, scoring, support, queries, class_names):
    model, tokenizer = request.getfixturevalue(model_name), request.getfixturevalue(tokenizer_name)
    settings = {"prompt": ClassificationPrompt(style), "scoring": scoring}
    cached = classifier_of(model, tokenizer, **settings, batch_size=3)
    plain = classifier_of(model, tokenizer, **settings, use_cache=False)
    expected = plain.classify(support, queries, class_names)
    assert_same(cached.classify(support, queries, class_names), expected)
    # Once more on the prefix that is there by now, cut back by the first query alone.
    assert_same(cached.classify(support, queries[:1], class_names), expected[:1])
    assert_same(cached.classify(support, queries, class_names), expected)


def test_scores_sum_to_one_and_the_label_has_the_highest(llama, bpe_tokenizer, support, queries, class_names):
    for answer in classifier_of(llama, bpe_tokenizer).classify(support, queries, class_names):
        assert list(answer.scores) == class_names
        assert sum(answer.scores.values()) == pytest.approx(1.0, abs=1e-12)
        assert answer.label == answer.text == max(answer.scores, key=answer.scores.get)


def test_calibration_divides_by_the_answer_to_a_content_free_query(llama, bpe_tokenizer, support, queries, class_names):
    likelihood = classifier_of(llama, bpe_tokenizer, scoring="likelihood")
    calibrated = classifier_of(llama, bpe_tokenizer, scoring="calibrated")
    asked = likelihood.classify(support, [queries[0], ("N/A",)], class_names)
    scores, bias = (torch.tensor(list(answer.scores.values())).double() for answer in asked)
    expected = (scores / bias) / (scores / bias).sum()
    answer = calibrated.classify(support, queries[:1], class_names)[0]
    assert list(answer.scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)


def test_domain_calibration_divides_by_the_mean_answer_to_random_words(
    llama, bpe_tokenizer, support, queries, class_names
):
    pool = [word for words, _ in support for word in words]
    draw = random.Random(BAG_SEED)
    bags = [draw.sample(pool, min(len(queries[0]), len(pool))) for _ in range(CONTENT_FREE_BAGS)]
    reverse_pool = [word for words, _ in support[::-1] for word in words]
    reverse_draw = random.Random(BAG_SEED)
    reverse_bags = [reverse_draw.sample(reverse_pool, min(len(queries[0]), len(pool))) for _ in bags]
    likelihood = classifier_of(llama, bpe_tokenizer, scoring="likelihood")
    calibrated = 0
    for examples, names, drawn in ((support, class_names, bags), (support[::-1], class_names[::-1], reverse_bags)):
        asked = likelihood.classify(examples, [queries[0], *drawn], names)
        scores, *biases = (torch.tensor([row.scores[name] for name in class_names]).double().log() for row in asked)
        calibrated = calibrated + (scores - torch.stack(biases).mean(0)) / 2
    expected = calibrated.softmax(-1)
    classifier = classifier_of(llama, bpe_tokenizer, scoring="domain-calibrated")
    answers = classifier.classify(support, queries[:1], class_names)
    assert list(answers[0].scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)
    assert classifier.classify(support, queries[:1], class_names) == answers


def test_domain_calibration_without_examples_asks_about_nothing(llama, bpe_tokenizer, queries, class_names):
    domain = classifier_of(llama, bpe_tokenizer).classify((), queries[:1], class_names)[0]
    calibrated = classifier_of(llama, bpe_tokenizer, scoring="calibrated")
    orders = [calibrated.classify((), queries[:1], names)[0] for names in (class_names, class_names[::-1])]
    logs = [torch.tensor([order.scores[name] for name in class_names]).double().log() for order in orders]
    expected = (sum(logs) / 2).softmax(-1)
    assert list(domain.scores.values()) == pytest.approx(expected.tolist(), abs=1e-5)


@pytest.mark.parametrize("model_name", ["llama", "gpt2"])
def test_a_trie_always_answers_with_a_label(request, model_name, bpe_tokenizer, support, queries, class_names):
    model = request.getfixturevalue(model_name)
    classifier = classifier_of(model, bpe_tokenizer, scoring="trie")
    for answer in classifier.classify(support, queries * 3, class_names):
        assert answer.label in class_names
        assert answer.scores == {name: float(name == answer.label) for name in class_names}


@pytest.fixture
def ask_scripted(llama, bpe_tokenizer):
    """Asks a model that wants to write given tokens, whatever the question is."""

    def ask(token_ids, class_names, **settings):
        steps = iter(token_ids)

        def want(module, args, output):
            output.logits[:, -1, next(steps, bpe_tokenizer.eos_token_id)] = 1e4
            return output

        classifier = classifier_of(llama, bpe_tokenizer, use_cache=False, **settings)
        hook = llama.register_forward_hook(want)
        try:
            return classifier.classify([], [("snow",)], class_names)[0]
        finally:
            hook.remove()

    return ask


@pytest.mark.parametrize(
    ("scoring", "written", "label"),
    [
        ("exact-match", " dog sled\nWords", "dog sled"),
        ("exact-match", " dog", "dog"),
        ("exact-match", " dogs\n", None),
        ("exact-match", " a dog\n", None),
        ("prefix-match", " dogs\n", "dog"),
        ("prefix-match", " dog sled team\n", "dog sled"),
        ("prefix-match", " a dog\n", None),
    ],
)
def test_reading_a_free_answer(ask_scripted, bpe_tokenizer, class_names, scoring, written, label):
    answer = ask_scripted(bpe_tokenizer(written)["input_ids"], class_names, scoring=scoring)
    assert answer.label == label
    assert answer.scores == ({} if label is None else {name: float(name == label) for name in class_names})
    assert answer.text == written.split("\n")[0].strip()


@pytest.mark.parametrize(
    ("written", "label"), [(" St. Bernard. Input:", "St. Bernard"), (" St. The", "St"), (" St. Bern.", "St")]
)
def test_a_label_may_contain_the_stop(ask_scripted, bpe_tokenizer, written, label):
    settings = {"prompt": ClassificationPrompt("paper"), "scoring": "exact-match"}
    answer = ask_scripted(bpe_tokenizer(written)["input_ids"], ["St", "St. Bernard"], **settings)
    assert answer.label == answer.text == label


def test_a_trie_can_end_where_a_longer_label_goes_on(ask_scripted, bpe_tokenizer, class_names):
    for name in ("dog", "dog sled"):
        written = bpe_tokenizer(f" {name}\n\n")["input_ids"]
        assert ask_scripted(written, class_names, scoring="trie").label == name


def test_a_position_mask_mixes_tokens_of_the_labels_and_no_others(ask_scripted, bpe_tokenizer):
    names = ["gold fish", "dog sled"]
    gold, dog = (bpe_tokenizer(f" {name}")["input_ids"] for name in names)
    mixed = [gold[0], *dog[1:]]
    answer = ask_scripted(mixed, names, scoring="position-mask")
    assert answer.text == bpe_tokenizer.decode(mixed).strip()
    forbidden = bpe_tokenizer(" snow")["input_ids"]
    answer = ask_scripted(forbidden, names, scoring="position-mask")
    first = {bpe_tokenizer.decode(ids[:1]).strip() for ids in (gold, dog)}
    assert any(answer.text.startswith(text) for text in first)


def test_repetitions_are_asked(llama, bpe_tokenizer, fed_tokens, support, queries, class_names):
    prefixes = []
    for repetitions in (0, 1, 2):
        fed_tokens.clear()
        prompt = ClassificationPrompt(repetitions=repetitions)
        classifier_of(llama, bpe_tokenizer, prompt=prompt).classify(support, queries, class_names)
        prefixes.append(fed_tokens[0])
    assert prefixes[1] - prefixes[0] == prefixes[2] - prefixes[1] > 0


def test_the_prefix_is_run_once_and_reused(llama, bpe_tokenizer, fed_tokens, support, queries, class_names):
    classifier = classifier_of(llama, bpe_tokenizer, scoring="likelihood")
    classifier.classify(support, queries[:2], class_names)
    first, later = fed_tokens[0], fed_tokens[1:]
    prompts = [classifier.prompt.render(support, words, class_names) for words in queries]
    length = len(bpe_tokenizer(prompts[0].rpartition("Words:")[0])["input_ids"])
    assert first >= length > max(later)

    fed_tokens.clear()
    classifier.classify(support, queries[2:], class_names)
    assert max(fed_tokens) < length
    # Another support set parts early, and its prefix is run.
    fed_tokens.clear()
    classifier.classify(support[::-1], queries[2:], class_names)
    assert length / 2 < fed_tokens[0] < length


def test_the_batch_size_bounds_every_pass(llama, bpe_tokenizer, support, queries, class_names):
    rows = []
    hook = llama.register_forward_pre_hook(
        lambda module, args, kwargs: rows.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    classifier_of(llama, bpe_tokenizer, batch_size=2).classify(support, queries, class_names)
    hook.remove()
    assert max(rows) == 2


@pytest.mark.parametrize("model_name", ["llama", "mistral"])
def test_a_prefix_grows_and_is_cut_back(request, model_name):
    model = request.getfixturevalue(model_name)
    prefix = SharedPrefix(model)
    long = list(range(3, 33))
    for sequences in ([long, [*long[:20], 5]], [long], [[*long[:8], 1, 2, 3]], [[7, 8], [9, 8]], [long]):
        length = prefix.move_to(sequences)
        assert prefix.ids == tuple(sequences[0][:length])
        rest = torch.tensor([sequences[0][length:]])
        with torch.inference_mode():
            continued = model(input_ids=rest, **{CACHE: prefix.rows(1)}).logits[0, -1]
            whole = model(input_ids=torch.tensor([sequences[0]])).logits[0, -1]
        assert torch.allclose(continued, whole, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "model_class", "shares"),
    [
        # BLOOM knows no position_ids, Mamba has a state in place of keys and values.
        (BloomConfig(vocab_size=420, hidden_size=32, n_layer=2, n_head=4), BloomForCausalLM, True),
        (
            MambaConfig(vocab_size=420, hidden_size=32, num_hidden_layers=2, state_size=4),
            MambaForCausalLM,
            False,
        ),
    ],
)
def test_other_kinds_of_models(config, model_class, shares, bpe_tokenizer, support, queries, class_names):
    torch.manual_seed(0)
    model = model_class(config)
    assert can_share_cache(model) == shares
    for scoring in ("calibrated", "trie"):
        classifier = classifier_of(model, bpe_tokenizer, scoring=scoring)
        plain = classifier_of(model, bpe_tokenizer, scoring=scoring, use_cache=False)
        expected = plain.classify(support, queries, class_names)
        assert_same(classifier.classify(support, queries, class_names), expected)


@pytest.mark.parametrize("scoring", ["calibrated", "trie", "exact-match"])
def test_prompts_beyond_the_context_are_refused(bpe_tokenizer, support, queries, class_names, scoring):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=420, hidden_size=32, intermediate_size=48, num_hidden_layers=1, max_position_embeddings=260
    )
    classifier = classifier_of(LlamaForCausalLM(config), bpe_tokenizer, scoring=scoring)
    message = r"The prompt needs \d+ positions, the model has 260: use (\d+) shots instead of 9, or fewer"
    with pytest.raises(UserError, match=message) as refusal:
        classifier.classify(support * 9, queries, class_names)
    shots = int(str(refusal.value).split("use ")[1].split()[0])
    assert classifier.classify(support * shots, queries, class_names)
    with pytest.raises(UserError, match="use fewer words per image"):
        classifier.classify((), [("snow",) * 300], class_names)


@pytest.mark.parametrize(
    ("support", "queries", "class_names", "message"),
    [
        ([], [("a",)], ["dog"], r"at least two class names, got \['dog'\]"),
        ([], [("a",)], ["dog", " "], "Class names must not be empty"),
        ([], [("a",)], ["dog", "dog "], "Class names must differ, 'dog' is there 2 times"),
        (
            [Example(("a",), "cow")],
            [("a",)],
            ["dog", "cat"],
            "Example 1 has the label 'cow'.* one of dog, cat",
        ),
        ([Example((), "dog")], [("a",)], ["dog", "cat"], "Example 1 must have at least one word"),
        ([], [("a",), ("b", " ")], ["dog", "cat"], "Query 2 must have at least one word and no empty ones"),
        ([], ["snow"], ["dog", "cat"], "Query 1 must be a sequence of words, got the text 'snow'"),
    ],
)
def test_what_cannot_be_asked_is_refused(llama, bpe_tokenizer, support, queries, class_names, message):
    with pytest.raises(UserError, match=message):
        classifier_of(llama, bpe_tokenizer).classify(support, queries, class_names)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scoring": "best"}, "no scoring 'best': use one of domain-calibrated, calibrated, likelihood, trie"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ],
)
def test_wrong_settings_are_refused(llama, bpe_tokenizer, settings, message):
    with pytest.raises(UserError, match=message):
        classifier_of(llama, bpe_tokenizer, **settings)


def test_no_queries_no_answers(llama, bpe_tokenizer, support, class_names):
    assert classifier_of(llama, bpe_tokenizer).classify(support, [], class_names) == []
