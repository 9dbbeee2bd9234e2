"""A served model against the same model in this process: OpenAI's protocol and TGI's, and what they keep back."""

import pytest
import torch

from visual_sentence import LanguageModel, UserError
from visual_sentence.completion import LocalCompletions, NoLogLikelihoodsError, is_served, load_completion_model
from visual_sentence.completion.remote import PROBE, OpenAIProtocol, RemoteCompletions, ScoredText, token_for
from visual_sentence.few_shot import SCORING_MODES, Example, InContextClassifier

PROMPTS = ["Words: gold, fishes\nThe photo shows:", "Words: snow\nThe photo shows:", "Input: snow, output:"]
ANSWERS = [" goldfish", " dog sled", " dog", " French bulldog"]


@pytest.fixture(params=["openai", "tgi"])
def remote(request, connect, server, monkeypatch) -> RemoteCompletions:
    """The served model, through either protocol."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # InferenceClient obeys it
    if request.param == "openai":
        return connect()
    return RemoteCompletions(f"tgi+{server.root}", timeout=5.0)


def posts(server) -> list[dict]:
    return [payload for _, payload, _ in server.seen if payload is not None]


@pytest.mark.parametrize("stop", [None, "\n", "o"])
def test_the_same_texts_as_in_this_process(remote, local, stop):
    expected = local.complete(PROMPTS, 8, stop)
    assert any(expected)
    assert remote.complete(PROMPTS, 8, stop) == expected
    assert remote.complete([], 8) == []


@pytest.mark.parametrize("tokenizer_name", ["bpe_tokenizer", "metaspace_tokenizer"])
@pytest.mark.parametrize("native", [False, True])
def test_the_same_log_likelihoods(request, start_server, monkeypatch, no_tokens, llama, tokenizer_name, native):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    tokenizer = request.getfixturevalue(tokenizer_name)
    local = LocalCompletions(LanguageModel(llama, tokenizer, "tiny"))
    root = start_server(llama, tokenizer).root
    remote = RemoteCompletions(f"tgi+{root}" if native else f"{root}/v1")
    # The last prompt ends inside the answers' first tokens.
    for prompts, answers in ((PROMPTS, ANSWERS), (["Output: "], ["dog", "goldfish", "dog sled"])):
        scores = remote.log_likelihoods(prompts, answers)
        assert scores.shape == (len(prompts), len(answers)) and scores.dtype == torch.float32
        assert torch.allclose(scores, local.log_likelihoods(prompts, answers), atol=1e-4)
    assert remote.log_likelihoods([], ANSWERS).shape == (0, 4)
    assert remote.log_likelihoods(PROMPTS, []).shape == (3, 0)


@pytest.mark.parametrize("scoring", [mode for mode in SCORING_MODES if mode not in ("trie", "position-mask")])
def test_classification_gives_the_same_answers(connect, local, scoring):
    support = [Example(("gold", "fishes"), "goldfish"), Example(("snow", "winter"), "dog sled")]
    asked = (support, [("aquarium",), ("puppy", "snow")], ["goldfish", "dog sled"])
    expected = InContextClassifier(local, scoring=scoring).classify(*asked)
    for answer, other in zip(InContextClassifier(connect(), scoring=scoring).classify(*asked), expected, strict=True):
        assert answer.label == other.label
        # A tokenizer that is not known here is given more room to write.
        assert answer.text.startswith(other.text)
        assert answer.scores == pytest.approx(other.scores, abs=1e-4)


@pytest.mark.parametrize("scoring", ["trie", "position-mask"])
def test_modes_on_logits_are_refused_before_anything_is_asked(connect, server, scoring):
    remote = connect()
    with pytest.raises(UserError, match=rf"Scoring '{scoring}' needs the logits .*#tiny keeps .*use 'exact-match'"):
        InContextClassifier(remote, scoring=scoring)
    assert posts(server) == []


@pytest.mark.parametrize("kept_back", ["null", "missing", "no-echo", "refused", "null-tokens"])
def test_without_logprobs_the_modes_that_need_them_are_refused(connect, server, kept_back):
    server.logprobs = kept_back
    remote = connect()
    for ask in (lambda: remote.log_likelihoods(PROMPTS, ANSWERS), lambda: InContextClassifier(remote)):
        with pytest.raises(NoLogLikelihoodsError, match=r"#tiny gives no log-probabilities of a given text") as refusal:
            ask()
    assert "'domain-calibrated' needs them, 'exact-match' and 'prefix-match' do not" in str(refusal.value)
    assert ("status 400 (echo is not supported)" in str(refusal.value)) == (kept_back == "refused")
    assert {payload["prompt"] for payload in posts(server)} == {PROBE}  # found out before the batch
    assert InContextClassifier(remote, scoring="exact-match").classify((), [("snow",)], ["dog", "goldfish"])


def test_tgi_without_prefill_logprobs_is_refused(server, monkeypatch, no_tokens):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    server.logprobs = "null"
    with pytest.raises(NoLogLikelihoodsError, match="gives no log-probabilities of a given text"):
        RemoteCompletions(f"tgi+{server.root}").log_likelihoods(PROMPTS, ANSWERS)


def test_the_probe_is_sent_once(connect, server):
    remote = connect()
    first = remote.log_likelihoods(PROMPTS[:1], ANSWERS)
    assert torch.equal(remote.log_likelihoods(PROMPTS[:1], ANSWERS), first)
    prompts = [payload["prompt"] for payload in posts(server)]
    assert prompts.count(PROBE) == 1
    assert len(prompts) == 1 + 2 * (1 + len(ANSWERS))
    assert all(payload["temperature"] == 0 and payload["echo"] for payload in posts(server))


@pytest.mark.parametrize(
    ("path", "settings", "name", "context", "asked"),
    [
        ("/v1", {}, "tiny", 1024, ["/v1/models"]),
        ("/v1/", {}, "tiny", 1024, ["/v1/models"]),
        ("", {}, "tiny", 1024, ["/v1/models"]),
        ("/v1#other", {}, "other", None, []),
        ("/v1#tiny", {"model": "other"}, "other", None, []),
    ],
)
def test_the_model_is_named_or_the_first_of_the_list(connect, server, path, settings, name, context, asked):
    remote = connect(path, **settings)
    assert (remote.name, remote.context_length) == (f"{server.root}/v1#{name}", context)
    assert [path for path, _, _ in server.seen] == asked
    remote.complete(PROMPTS[:1], 1)
    assert posts(server)[0]["model"] == name
    assert remote.count_tokens("Words") is remote.dtype is None
    assert remote.another() is remote


def test_a_reference_is_loaded_or_connected_to(server, no_tokens, llm_folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    assert load_completion_model(f"{server.root}/v1").name == f"{server.root}/v1#tiny"
    native = load_completion_model(f"tgi+{server.root}")
    assert (native.name, native.context_length) == (f"tgi+{server.root}#tiny-tgi", 1024)
    loaded = load_completion_model(str(llm_folder), dtype="float32", device="cpu", batch_size=3)
    assert isinstance(loaded, LocalCompletions)
    assert (loaded.name, loaded.dtype, loaded.batch_size) == (str(llm_folder), "float32", 3)
    assert [is_served(text) for text in ("https://host/v1", "tgi+http://host", "meta-llama/x", "./http")] == [
        *(True, True, False, False)
    ]
    with pytest.raises(UserError, match=r"is a server, which chose its dtype .* leave the dtype 'float16' out"):
        load_completion_model(f"{server.root}/v1", dtype="float16")
    with pytest.raises(UserError, match="A TGI server serves one model: leave 'x' out"):
        RemoteCompletions(f"tgi+{server.root}#x")


@pytest.mark.parametrize("native", [False, True])
def test_tokens_come_from_the_environment_and_are_never_shown(server, no_tokens, monkeypatch, native):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    url = f"tgi+{server.root}" if native else f"{server.root}/v1"

    def sent(**settings: str) -> str | None:
        RemoteCompletions(url, **settings).complete(PROMPTS[:1], 1)
        return {name.lower(): value for name, value in server.seen[-1][2].items()}.get("authorization")

    assert not sent()  # Hugging Face's token is for Hugging Face
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert sent() == "Bearer sk-secret"
    assert sent(token="given") == "Bearer given"
    remote = RemoteCompletions(url, token="given")
    server.faults = ["401"]  # the server repeats what it was sent
    with pytest.raises(UserError, match=r"status 401 \(out of order Bearer \*\*\*\).*set OPENAI_API_KEY or") as refusal:
        remote.complete(PROMPTS[:1], 1)
    assert "given" not in str(refusal.value) + repr(remote)


def test_hugging_faces_token_goes_to_its_own_hosts_only(no_tokens, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for address in (
        "https://x.endpoints.huggingface.cloud/v1",
        "https://router.huggingface.co/v1",
        "https://me.hf.space",
    ):
        assert token_for(address) == "hf_secret"
    for address in ("http://localhost:8000/v1", "https://huggingface.co.evil.org/v1", "https://nothuggingface.co/v1"):
        assert token_for(address) is None


def test_credentials_of_an_address_are_not_shown(server, no_tokens):
    address = server.root.replace("http://", "http://me:secret@") + "/v1?key=hidden"
    remote = RemoteCompletions(address, model="tiny")
    assert remote.name == f"{server.root}/v1#tiny"
    remote.complete(PROMPTS[:1], 1)
    assert server.seen[-1][0] == "/v1/completions?key=hidden"


@pytest.mark.parametrize("url", ["http://", "http://host:port/v1", "http://[1/v1", "ftp://host/v1"])
def test_what_is_no_address_is_refused(url, no_tokens):
    with pytest.raises(UserError, match="is no address of a server: write it as http://host:port/v1"):
        RemoteCompletions(url)


@pytest.mark.parametrize("settings", [{"timeout": 0}, {"retries": -1}, {"concurrency": 0}])
def test_impossible_settings_are_refused(connect, settings):
    with pytest.raises(UserError, match="timeout must be above 0, retries at least 0 and concurrency at least 1"):
        connect(**settings)


class OneAnswer:
    """An endpoint that gives the same answer to everything."""

    def __init__(self, logprobs: dict, usage: object):
        self.answer = {"choices": [{"text": "", "logprobs": logprobs}], "usage": usage}

    def request(self, method: str, path: str, payload: dict) -> dict:
        return self.answer


@pytest.mark.parametrize(
    ("usage", "count"),
    [
        ({"prompt_tokens": 3}, 3),  # a new token follows
        ({"prompt_tokens": 4}, 4),  # the new one was an end token and left out
        ({"prompt_tokens": 99}, 3),  # not believed
        ({}, 3),
        (None, 3),
    ],
)
def test_the_new_token_is_told_from_the_texts(usage, count):
    logprobs = {"tokens": ["The", " photo", " shows", " a"], "token_logprobs": [None, -1.0, -2, float("-inf")]}
    scored = OpenAIProtocol(OneAnswer(logprobs, usage), "tiny").score("The photo shows")
    assert scored.tokens == ("The", " photo", " shows", " a")[:count]
    assert scored.log_probs == (None, -1.0, -2, float("-inf"))[:count]


def test_log_likelihoods_worked_out_by_hand(connect, monkeypatch):
    """The end of the prompt, "s", is written again by the first token of one answer."""
    scored = {
        "shows": ScoredText(("sho", "w", "s"), (None, -0.5, -0.25)),
        "shows a": ScoredText(("sho", "w", "s", " a"), (None, -0.5, -0.25, -1.0)),
        "shows it": ScoredText(("sho", "w", "s it"), (None, -0.5, -3.0)),
    }
    remote = connect()
    monkeypatch.setattr(remote._protocol, "score", lambda text: scored.get(text, scored["shows"]))
    assert remote.log_likelihoods(["shows"], [" a", " it"]).tolist() == [[-1.25, -3.0]]
    scored["shows"] = ScoredText(("other", "s"), (None, -1.0))
    with pytest.raises(UserError, match="begin the prompt with some text"):
        remote.log_likelihoods(["shows"], [" a"])
