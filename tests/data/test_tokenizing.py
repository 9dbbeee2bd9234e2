"""Tokenizing: what stands in the shards is what the VQGAN makes of the pairs, whoever writes them and however often
they are killed."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence.data.augmentation import Augmentation
from visual_sentence.data.sentences import SentenceMaker
from visual_sentence.data.shards import TokenShards
from visual_sentence.data.specs import parse_task_data
from visual_sentence.data.tokenizing import token_header, tokenize_pairs
from visual_sentence.errors import UserError
from visual_sentence.modeling import VQGANConfig, VQGANImageProcessor, VQGANModel

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "tokenize_dataset.py"
SPECS = ["denoising:shapes[:11]?size=24&draws=2&sigma=10-50", "segmentation:shapes[:9]?size=24&seed=3"]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1"}
# Runs in a process of its own: tokenizes slowly enough to be killed in the middle.
SLOW_RUN = """
import sys, time
from visual_sentence.data import tokenizing
from visual_sentence.data.specs import parse_task_data
from visual_sentence.modeling import VQGANModel

class Slowly(tokenizing.PairTokenizer):
    def rows(self, unit):
        for row in super().rows(unit):
            time.sleep(0.02)
            yield row

if __name__ == "__main__":
    tokenizing.PairTokenizer = Slowly
    data = [parse_task_data(text) for text in sys.argv[4:]]
    model = VQGANModel.from_pretrained(sys.argv[1])
    try:
        tokenizing.tokenize_pairs(model, data, sys.argv[2], batch_size=4, shard_rows=5, workers=int(sys.argv[3]))
    except ValueError as error:
        sys.exit(str(error))
"""


@pytest.fixture(scope="module")
def vqgan() -> VQGANModel:
    """16 pixels to 8 x 8 tokens of 32 codes, spread over what pictures become."""
    torch.manual_seed(0)
    sizes = {"image_size": 16, "block_out_channels": [8, 16], "layers_per_block": 1, "norm_num_groups": 4}
    model = VQGANModel(VQGANConfig(**sizes, latent_channels=4, codebook_size=32, codebook_dim=8)).eval()
    with torch.no_grad():
        latents = model.encode_pixels(torch.rand(16, 3, 16, 16) * 2 - 1).permute(0, 2, 3, 1).flatten(0, 2)
        model.quantizer.codebook.copy_(latents[torch.randperm(len(latents))[:32]])
    return model


@pytest.fixture(scope="module")
def data():
    return [parse_task_data(text) for text in SPECS]


@pytest.fixture(scope="module")
def whole(vqgan, data, tmp_path_factory) -> Path:
    """Shards of one run without interruption."""
    folder = tmp_path_factory.mktemp("tokens") / "whole"
    tokenize_pairs(vqgan, data, folder, batch_size=4, shard_rows=5)
    return folder


def contents(folder: Path) -> dict[str, list]:
    """Every row of every shard."""
    names = ("task", "setting", "source", "layout", "index")
    return {
        path.name: [(*(getattr(row, name) for name in names), row.tokens.tolist()) for row in TokenShards.open(path)]
        for path in sorted(folder.glob("*.parquet"))
    }


def test_tokens_are_those_of_the_pairs(vqgan, data, whole):
    shards = TokenShards.open(whole, token_header(vqgan))
    assert len(shards) == 2 * 11 + 9
    assert [file.num_rows for file in shards.files] == [5, 5, 5, 5, 2, 5, 4]
    places = [(number, index) for number, count in enumerate((22, 9)) for index in range(count)]
    distinct = set()
    for row, (number, index) in zip(shards, places, strict=True):
        pair = SentenceMaker(data[number], None, 0, 16).pair(index)
        assert (row.task, row.setting, row.source) == (data[number].task.name, pair.setting, pair.source)
        assert (row.layout, row.index) == ("pair", index)
        squares = [picture.resize((16, 16), Image.Resampling.BICUBIC) for picture in (pair.input, pair.target)]
        pixels = torch.tensor(np.stack(squares)).permute(0, 3, 1, 2).float() / 127.5 - 1
        wanted = vqgan.encode(pixels).image_tokens.flatten()
        assert (torch.tensor(row.tokens.astype(int)) == wanted).float().mean() > 0.99  # batches round differently
        distinct.add(row.tokens.tobytes())
    assert len(distinct) == 31  # a second draw of a picture has noise of its own


def test_a_picture_is_seen_as_a_whole(vqgan, tmp_path):
    wide = Image.new("RGB", (40, 16), "red")
    wide.paste("blue", (30, 0, 40, 16))
    (tmp_path / "photos").mkdir()
    wide.save(tmp_path / "photos" / "wide.png")
    data = [parse_task_data(f"brightness:{tmp_path / 'photos'}?factor=1")]

    def tokens(name: str, processor: VQGANImageProcessor | None) -> list[int]:
        tokenize_pairs(vqgan, data, tmp_path / name, processor)
        return TokenShards.open(tmp_path / name)[0].tokens.tolist()

    stretched, cropped = tokens("stretched", None), tokens("cropped", VQGANImageProcessor(local_size=16))
    assert stretched != cropped  # the centre square is all red
    own = VQGANImageProcessor(local_size=16, local_fit="stretch")
    assert stretched == tokens("own", own)


def test_resuming_writes_what_is_missing_only(vqgan, data, whole, tmp_path):
    tokenize_pairs(vqgan, data, tmp_path, batch_size=4, shard_rows=5)
    first, second, third = (tmp_path / f"shard-0000{number}.parquet" for number in (1, 3, 6))
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    first.unlink()
    second.write_bytes(second.read_bytes()[:100])
    third.write_bytes((tmp_path / "shard-00000.parquet").read_bytes())  # of another number of rows
    with pytest.raises(UserError, match="lacks 1 of the 7 shards"):
        TokenShards.open(tmp_path)
    report = tokenize_pairs(vqgan, data, tmp_path, batch_size=4, shard_rows=5)
    assert (report.shards, report.pairs, report.written_shards, report.written_pairs) == (7, 31, 3, 14)
    assert report.missing_shards == 0
    assert contents(tmp_path) == contents(whole)
    after = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {first.name, second.name, third.name}


@pytest.fixture
def begin(vqgan, tmp_path):
    """Begins a slow run into "out" in a process of its own and waits for its first shards."""
    vqgan.save_pretrained(tmp_path / "vqgan")
    (tmp_path / "run.py").write_text(SLOW_RUN)

    def start(workers: int) -> subprocess.Popen:
        command = [sys.executable, "run.py", "vqgan", "out", str(workers), *SPECS]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=QUIET, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        wait_for(lambda: len(list((tmp_path / "out").glob("*.parquet"))) >= 2 or process.poll() is not None)
        assert process.poll() is None
        return process

    return start


def wait_for(condition) -> None:
    """Waits for at most a minute and a half."""
    for _ in range(9000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def living(group: int) -> list[int]:
    """Processes of a group, its leader first."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # gone meanwhile
            state = path.read_text().rsplit(")", 1)[1].split()
            if int(state[2]) == group and state[0] != "Z":
                found.append(int(path.parent.name))
    return sorted(found)


def parent_of(process: int) -> int:
    """The process that started another one."""
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_killed_in_the_middle_nothing_is_doubled_or_lost(begin, vqgan, data, whole, tmp_path, workers):
    process, output = begin(workers), tmp_path / "out"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not living(process.pid))  # its workers end by themselves
    assert 2 <= len(list(output.glob("*.parquet"))) < 7
    report = tokenize_pairs(
        vqgan, data, output, batch_size=4, shard_rows=5, workers=workers
    )  # whose tokens are the same
    assert report.written_pairs < 31
    assert contents(output) == contents(whole)
    assert not list(output.glob(".*"))  # what the killed one had begun is gone


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
def test_a_worker_that_is_killed_is_one_line(begin, tmp_path):
    process = begin(2)
    server = next(one for one in living(process.pid) if b"forkserver" in Path(f"/proc/{one}/cmdline").read_bytes())
    workers = [one for one in living(process.pid) if parent_of(one) == server]
    assert len(workers) == 2
    os.kill(workers[1], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("A worker process ended early (status -9;")
    wait_for(lambda: not living(process.pid))


def test_launched_processes_share_the_shards(vqgan, data, whole, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    reports = []
    for rank in (2, 0, 1):
        monkeypatch.setenv("RANK", str(rank))
        reports.append(tokenize_pairs(vqgan, data, tmp_path, batch_size=4, shard_rows=5))
    assert [(one.written_shards, one.missing_shards) for one in reports] == [(2, 5), (3, 2), (2, 0)]
    assert "2 still to come" in reports[1].summary
    assert contents(tmp_path) == contents(whole)


def test_seed_and_augmentation_matter_and_another_plan_is_refused(vqgan, data, whole, tmp_path):
    plain = contents(whole)
    tokenize_pairs(vqgan, data, tmp_path / "seed", batch_size=4, shard_rows=5, seed=1)
    tokenize_pairs(vqgan, data, tmp_path / "augmented", batch_size=4, shard_rows=5, augment=Augmentation())
    assert plain != contents(tmp_path / "seed") and plain != contents(tmp_path / "augmented")
    for options, said in (
        ({"seed": 1}, r"another seed \(0, now 1\)"),
        ({"augment": Augmentation()}, r"another augment \(null, now .*flip"),
        ({"shard_rows": 6}, r"another shards \(other rows a shard\)"),
        ({"data": data[:1]}, "another data"),
    ):
        arguments = {"data": data, "shard_rows": 5, **options}
        with pytest.raises(UserError, match=said):
            tokenize_pairs(vqgan, arguments.pop("data"), whole, **arguments)
    other = VQGANModel(vqgan.config)
    with pytest.raises(UserError, match="another vqgan_sha256"):
        tokenize_pairs(other, data, whole, shard_rows=5)
    assert contents(whole) == plain
    with pytest.raises(UserError, match=r"model's VQGAN is .*: tokenize the pictures again"):
        TokenShards.open(whole, token_header(other))


def test_wrong_use_is_one_line(vqgan, data, tmp_path):
    with pytest.raises(UserError, match="No data were named"):
        tokenize_pairs(vqgan, [], tmp_path)
    with pytest.raises(UserError, match="0 rows a shard"):
        tokenize_pairs(vqgan, data, tmp_path, shard_rows=0)
    with pytest.raises(UserError, match="0 pairs a batch"):
        tokenize_pairs(vqgan, data, tmp_path, batch_size=0)
    with pytest.raises(UserError, match="views of 32 pixels, but the VQGAN is for 16"):
        tokenize_pairs(vqgan, data, tmp_path, VQGANImageProcessor(local_size=32))
    (tmp_path / "other.parquet").write_bytes(b"x")
    with pytest.raises(UserError, match="Parquet files of something else"):
        tokenize_pairs(vqgan, data, tmp_path)


@pytest.fixture
def script(monkeypatch, tmp_path, vqgan, capsys):
    """Runs scripts/tokenize_dataset.py in this process, beside a folder "vqgan"; gives (status, stdout, stderr)."""
    spec = importlib.util.spec_from_file_location("tokenize_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vqgan.save_pretrained(tmp_path / "vqgan")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["tokenize_dataset.py", "--model", "vqgan", *arguments])
        status = module.main()
        return status, *capsys.readouterr()

    return run


def test_the_script_writes_shards_and_files_for_others(script, tmp_path, whole):
    common = ("--data", *SPECS, "--output", "out", "--batch-size", "4", "--shard-rows", "5", "--device", "cpu")
    status, said, _ = script(*common)
    assert status == 0 and said.startswith("out: 31 pairs in 7 shards; written now 31 pairs")
    assert contents(tmp_path / "out") == contents(whole)
    assert script(*common, "--format", "lvm", "--pairs", "1")[1].endswith(  # an odd number of pairs, two a line
        "15 lines for LVM, 1 pairs left out for want of company\n"
    )
    status, said, _ = script(*common, "--format", "lvm", "--pairs", "2")
    assert status == 0 and "written now 0 pairs" in said and said.endswith("lines for LVM\n")
    status, said, _ = script("--from-lvm", "out/dataset.jsonl", "--layout", "pairs", "--output", "again")
    assert status == 0 and said == "again: 31 rows\n"
    back = sorted(row.tokens.tolist() for row in TokenShards.open("again"))
    assert back == sorted(row[-1] for rows in contents(whole).values() for row in rows)
    assert script(*common, "--format", "delvm")[1].endswith("31 lines for DELVM\n")
    assert script("--from-delvm", "out", "--output", "third")[0] == 0
    assert back == sorted(row.tokens.tolist() for row in TokenShards.open("third"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "give one of --data, --videos, --from-lvm and --from-delvm"),
        (("--data", "edges:shapes", "--from-lvm", "x"), "give one of"),
        (("--data", "edges:shapes", "--layout", "pairs"), "--layout is for"),
        (("--from-lvm", "x", "--format", "lvm"), "--format is for --data"),
        (("--data", "edges:shapes", "--pairs", "3"), "--pairs is for"),
        (("--data", "flying:shapes"), "no task 'flying'"),
        (("--data", "edges:nowhere"), "nowhere"),
        (("--from-lvm", "nowhere.jsonl"), "no such file"),
        (("--data", "edges:shapes[:3]", "--model", "nowhere"), "nowhere"),
    ],
)
def test_the_scripts_complaints_are_one_line(script, arguments, said, tmp_path):
    status, out, err = script("--output", "out", *arguments)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("error: ") and said in err
    assert not (tmp_path / "out").exists()


def test_other_models_are_refused(script, tmp_path):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text(json.dumps({"model_type": "llama"}))
    status, _, err = script("--data", "edges:shapes[:3]", "--output", "out", "--model", "llama")
    assert status == 2 and "llama is a llama model, which has no VQGAN" in err
