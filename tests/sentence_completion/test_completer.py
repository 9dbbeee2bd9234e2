"""The completer against the model asked one sentence at a time, and answers against rules worked out by hand."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from visual_sentence import UserError
from visual_sentence.data.sentences import VisualSentence
from visual_sentence.data.task_base import Pair
from visual_sentence.modeling import VQGANConfig, VQGANImageProcessor, VQGANModel
from visual_sentence.sentence_completion.answers import (
    AnswerReader,
    Reading,
    reading_of,
)
from visual_sentence.sentence_completion.completer import Question, SentenceCompleter
from visual_sentence.shipped import has_weights, shipped_folder

from .conftest import VQGAN, blob, noise

PROMPTS = Path(__file__).resolve().parents[3] / "shared" / "data" / "visual-prompts"
real_prompts = pytest.mark.skipif(not PROMPTS.is_dir(), reason=f"needs the real prompts in {PROMPTS}")


@pytest.fixture
def completer(make_simlvm, make_simlvm_processor) -> SentenceCompleter:
    return SentenceCompleter(make_simlvm(), make_simlvm_processor())


@pytest.fixture
def pairs() -> list[tuple[Image.Image, Image.Image]]:
    return [(noise(place), blob(place)) for place in range(3)]


def by_hand(completer: SentenceCompleter, pairs: list, query: Image.Image) -> torch.Tensor:
    """The greedy answer [h, w]: the whole sentence read anew for every token, without any cache."""
    model, processor = completer.model, completer.processor
    pictures = [picture for pair in pairs for picture in pair] + [query]
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    ids = model.tokenize(pixels).flatten()[None]
    for _ in range(16):
        scores = model(input_ids=ids).logits[0, -1, :32]
        ids = torch.cat([ids, scores.argmax()[None, None]], dim=1)
    return ids[0, -16:].view(4, 4)


@pytest.mark.parametrize("text", ["llama", "visual_gru"])
def test_answers_are_those_of_each_query_alone(text, make_simlvm, make_simlvm_processor, pairs):
    completer = SentenceCompleter(make_simlvm(text), make_simlvm_processor())
    queries = [noise(100 + place, (30, 20)) for place in range(5)]
    found = completer.complete([Question(pairs, query) for query in queries], batch_size=2)
    expected = [by_hand(completer, pairs, query) for query in queries]
    assert len({tuple(one.flatten().tolist()) for one in expected}) > 1  # the query matters to this model
    for answer, tokens in zip(found, expected, strict=True):
        assert torch.equal(answer.image_tokens, tokens)
        assert answer.image.size == (30, 20)
        assert torch.allclose(answer.pixel_values, completer.model.draw(tokens[None])[0], atol=1e-4)
    one = completer.model.complete(**completer.processor(pairs=pairs, query=queries[3]), share_prefix=False)
    assert found[3].log_likelihood == pytest.approx(float(one.log_likelihood), abs=1e-3)


@pytest.mark.parametrize("draw", [{}, {"do_sample": True, "num_candidates": 3, "seed": 5}])
def test_the_mean_of_what_the_model_expects_is_the_answer_where_it_is_asked_for(completer, pairs, draw):
    queries = [noise(40), noise(41)]
    asked = [Question(pairs, query) for query in queries]
    likeliest, mean = completer.complete(asked, **draw), completer.complete(asked, average=True, **draw)
    found = completer.model.complete(**completer.processor([pairs] * 2, queries), expect_codes=True, **draw)
    for place, (one, other) in enumerate(zip(likeliest, mean, strict=True)):
        assert torch.equal(one.image_tokens, other.image_tokens)
        pictures = completer.model.draw_codes(found.expected_codes[place, :, 0]).clamp(-1, 1)
        assert len(pictures) == draw.get("num_candidates", 1)
        assert torch.allclose(other.pixel_values, pictures.mean(0), atol=1e-4)
        assert not torch.allclose(other.pixel_values, one.pixel_values, atol=1e-2)


def test_a_model_may_name_the_draws_whose_mean_is_its_answer(make_simlvm, make_simlvm_processor, pairs):
    asked, model = [Question(pairs, noise(40))], make_simlvm()
    completer = SentenceCompleter(model, make_simlvm_processor())
    (likeliest,) = completer.complete(asked)
    assert completer.default_generation == {}
    model.config.mean_candidates = 3
    (own,) = completer.complete(asked)
    (mean,) = completer.complete(asked, do_sample=True, num_candidates=3, seed=0, average=True)
    assert torch.equal(own.pixel_values, mean.pixel_values) and torch.equal(own.candidates, mean.candidates)
    model.config.mean_temperature = 0.5
    (cooler,) = completer.complete(asked)
    (mean,) = completer.complete(asked, do_sample=True, num_candidates=3, seed=0, average=True, temperature=0.5)
    assert torch.equal(cooler.pixel_values, mean.pixel_values) and not torch.equal(own.pixel_values, mean.pixel_values)
    model.config.mean_candidates, model.config.mean_temperature = 1, 0
    (expected,) = completer.complete(asked)
    assert torch.equal(expected.image_tokens, likeliest.image_tokens) and expected.candidates is None
    assert not torch.equal(expected.pixel_values, likeliest.pixel_values)
    (plain,) = completer.complete(asked, do_sample=False)
    assert torch.equal(plain.pixel_values, likeliest.pixel_values) and plain.candidates is None
    with pytest.raises(ValueError, match="mean_candidates is 0"):
        type(model.config)(mean_candidates=0)
    for count, temperature in ((1, -1), (2, 0)):
        with pytest.raises(ValueError, match="change one of the two"):
            type(model.config)(mean_candidates=count, mean_temperature=temperature)


def test_sentences_of_all_kinds_come_back_in_order(completer, pairs):
    others = [(noise(7), noise(8))]
    sentences = [
        Question(pairs, noise(20)),
        Question(others, noise(21)),
        Question(pairs, noise(22)),
        Question(pairs[:2], noise(23)),
        Question([(noise(9), noise(10))], noise(24)),
        VisualSentence((Pair(*pairs[0], "a"),), noise(25), None, "segmentation", "", ("a", "b")),
    ]
    found = completer.complete(sentences, batch_size=4)
    for sentence, answer in zip(sentences, found, strict=True):
        shown = [(pair.input, pair.target) if isinstance(pair, Pair) else pair for pair in sentence.pairs]
        assert torch.equal(answer.image_tokens, by_hand(completer, shown, sentence.query))


def test_the_same_pairs_are_read_once(completer, pairs, monkeypatch):
    read, lengths = completer.model.read, []
    monkeypatch.setattr(completer.model, "read", lambda ids, pixels: lengths.append(ids.shape[1]) or read(ids, pixels))
    first = completer.complete([Question(pairs, noise(place)) for place in range(40, 45)], batch_size=2)
    assert lengths == [96]  # 6 pictures of 16 tokens
    opened_anew = [(image.copy(), target.copy()) for image, target in pairs]
    (again,) = completer.complete([Question(opened_anew, noise(44))])
    assert lengths == [96] and torch.equal(again.image_tokens, first[4].image_tokens)
    changed = [(noise(99), pairs[0][1]), *pairs[1:]]
    (other,) = completer.complete([Question(changed, noise(44))])
    assert lengths == [96, 96] and torch.equal(other.image_tokens, by_hand(completer, changed, noise(44)))


def test_known_rows_are_the_given_pictures(completer, pairs):
    partial = noise(50)
    tokens = completer.reconstruct([partial])[0].image_tokens
    questions = [Question(pairs, noise(51), partial, (0, 2)), Question(pairs, noise(51))]
    with_rows, free = completer.complete(questions)
    assert torch.equal(with_rows.image_tokens[[0, 2]], tokens[[0, 2]])
    assert not torch.equal(free.image_tokens[[0, 2]], tokens[[0, 2]])
    assert torch.equal(free.image_tokens, by_hand(completer, pairs, noise(51)))
    with pytest.raises(UserError, match="both partial and known_rows"):
        completer.complete([Question(pairs, noise(51), partial)])


def test_frames_go_on(completer):
    sequences = [[noise(1), noise(2, (30, 20))], [noise(3)], [noise(4), noise(5)]]
    found = completer.go_on(sequences, num_images=2)
    assert [len(images) for images in found] == [2, 2, 2]
    for frames, images in zip(sequences, found, strict=True):
        one = completer.model.complete(**completer.processor(frames=frames), num_images=2)
        assert torch.equal(torch.stack([image.image_tokens for image in images]), one.image_tokens[0])
        assert images[0].image.size == frames[-1].size
        assert (
            images[0].log_likelihood == images[1].log_likelihood == pytest.approx(float(one.log_likelihood), abs=1e-3)
        )


def test_draws_repeat_and_the_likeliest_is_kept(completer, pairs):
    options = {"do_sample": True, "num_candidates": 4, "temperature": 1.3, "top_k": 8, "seed": 3}
    question = Question(pairs, noise(60))
    (one,), (two,) = (completer.complete([question], **options) for _ in range(2))
    assert one.candidates.shape == (4, 4, 4) and torch.equal(one.candidates, two.candidates)
    assert torch.equal(one.image_tokens, one.candidates[0])
    assert len({tuple(candidate.flatten().tolist()) for candidate in one.candidates}) > 1
    (other,) = completer.complete([question], **{**options, "seed": 4})
    assert not torch.equal(one.candidates, other.candidates)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"temperature": 0.5}, "temperature changes nothing while .* pass do_sample=True"),
        ({"num_candidates": 2}, "num_candidates changes nothing"),
        ({"do_sample": True, "temperature": 0}, "temperature is 0, but has to be above 0"),
        ({"do_sample": True, "top_p": 1.5}, "top_p is 1.5"),
        ({"beams": 2}, "no option beams"),
        ({"output": "drawing"}, "no output 'drawing': choose one of auto, image, mask, labels"),
        ({"output": "labels", "palette": [(0, 0, 0), (255, 0, 0)]}, r"the colour \(255, 255, 255\), which the palette"),
        (
            {"output": "auto", "palette": [(0, 0, 0), (255, 255, 255), (9, 9, 9)]},
            r"\(9, 9, 9\), which no pair's target",
        ),
        ({"output": "labels", "palette": ["red"]}, "no list of colours"),
        ({"output": "mask", "palette": [(0, 0, 0)]}, "A palette is of label maps"),
    ],
)
def test_options_that_make_no_sense_are_one_line(options, line, completer, pairs):
    with pytest.raises(UserError, match=line):
        completer.complete([Question(pairs, noise(1))], **options)


def test_sentences_that_make_no_sense_are_one_line(completer, pairs):
    cases = {
        "There is no query": Question(pairs, None),
        "There is no pair": Question([], noise(1)),
        "Pair 2 has an input of 20 x 20 pixels and a target of 8 x 9": Question(
            [pairs[0], (noise(1), noise(2, (8, 9)))], noise(1)
        ),
        "3 pairs fit, you gave 4": Question([*pairs, (noise(4), noise(5))], noise(1)),
        "clip.mp4 is a video.*keyframes": Question(pairs, "clip.mp4"),
    }
    for line, question in cases.items():
        with pytest.raises(UserError, match=line):
            completer.complete([question])
    with pytest.raises(UserError, match="7 frames fit, you gave 8"):
        completer.go_on([[noise(1)] * 8])


def painted(colours: list[tuple[int, int, int]], size: int = 20) -> Image.Image:
    """Stripes of colours."""
    rows = np.arange(size) * len(colours) // size
    return Image.fromarray(np.repeat(np.array(colours, dtype=np.uint8)[rows][:, None], size, axis=1))


def test_targets_say_how_answers_are_read():
    black, white, red, blue = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)
    distance = np.hypot(*(np.mgrid[0:80, 0:80] - 40))
    soft = Image.fromarray(np.clip(255 * (20.5 - distance), 0, 255).astype(np.uint8)).convert("RGB")
    assert reading_of([blob(1), painted([black])]) == Reading("mask", (black, white))
    assert len(np.unique(np.asarray(soft))) > 10 and reading_of([soft]).kind == "mask"
    assert reading_of([painted([black, red]), painted([blue, blue, black])]) == Reading("labels", (black, blue, red))
    assert reading_of([painted([red, blue])], "mask") == Reading("mask", (blue, red))  # equal areas: by value
    assert reading_of([painted([black, red, blue])], palette=[red, black, blue]).palette == (red, black, blue)
    assert reading_of([blob(1), noise(1)]) == reading_of([blob(1)], "image") == Reading("image")
    # half of the pixels grey: a picture, though it has no colours
    assert reading_of([painted([(level,) * 3 for level in range(0, 256, 13)])]).kind == "image"
    with pytest.raises(UserError, match="have 3 colours, so it is not said which"):
        reading_of([painted([black, red, blue])], "mask")
    with pytest.raises(UserError, match="so they are pictures and no label maps"):
        reading_of([noise(1)], "labels")


def test_masks_and_label_maps_have_the_querys_size(make_simlvm_processor):
    red, teal = (255, 0, 0), (0, 128, 128)
    target = painted([red, red, teal, teal], 16)
    pixels = torch.from_numpy(np.asarray(target).copy()).permute(2, 0, 1) / 127.5 - 1
    nothing = torch.zeros(4, 4, dtype=torch.long)
    reader = AnswerReader(make_simlvm_processor())
    answer = reader.read(pixels, nothing, 0.0, (40, 32), Reading("labels", (teal, red)))
    assert answer.label_map.shape == (32, 40) and answer.mask is None
    assert (answer.label_map[:15] == 1).all() and (answer.label_map[17:] == 0).all()
    assert answer.painted.getpixel((0, 0)) == red and answer.painted.size == (40, 32)
    mask = reader.read(pixels, nothing, 0.0, (40, 32), Reading("mask", (teal, red)))
    assert np.array_equal(mask.mask, answer.label_map == 1) and mask.label_map is None
    # between red and teal lies a brown; no pixel may become it
    brown = reader.read(pixels, nothing, 0.0, (37, 31), Reading("labels", (teal, (128, 64, 64), red)))
    assert set(np.unique(brown.label_map)) == {0, 2}
    assert mask.painted.mode == "L" and mask.painted.getpixel((0, 0)) == 255
    bright = reader.read(pixels * 0 + 0.1, nothing, 0.0, (3, 3), Reading("mask"))
    assert bright.mask.all() and not reader.read(pixels * 0 - 0.1, nothing, 0.0, (3, 3), Reading("mask")).mask.any()


def test_a_processor_that_crops_leaves_the_rest_black(make_simlvm_processor):
    reader = AnswerReader(make_simlvm_processor("crop"))
    picture = reader.picture(torch.ones(3, 16, 16), (40, 20))
    pixels = np.asarray(picture)
    assert picture.size == (40, 20)
    assert (pixels[:, 10:30] == 255).all() and not pixels[:, :10].any() and not pixels[:, 30:].any()
    white_or_black = Reading("labels", ((255, 255, 255), (0, 0, 0)))
    answer = reader.read(torch.ones(3, 16, 16), torch.zeros(4, 4), 0.0, (40, 20), white_or_black)
    assert np.array_equal(answer.label_map == 0, pixels[..., 0] == 255)


@real_prompts
@pytest.mark.parametrize("task", ["seg", "pose", "derain"])
def test_real_prompts_of_delvm_go_through(task, completer):
    folder = PROMPTS / "delvm" / f"{task}_prompt"
    pairs = [tuple(Image.open(folder / f"00000{place}_{kind}.png") for kind in ("img", "label")) for place in range(3)]
    queries = [Image.open(PROMPTS / "delvm" / "examples" / f"{task}_{place}.png") for place in (1, 2)]
    found = completer.complete([Question(pairs, query) for query in queries], output="auto")
    assert [answer.image.size for answer in found] == [query.size for query in queries]
    assert all(answer.mask is None and answer.label_map is None for answer in found)  # colours by the thousand


@real_prompts
def test_real_prompts_of_seggpt_are_answered_by_masks(completer):
    folder = PROMPTS / "seggpt"
    for kind in ("hmbb", "video"):
        pairs = [
            (Image.open(folder / f"{kind}_{n}.jpg"), Image.open(folder / f"{kind}_{n}_target.png")) for n in (1, 2)
        ]
        (answer,) = completer.complete([Question(pairs, Image.open(folder / f"{kind}_3.jpg"))], output="auto")
        assert answer.mask.dtype == bool and answer.mask.shape == answer.image.size[::-1]


def test_load(simlvm_folder, completer, pairs):
    loaded = SentenceCompleter.load(simlvm_folder, "cpu")
    (one,), (two,) = (each.complete([Question(pairs, noise(1))]) for each in (loaded, completer))
    assert torch.equal(one.image_tokens, two.image_tokens) and loaded.name == str(simlvm_folder)


def test_models_that_do_not_fit_are_one_line(simlvm_folder, make_simlvm, make_simlvm_processor, tmp_path):
    vqgan = tmp_path / "vqgan"
    VQGANModel(VQGANConfig(**VQGAN)).save_pretrained(vqgan)
    VQGANImageProcessor(local_size=16).save_pretrained(vqgan)
    empty = tmp_path / "empty"
    make_simlvm().config.save_pretrained(empty)
    other = tmp_path / "other"
    make_simlvm(vq_config={**VQGAN, "codebook_size": 24}).save_pretrained(other)
    make_simlvm().config.save_pretrained(other)
    make_simlvm_processor().save_pretrained(other)
    cases = {
        vqgan: "is a VQGAN alone",
        empty: "has a configuration but no weights",
        other: "another codebook size of 32",
        tmp_path / "missing": "found nothing there",
        "offline": "no offline SimLVM",
    }
    for reference, line in cases.items():
        with pytest.raises(UserError, match=line):
            SentenceCompleter.load(reference, "cpu")
    make_simlvm_processor(tokens_per_image=64).save_pretrained(simlvm_folder)
    with pytest.raises(UserError, match="makes sentences of 64 tokens an image, but the model reads 16"):
        SentenceCompleter.load(simlvm_folder, "cpu")


def test_missing_weights_are_refused(simlvm_folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(simlvm_folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if not name.startswith("vqgan.encoder")}
    save_file(kept, simlvm_folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"lacks \d+ weights, among them vqgan.encoder"):
        SentenceCompleter.load(simlvm_folder, "cpu")


def test_the_model_that_ships(pairs):
    if not has_weights(shipped_folder("simlvm")):
        with pytest.raises(UserError, match="ships with the package has no weights"):
            SentenceCompleter.load(device="cpu")
        pytest.skip("the model that ships has no weights yet")
    (answer,) = SentenceCompleter.load(device="cpu").complete([Question(pairs, noise(1))], output="auto")
    assert answer.mask.shape == (20, 20)
