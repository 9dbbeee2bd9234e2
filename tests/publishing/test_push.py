"""`visual-sentence push` against a Hub that works, and against one that fails in every way it may."""

import hashlib
import json
import threading

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from .hub_server import OTHER_TOKEN, TOKEN, Fault

BEFORE = {"README.md": b"# before\n", "model.safetensors": b"earlier weights", "config.json": b"{}"}


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def there(hub):
    """A repository that holds something; gives a check that it holds it still."""
    repository = hub.add("me/model", BEFORE)
    head = repository.branches["main"]

    def is_as_it_was() -> bool:
        return repository.branches == {"main": head} and {".gitattributes", *BEFORE} == repository.files().keys()

    return is_as_it_was


# ------------------------------------------------------------------------------------------------------------ success


def test_everything_arrives_in_one_commit(push_model, hub, vqgan_folder):
    outcome = push_model(vqgan_folder, "--message", "First")
    assert outcome.status == 0, outcome.err
    repository = hub.repositories["me/model"]
    assert not repository.private and len(repository.commits) == 2  # the Hub's own, and ours
    head = repository.branches["main"]
    assert repository.messages[head] == "First" and f'revision="{head}"' in outcome.out
    files = repository.files()
    assert files["model.safetensors"] == (vqgan_folder / "model.safetensors").read_bytes()
    assert {"config.json", "preprocessor_config.json", "README.md", "modeling_vqgan.py"} <= files.keys()
    config = json.loads(files["config.json"])
    assert config["auto_map"] == {
        "AutoConfig": "configuration_vqgan.VQGANConfig",
        "AutoModel": "modeling_vqgan.VQGANModel",
    }
    assert list(config["custom_pipelines"]) == ["image-reconstruction"]


def test_what_is_there_is_not_sent_again(push_model, hub, vqgan_folder):
    push_model(vqgan_folder)
    repository = hub.repositories["me/model"]
    before = dict(repository.commits)
    outcome = push_model(vqgan_folder)
    assert outcome.status == 0 and "no new commit" in outcome.out
    assert repository.commits == before
    (vqgan_folder / "README.md").write_text("---\nlicense: mit\n---\n# mine\n")
    hub.requests.clear()
    outcome = push_model(vqgan_folder, "--json")
    report = json.loads(outcome.out)
    assert [row["path"] for row in report["files"] if row["state"] != "same"] == ["README.md"]
    assert hub.count("PUT") == 0 and len(repository.commits) == len(before) + 1


def test_private_repositories_and_branches(push_model, hub, vqgan_folder):
    assert push_model(vqgan_folder, "--private").status == 0
    repository = hub.repositories["me/model"]
    assert repository.private
    main = repository.branches["main"]
    (vqgan_folder / "README.md").write_text("# other\n")
    outcome = push_model(vqgan_folder, "--revision", "trial/one")
    assert outcome.status == 0, outcome.err
    assert repository.branches["main"] == main
    assert b"# other" in repository.files("trial/one")["README.md"]


def test_nothing_is_deleted_unasked(push_model, hub, vqgan_folder):
    repository = hub.add("me/model", {"notes.txt": b"mine"})
    assert push_model(vqgan_folder).status == 0
    assert repository.files()["notes.txt"] == b"mine"
    outcome = push_model(vqgan_folder, "--delete")
    assert "1 deleted" in outcome.out and "notes.txt" not in repository.files()
    assert ".gitattributes" in repository.files()


def test_files_of_another_model_are_not_mixed_in(push_model, hub, vqgan_folder):
    repository = hub.add("me/model", {"codebook.json": b"{}", "model.safetensors.index.json": b"{}"})
    head = repository.branches["main"]
    push_model(vqgan_folder).is_one_line("me/model holds model.safetensors.index.json, codebook.json", "--delete")
    assert repository.branches["main"] == head and hub.count("PUT") == 0
    assert push_model(vqgan_folder, "--delete").status == 0
    assert not {"codebook.json", "model.safetensors.index.json"} & repository.files().keys()


def test_shards_arrive(push_model, hub, make_vqgan, vqgan_folder):
    (vqgan_folder / "model.safetensors").unlink()
    make_vqgan().save_pretrained(vqgan_folder, max_shard_size="20KB")
    shards = {path.name for path in vqgan_folder.glob("model-*.safetensors")}
    assert len(shards) > 2
    outcome = push_model(vqgan_folder)
    assert outcome.status == 0, outcome.err
    files = hub.repositories["me/model"].files()
    assert {*shards, "model.safetensors.index.json"} <= files.keys() and "model.safetensors" not in files


def test_verify_fetches_everything(push_model, hub, vqgan_folder, tmp_path):
    outcome = push_model(vqgan_folder, "--verify", "--json")
    assert outcome.status == 0, outcome.err
    assert hub.count("GET /me/model/resolve") >= len(json.loads(outcome.out)["files"])


# ------------------------------------------------------------------------------------------------------------ dry run


def test_a_dry_run_says_what_would_be(push_model, hub, vqgan_folder):
    report = json.loads(push_model(vqgan_folder, "--dry-run", "--json").out)
    assert hub.repositories == {} and report["compared"]
    weights = (vqgan_folder / "model.safetensors").read_bytes()
    rows = {row["path"]: row for row in report["files"]}
    assert {row["state"] for row in rows.values()} == {"new"}
    assert rows["model.safetensors"]["size"] == len(weights)
    assert rows["model.safetensors"]["sha256"] == hashlib.sha256(weights).hexdigest()
    push_model(vqgan_folder)
    repository = hub.repositories["me/model"]
    head = repository.branches["main"]
    tensors = load_file(vqgan_folder / "model.safetensors")
    name = next(iter(tensors))
    save_file({**tensors, name: tensors[name] + 1}, vqgan_folder / "model.safetensors", metadata={"format": "pt"})
    hub.add("me/model", {**repository.files(), "notes.txt": b"mine"})
    head = repository.branches["main"]
    outcome = push_model(vqgan_folder, "--dry-run")
    assert outcome.status == 0 and repository.branches["main"] == head
    states = {line.split()[-1]: line.split()[0] for line in outcome.out.splitlines() if line.startswith("  ")}
    assert states.pop("model.safetensors") == "changed" and set(states.values()) == {"same"}
    assert "would be kept: notes.txt" in outcome.out and "nothing was uploaded" in outcome.out
    assert "would be deleted: notes.txt" in push_model(vqgan_folder, "--dry-run", "--delete").out
    assert not hub.count("POST /api/models/me/model/commit") > 1


def test_a_dry_run_needs_no_token_and_no_network(push_model, hub, vqgan_folder, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    outcome = push_model(vqgan_folder, "--dry-run", "--json")
    assert json.loads(outcome.out)["compared"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    outcome = push_model(vqgan_folder, "--dry-run")
    assert outcome.status == 0 and "could not compare with the Hub: HF_HUB_OFFLINE is set" in outcome.out
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    outcome = push_model(vqgan_folder, "--dry-run")
    assert outcome.status == 0 and "http://127.0.0.1:9 cannot be reached" in outcome.out
    hub.faults.append(Fault("GET", status=503))
    monkeypatch.setattr(constants, "ENDPOINT", hub.endpoint)
    assert "has trouble of its own (503)" in push_model(vqgan_folder, "--dry-run").out


# --------------------------------------------------------------------------------------------------------- it fails


def test_an_upload_cut_off_leaves_what_was(push_model, hub, there, vqgan_folder, quick):
    hub.faults.append(Fault("PUT /large/", cut=1000))
    outcome = push_model(vqgan_folder)
    assert outcome.status == 2 and outcome.out == ""
    assert "5 times in a row; nothing was published" in outcome.err.splitlines()[-1]
    assert there() and quick == [2, 4, 8, 16]
    assert "waiting 2 s, then trying again (2 of 5)" in outcome.err


def test_an_upload_cut_off_leaves_nothing_that_loads(push_model, hub, vqgan_folder, quick):
    hub.faults.append(Fault("PUT /large/", cut=1000))
    assert push_model(vqgan_folder).status == 2
    assert hub.repositories["me/model"].files().keys() == {".gitattributes"}


def test_an_upload_cut_off_once_goes_on(push_model, hub, there, vqgan_folder, quick):
    hub.faults.append(Fault("PUT /large/", cut=1000, times=1))
    outcome = push_model(vqgan_folder)
    assert outcome.status == 0 and outcome.err.count("waiting") == 1
    weights = hub.repositories["me/model"].files()["model.safetensors"]
    assert weights == (vqgan_folder / "model.safetensors").read_bytes()


def test_an_unknown_token(push_model, hub, there, vqgan_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_wrong" + TOKEN)
    push_model(vqgan_folder, "--json").is_one_line("does not know the token (401", "hf auth login")
    assert there()


@pytest.mark.parametrize("token", ["", "hf_with a blank", "hf_ü" + TOKEN])
def test_no_token(push_model, hub, there, vqgan_folder, monkeypatch, tmp_path, token):
    monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    push_model(vqgan_folder).is_one_line("hf auth login")
    assert there() and not hub.requests


def test_a_token_that_may_only_read(push_model, hub, there, vqgan_folder, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", OTHER_TOKEN)
    push_model(vqgan_folder, "--json").is_one_line("may not write to me/model (403: You don't have the rights")
    assert there()
    push_model(vqgan_folder, "--repo-id", "me/new", "--json").is_one_line("may not write to me/new (403")
    assert "me/new" not in hub.repositories


def test_a_repository_of_somebody_elses_eyes(push_model, hub, vqgan_folder, monkeypatch):
    hub.add("me/model", BEFORE, private=True)
    hub.faults.append(Fault("GET /api/models/me/model$", status=404, headers={"X_Error_Code": "RepoNotFound"}))
    push_model(vqgan_folder, "--json").is_one_line("me/model exists, but the token may not see it")


def test_a_public_repository_does_not_become_private(push_model, hub, there, vqgan_folder):
    push_model(vqgan_folder, "--private", "--json").is_one_line("me/model exists and is public")
    assert there()


@pytest.mark.parametrize("status", [409, 412])
def test_a_conflict(push_model, hub, there, vqgan_folder, status):
    hub.faults.append(Fault("POST .*/commit/", status=status, body={"error": "A commit has happened since."}))
    push_model(vqgan_folder, "--json").is_one_line(f"changed by somebody else meanwhile ({status}: A commit has")
    assert there()


def test_somebody_elses_commit_is_not_covered(push_model, hub, vqgan_folder):
    repository = hub.add("me/model", BEFORE)
    theirs = {**BEFORE, "config.json": b"theirs"}
    hub.faults.append(Fault("POST .*/preupload/", times=1, delay=0.01, then=lambda: hub.add("me/model", theirs)))
    push_model(vqgan_folder, "--json").is_one_line("changed by somebody else meanwhile (412")
    assert repository.files()["config.json"] == b"theirs"


def test_somebody_elses_commit_between_two_tries(push_model, hub, vqgan_folder, quick):
    repository = hub.add("me/model", BEFORE)
    theirs = {**BEFORE, "config.json": b"theirs"}
    fault = Fault("POST .*/commit/", times=1, status=503, then=lambda: hub.add("me/model", theirs))
    hub.faults.append(fault)
    outcome = push_model(vqgan_folder, "--json")
    assert outcome.status == 2 and "changed by somebody else meanwhile" in outcome.err
    assert repository.files()["config.json"] == b"theirs"


def test_a_hub_that_is_busy_with_us(push_model, hub, vqgan_folder, quick):
    body = {"error": "Cannot create repo: another conflicting operation is in progress"}
    hub.faults.append(Fault("POST /api/repos/create", times=2, status=409, body=body))
    outcome = push_model(vqgan_folder)
    assert outcome.status == 0 and "busy with another request of yours (409)" in outcome.err and quick == [2, 4]


def test_too_many_requests(push_model, hub, there, vqgan_folder, quick):
    hub.faults.append(Fault("POST .*/preupload/", times=2, status=429, headers={"Retry_After": "7"}))
    outcome = push_model(vqgan_folder)
    assert outcome.status == 0 and quick == [7, 7]
    assert "The Hub asks for fewer requests (429): waiting 7 s, then trying again (2 of 5)" in outcome.err


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"RateLimit": '"api";r=0;t=11'}, [11] * 4),
        ({"RateLimit": '"api";r=5;t=11', "Retry_After": "3"}, [3] * 4),
        ({"Retry_After": "Wed, 21 Oct 2015 07:28:00 GMT"}, [0] * 4),
        ({"Retry_After": "soon"}, [2, 4, 8, 16]),
        ({}, [2, 4, 8, 16]),
    ],
)
def test_too_many_requests_without_an_end(push_model, hub, there, vqgan_folder, quick, headers, waits):
    hub.faults.append(Fault("POST .*/preupload/", status=429, headers=headers))
    outcome = push_model(vqgan_folder)
    assert outcome.status == 2 and quick == waits
    assert outcome.err.splitlines()[-1].startswith("error: The Hub asks for fewer requests (429), 5 times in a row")
    assert there()


def test_a_wait_that_is_too_long(push_model, hub, there, vqgan_folder, quick):
    hub.faults.append(Fault("POST .*/preupload/", status=429, headers={"Retry_After": "3600"}))
    push_model(vqgan_folder, "--json").is_one_line("wants to be left alone for 3600 s", "nothing was published")
    assert there() and quick == []


def test_trouble_then_success(push_model, hub, there, vqgan_folder, quick):
    for path in ("GET /api/models/me/model$", "/preupload/", "/objects/batch", "PUT /large/", "/verify/", "/commit/"):
        hub.faults.append(Fault(path, times=1, status=500))
    hub.faults.append(Fault("/tree/", times=1, status=502))
    hub.faults.append(Fault("/commit/", times=1, status=503))
    outcome = push_model(vqgan_folder, "--timeout", 5)
    assert outcome.status == 2  # more than five tries
    assert there()
    assert push_model(vqgan_folder).status == 0


def test_trouble_behind_the_commit_is_no_second_commit(push_model, hub, vqgan_folder, quick):
    repository = hub.add("me/model", BEFORE)
    hub.faults.append(Fault("POST .*/commit/", times=1, status=500, late=True))
    outcome = push_model(vqgan_folder)
    assert outcome.status == 0, outcome.err
    assert len(repository.commits) == 2 and repository.branches["main"] in outcome.out
    assert "has trouble of its own (500): waiting" in outcome.err


def test_trouble_without_an_end(push_model, hub, there, vqgan_folder, quick):
    hub.faults.append(Fault("POST .*/commit/", status=500))
    outcome = push_model(vqgan_folder)
    assert outcome.status == 2 and there()
    assert "has trouble of its own (500), 5 times in a row; nothing was published" in outcome.err


@pytest.mark.parametrize("path", ["GET /api/models/me/model$", "/tree/", "/preupload/", "PUT /large/"])
def test_a_slow_hub(push_model, hub, there, vqgan_folder, quick, path):
    hub.faults.append(Fault(path, delay=2, status=500))
    outcome = push_model(vqgan_folder, "--timeout", 0.5)
    assert outcome.status == 2 and there()
    last = outcome.err.splitlines()[-1]
    assert "no answer for 0.5 s" in last and "nothing was published" in last


def test_a_commit_whose_answer_is_lost_may_have_arrived(push_model, hub, there, vqgan_folder, quick):
    hub.faults.append(Fault("POST .*/commit/", delay=2, status=500))
    outcome = push_model(vqgan_folder, "--timeout", 0.5)
    assert outcome.status == 2 and there()
    assert "whether the commit arrived is not known" in outcome.err.splitlines()[-1]


def test_other_bytes_on_the_way(push_model, hub, there, vqgan_folder):
    hub.faults.append(Fault("PUT /large/", corrupt=True))
    push_model(vqgan_folder, "--json").is_one_line("400", "The bytes are not those of this digest")
    assert there() and not set(hub.large) - {hashlib.sha256(content).hexdigest() for content in BEFORE.values()}
    hub.faults.clear()
    assert push_model(vqgan_folder).status == 0


def test_other_digests_behind_the_commit(push_model, hub, vqgan_folder):
    repository = hub.add("me/model", BEFORE)
    before, switched = repository.branches["main"], threading.Event()

    def spoil() -> None:
        head = repository.branches["main"]
        if head != before and not switched.is_set():
            switched.set()
            stored = repository.commits[head]["model.safetensors"]
            repository.commits[head]["model.safetensors"] = type(stored)(b"other" + stored.content[5:], True)

    hub.faults.append(Fault("GET /api/models/me/model/revision/", delay=0.001, then=spoil))
    outcome = push_model(vqgan_folder, "--json")
    outcome.is_one_line("gives other bytes than were sent of model.safetensors", f"the commit before it, {before}")
    assert repository.files(before)["model.safetensors"] == BEFORE["model.safetensors"]


def test_other_bytes_on_the_way_back(push_model, hub, vqgan_folder):
    repository = hub.add("me/model", BEFORE)
    before = repository.branches["main"]
    hub.faults.append(Fault("GET /me/model/resolve/.*/model.safetensors", corrupt=True))
    outcome = push_model(vqgan_folder, "--verify", "--json")
    outcome.is_one_line("gives other bytes than were sent of model.safetensors", before)
    assert repository.files(before)["README.md"] == BEFORE["README.md"]


@pytest.mark.parametrize("arguments", [(), ("--dry-run",)])
def test_a_failure_of_ours_does_not_tell_the_token(push_model, hub, vqgan_folder, monkeypatch, arguments):
    """Not even the traceback that is asked for, in which what an error came from is printed, too."""

    def fail(*_: object, **__: object) -> None:
        try:
            raise KeyError(f"Bearer {TOKEN}")
        except KeyError as error:
            raise TypeError("our fault") from error

    monkeypatch.setenv("VISUAL_SENTENCE_TRACEBACK", "1")
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", fail)
    outcome = push_model(vqgan_folder, *arguments)  # which looks for the token
    assert "TypeError: our fault" in outcome.err + outcome.out and "Traceback" not in outcome.err


def test_without_a_network(push_model, hub, vqgan_folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    push_model(vqgan_folder, "--json").is_one_line("HF_HUB_OFFLINE is set")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    push_model(vqgan_folder, "--json").is_one_line("http://127.0.0.1:9 cannot be reached", "check the network")


def test_a_licence_that_the_hub_does_not_know(push_model, hub, there, vqgan_folder):
    push_model(vqgan_folder, "--license", "nonsense", "--json").is_one_line("Invalid metadata in README.md", "license")
    assert there()


def test_where_xet_is_missing_files_are_sent_the_plain_way(push_model, hub, vqgan_folder, monkeypatch):
    pytest.importorskip("hf_xet")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    outcome = push_model(vqgan_folder)
    assert outcome.status == 0, outcome.err
    assert "xet storage failed" in outcome.err and hub.count("xet-write-token") and hub.count("PUT /large/")
    assert constants.HF_HUB_DISABLE_XET is False


# ------------------------------------------------------------------------------------------------- what is not sent


@pytest.mark.parametrize("repo_id", ["model", "a/b/c", "me/mo del", "me/..", "/model", "me/", "me/model.git"])
def test_names_that_are_none(push_model, hub, vqgan_folder, repo_id):
    push_model(vqgan_folder, "--repo-id", repo_id, "--json").is_one_line("write OWNER/NAME")
    assert not hub.requests


@pytest.mark.parametrize("revision", ["0" * 40, "a b", "a..b", "-x", "x.lock", ""])
def test_branches_that_are_none(push_model, hub, vqgan_folder, revision):
    push_model(vqgan_folder, f"--revision={revision}", "--json").is_one_line("branch")
    assert not hub.requests


def test_folders_that_are_none(push_model, hub, vqgan_folder, tmp_path):
    push_model(tmp_path / "none").is_one_line("found nothing there", "v2l-small")
    push_model("default").is_one_line("'default' does not say which: give simlvm-small or v2l-small")
    push_model("vqgan-small-64").is_one_line("has a configuration but no weights")
    push_model("v2l-offline").is_one_line("has no config.json")
    (tmp_path / "run").mkdir()
    vqgan_folder.rename(tmp_path / "run" / "model")
    push_model(tmp_path / "run").is_one_line("a training run", "run/model")
    config = tmp_path / "run" / "model" / "config.json"
    config.write_text('{"model_type": "llama"}')
    push_model(tmp_path / "run" / "model").is_one_line("is a llama model", "v2l", "its push_to_hub")
    config.write_text("no JSON")
    push_model(tmp_path / "run" / "model").is_one_line("cannot be read as JSON")
    assert not hub.requests


def test_weights_that_are_none(push_model, hub, vqgan_folder):
    weights = vqgan_folder / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    push_model(vqgan_folder).is_one_line("is damaged, or only a pointer")
    weights.write_bytes(content[: len(content) // 2])
    push_model(vqgan_folder).is_one_line("is damaged")
    weights.unlink()
    push_model(vqgan_folder).is_one_line("no weights (model.safetensors)")
    (vqgan_folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model-1.safetensors"}}')
    push_model(vqgan_folder).is_one_line("lacks model-1.safetensors")
    torch.save({"a": torch.ones(1)}, vqgan_folder / "pytorch_model.bin")
    push_model(vqgan_folder).is_one_line("pytorch_model.bin", "only safetensors are published")
    weights.write_bytes(content)
    push_model(vqgan_folder).is_one_line("only safetensors are published")
    assert not hub.requests


def test_a_card_that_is_none(push_model, hub, vqgan_folder):
    (vqgan_folder / "README.md").write_text("---\na: [\n---\n")
    push_model(vqgan_folder).is_one_line("README.md", "no YAML")
    (vqgan_folder / "README.md").write_text("---\n- a\n---\n")
    push_model(vqgan_folder).is_one_line("name no fields")
    (vqgan_folder / "README.md").write_bytes(b"\xff\xfe")
    push_model(vqgan_folder).is_one_line("cannot be read as UTF-8")
    assert not hub.requests
