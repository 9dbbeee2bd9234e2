"""What an endpoint can do wrong: every kind of failure, how often it is tried again, and what the user reads."""

import email.utils
import threading
import time

import pytest

from visual_sentence import UserError
from visual_sentence.completion.remote import RemoteCompletions

PROMPTS = [f"Words: snow, gold {index}\nThe photo shows:" for index in range(6)]


@pytest.fixture(params=["openai", "tgi"])
def ask(request, connect, server, waits, monkeypatch):
    """Completes one prompt through either protocol."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    def complete(**settings):
        settings = {"timeout": 5.0, "sleep": waits.append, **settings}
        url = f"{server.root}/v1" if request.param == "openai" else f"tgi+{server.root}"
        return RemoteCompletions(url, **settings).complete(PROMPTS[:1], 3)

    return complete


def posts(server) -> int:
    return sum(payload is not None for _, payload, _ in server.seen)


@pytest.mark.parametrize("fault", ["500", "502", "503", "504", "429", "hang_up", "break_off"])
def test_passing_failures_are_tried_again(ask, server, waits, local, fault):
    server.faults = [fault] * 3
    assert ask() == local.complete(PROMPTS[:1], 3)
    assert posts(server) == 4
    # 0.5 s doubled each time, and of each a random share between a half and all
    assert [low <= wait <= 2 * low for wait, low in zip(waits, (0.25, 0.5, 1.0), strict=True)] == [True] * 3


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("503", r"/?(v1)? answered with status 503 \(out of order.*\) in 3 attempts: look into the server's log\.$"),
        ("429", r"answered with status 429 .* in 3 attempts: try again later, or lower the concurrency\.$"),
        ("hang_up", r"broke the connection off \(.+\) in 3 attempts: look into the server's log\.$"),
    ],
)
def test_lasting_failures_end_in_one_line(ask, server, waits, fault, message):
    server.faults = [fault] * 9
    with pytest.raises(UserError, match=message) as refusal:
        ask(retries=2)
    assert "\n" not in str(refusal.value) and str(refusal.value).startswith(server.root)
    assert (posts(server), len(waits)) == (3, 2)


@pytest.mark.parametrize("fault", ["400", "401", "404", "405", "413", "422"])
def test_refusals_are_not_tried_again(ask, server, waits, fault):
    server.faults = [fault]
    with pytest.raises(UserError, match=rf"answered with status {fault} \(out of order None\): "):
        ask()
    assert (posts(server), waits) == (1, [])


@pytest.mark.parametrize("fault", ["stall", "drip"])
def test_a_time_out_is_tried_again_and_then_ends(connect, server, waits, fault):
    server.faults = [fault] * 2
    remote = connect(timeout=0.2, retries=1)
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"/v1 did not answer within 0\.2 s in 2 attempts: try again when it is less"):
        remote.complete(PROMPTS[:1], 3)
    assert 0.4 <= time.monotonic() - begin < 2
    assert len(waits) == 1


def test_a_stalling_tgi_server_times_out(ask, server):
    server.faults = ["stall"]
    with pytest.raises(UserError, match=r"did not answer within 0\.2 s: "):
        ask(timeout=0.2, retries=0)


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_server_may_say_when_to_come_back(connect, server, waits, form):
    server.faults = ["429 7"] if form == "seconds" else [f"503 {email.utils.formatdate(time.time() + 7, usegmt=True)}"]
    assert connect().complete(PROMPTS[:1], 3)
    assert len(waits) == 1 and 5 <= waits[0] <= 7.0


def test_a_server_that_asks_for_an_hour_is_given_up(connect, server, waits):
    server.faults = ["429 3600"]
    with pytest.raises(UserError, match=r"status 429 \(.*\) and asks to wait 3600 s: try again later"):
        connect().complete(PROMPTS[:1], 3)
    assert waits == []


def test_waits_come_from_the_seed(connect, server, waits):
    drawn = []
    for seed in (1, 1, 2):
        server.faults = ["503"] * 4
        waits.clear()
        connect(seed=seed).complete(PROMPTS[:1], 3)
        drawn.append(list(waits))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("fault", ["html", "binary", "empty", "list", "no_choices", "number"])
def test_malformed_answers_end_in_one_line(connect, server, waits, fault):
    server.faults = [fault]
    with pytest.raises(UserError, match=r"/v1 answered with something unexpected \(.*\): check that this is the addr"):
        connect().complete(PROMPTS[:1], 3)
    assert waits == []


@pytest.mark.parametrize("fault", ["html", "empty", "number"])
def test_malformed_answers_of_tgi_end_in_one_line(ask, server, fault):
    server.faults = [fault]
    with pytest.raises(UserError, match=r"answered with something unexpected \(.*\): check that this is the addr"):
        ask()


def test_the_page_that_was_found_instead_is_quoted(connect, server):
    server.faults = ["html"]
    with pytest.raises(UserError, match="Welcome to nginx"):
        connect().complete(PROMPTS[:1], 3)


def test_malformed_logprobs_are_refused(connect, server):
    server.faults = [None, "uneven"]
    with pytest.raises(UserError, match=r"something unexpected \(3 tokens with 2 logprobs\)"):
        connect().log_likelihoods(PROMPTS[:1], [" dog"])


def test_an_unknown_model_is_refused_with_the_servers_words(connect):
    with pytest.raises(UserError, match=r"status 404 \(The model `nobody` does not exist\.\): check the address and"):
        connect("/v1#nobody").complete(PROMPTS[:1], 3)


def test_a_server_that_is_not_there_is_named(server, no_tokens):
    root = server.root
    server.shutdown()
    server.server_close()
    waits = []
    with pytest.raises(UserError, match=rf"^{root}/v1 cannot be reached \(.+\) in 3 attempts: check the address, and"):
        RemoteCompletions(root, retries=2, sleep=waits.append)
    assert len(waits) == 2


def test_another_page_of_a_server_is_named(connect):
    with pytest.raises(UserError, match=r"/elsewhere/v1 answered with status 404 \(Not Found\): check the address"):
        connect("/elsewhere/v1")


def test_results_come_in_order_and_the_bound_holds(connect, server, local):
    server.pause = 0.02
    server.faults = [None, "503", None, "hang_up"]
    remote = connect(concurrency=3)
    assert remote.complete(PROMPTS * 2, 3) == local.complete(PROMPTS, 3) * 2
    assert server.most_at_once == 3
    server.most_at_once = 0
    connect(concurrency=1).complete(PROMPTS, 3)
    assert server.most_at_once == 1


def test_the_first_final_failure_cancels_the_rest(connect, server):
    server.faults = [None, None, "400"]
    server.pause = 0.01
    with pytest.raises(UserError, match="status 400"):
        connect(concurrency=1).complete(PROMPTS * 20, 3)
    assert posts(server) == 3


def test_a_failure_does_not_wait_for_those_who_sleep(server, no_tokens):
    server.faults = ["503 50", "400"]
    remote = RemoteCompletions(f"{server.root}/v1", concurrency=2)
    before = threading.active_count()
    begin = time.monotonic()
    with pytest.raises(UserError, match="status 400"):
        remote.complete(PROMPTS[:2], 3)
    assert time.monotonic() - begin < 5
    while threading.active_count() > before and time.monotonic() - begin < 5:  # the sleeper has been woken
        time.sleep(0.01)
    assert threading.active_count() <= before


def test_a_server_that_dies_in_the_middle(connect, server):
    server.faults = [None, "die"]
    remote = connect(concurrency=1, retries=1)
    stopper = threading.Thread(target=server.shutdown)

    def after_death(seconds: float) -> None:
        stopper.start()
        stopper.join()

    remote._endpoint._sleep = after_death
    with pytest.raises(UserError, match=r"/v1 cannot be reached \(.+\) in 2 attempts"):
        remote.complete(PROMPTS, 3)
    assert posts(server) == 2


def test_tgi_says_what_offline_mode_means(server, no_tokens):
    with pytest.raises(UserError, match="cannot be asked while HF_HUB_OFFLINE is set: unset it"):
        RemoteCompletions(f"tgi+{server.root}").complete(PROMPTS[:1], 3)
