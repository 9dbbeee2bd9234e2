"""The model card: the folder's own, or one made of what is known; with lines that load the model from the Hub."""

import re
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from transformers.dynamic_module_utils import get_imports

from ..errors import UserError
from ..pipelines import CAPTIONING_TASK, FEW_SHOT_TASK, RECONSTRUCTION_TASK, SENTENCE_TASK
from .sources import CARD, Source

BEGIN, END = "<!-- loading, by visual-sentence push -->", "<!-- end of loading -->"
FRONT = re.compile(r"\A---[ \t]*\n(.*?\n)??---[ \t]*\n", re.DOTALL)
LINK = re.compile(r"\]\((?![a-z]+:|[/#])([^)#\s]+)|<img[^>]+src=\"(?![a-z]+:|/)([^\"]+)\"")
# By kind of model: what it is called, the Hub's name of what it is for, and further tags.
KINDS = {
    "v2l": ("V2L model", "image-feature-extraction", ("v2l-tokenizer", "image-tokenizer", "vector-quantization")),
    "lqae": ("LQAE", "image-feature-extraction", ("lqae", "image-tokenizer", "vector-quantization")),
    "spae": ("SPAE", "image-feature-extraction", ("spae", "image-tokenizer", "vector-quantization")),
    "vqgan": ("VQGAN", "image-to-image", ("vqgan", "image-tokenizer", "vector-quantization")),
    "simlvm": ("SimLVM", "image-to-image", ("in-context-learning", "vqgan")),
    "frozen-prefix": ("Frozen model", "image-feature-extraction", ("frozen", "prefix")),
    "conse": ("ConSE image tower", "image-feature-extraction", ("conse",)),
}
# What the models come from.
SOURCES = {
    "v2l": "V2L Tokenizer, Zhu, Wei, Lu 2024 (https://arxiv.org/abs/2403.07874)",
    "lqae": "LQAE, Liu, Yan, Abbeel 2023 (https://arxiv.org/abs/2302.00902)",
    "spae": "SPAE, Yu et al. 2023 (https://arxiv.org/abs/2306.17842)",
    "vqgan": "VQGAN, Esser, Rombach, Ommer 2021 (https://arxiv.org/abs/2012.09841)",
    "simlvm": "SimLVM (Liu et al.); LVM, Bai et al. 2023 (https://arxiv.org/abs/2312.00785)",
    "frozen-prefix": "Frozen, Tsimpoukelli et al. 2021 (https://arxiv.org/abs/2106.13884)",
    "conse": "ConSE, Norouzi et al. 2013 (https://arxiv.org/abs/1312.5650)",
}
# A call of a pipeline, the first that a model has.
CALLS = {
    RECONSTRUCTION_TASK: 'print(run("photo.jpg")["image_tokens"])',
    SENTENCE_TASK: 'print(run("query.png", pairs=[("a.png", "a_mask.png"), ("b.png", "b_mask.png")]))',
    FEW_SHOT_TASK: 'print(run("photo.jpg", support={"cat": ["a_cat.jpg"], "dog": ["a_dog.jpg"]}))',
    CAPTIONING_TASK: 'print(run("photo.jpg", examples=[("cat.jpg", "A cat."), ("dog.jpg", "A dog.")]))',
}
# Stands for a commit: a card cannot tell its own, and a branch in its place would run whatever comes later.
PLACE_OF_COMMIT = "0123456789abcdef0123456789abcdef01234567"
ASK_A_LANGUAGE_MODEL = (FEW_SHOT_TASK, CAPTIONING_TASK)
# Distributions whose modules are called otherwise.
DISTRIBUTIONS = {"PIL": "pillow", "open_clip": "open_clip_torch", "yaml": "pyyaml"}
# Signs in a configuration of what is imported only when such a model is built.
BUILT_OF = {"'block_out_channels'": "diffusers", "'encoder_type': 'open_clip'": "open_clip", "'timm_wrapper'": "timm"}
# Measures that the Hub's metadata is given, and their places behind the point.
MEASURES = {"psnr": 2, "ssim": 3, "dice": 3, "iou": 3, "aji": 3}


def write_card(
    source: Source, folder: Path, tasks: Sequence[str], repo_id: str | None = None, licence: str | None = None
) -> list[str]:
    """Writes the card of a model, whose code lies in the folder already.

    Args:
        source: The model.
        folder: Where to write.
        tasks: The pipelines that come with it.
        repo_id: Where the repository will be; a place to fill in by default.
        licence: What the metadata is to say; the card's own by default, and nothing in a card that is made.

    Returns:
        The files of the model's folder that the card points at.

    Raises:
        UserError: If the folder's own card cannot be read.
    """
    text = _own_text(source.folder / CARD) if source.has(CARD) else _made_text(source)
    front, body = _split(text, source)
    if licence is not None:
        front = _with_licence(front, licence)
    body = _with_loading(_without_loading(body), _loading(source, folder, tasks, repo_id))
    text = f"---\n{front}---\n{body}"
    (folder / CARD).write_text(text, encoding="utf-8")
    return [name for name in linked_files(text) if source.has(name) and ".." not in Path(name).parts]


def linked_files(text: str) -> list[str]:
    """The files beside a card that it points at, each once."""
    return sorted({one or other for one, other in LINK.findall(text)})


def _own_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text ({error}), and it would be the model's card.") from error


def _split(text: str, source: Source) -> tuple[str, str]:
    """A card's metadata and its text; what every card needs where it has no metadata.

    Raises:
        UserError: If the metadata is no YAML mapping.
    """
    found = FRONT.match(text)
    if found is None:
        return _dump(_metadata(source)), "\n" + text.lstrip("\n")
    front = found[1] or ""
    try:
        fields = yaml.safe_load(front) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{source.folder / CARD}: the lines between --- are no YAML ({error}): mend them.") from error
    if not isinstance(fields, dict):
        raise UserError(f"{source.folder / CARD}: the lines between --- name no fields: write them as `name: value`.")
    return front, text[found.end() :]


def _with_licence(front: str, licence: str) -> str:
    """The metadata with another licence, the rest as it was."""
    kept = re.sub(r"^license(_name|_link)?:.*\n", "", front, flags=re.MULTILINE)
    return _dump({"license": licence}) + kept


def _dump(fields: dict[str, Any]) -> str:
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True, width=120)


def _metadata(source: Source) -> dict[str, Any]:
    _, purpose, tags = KINDS[source.config.model_type]
    fields: dict[str, Any] = {
        "library_name": "transformers",
        "pipeline_tag": purpose,
        "tags": ["visual-sentence", *tags],
    }
    results = [result for one in source.measurements for result in _results(one)]
    return {**fields, "model-index": [{"name": source.name, "results": results}]} if results else fields


# ------------------------------------------------------------------------------------------------------------ loading


def _without_loading(body: str) -> str:
    return re.sub(rf"{re.escape(BEGIN)}.*?{re.escape(END)}\n*", "", body, flags=re.DOTALL)


def _with_loading(body: str, section: str) -> str:
    """The text with the section in front of its first heading of the second rank, or at its end."""
    lines, is_code = body.splitlines(keepends=True), False
    for place, line in enumerate(lines):
        if line.startswith("```"):
            is_code = not is_code
        if line.startswith("## ") and not is_code:
            return "".join([*lines[:place], section, "\n", *lines[place:]])
    return body.rstrip("\n") + "\n\n" + section


def _loading(source: Source, folder: Path, tasks: Sequence[str], repo_id: str | None) -> str:
    """How to load the model from the Hub, pinned."""
    place = repo_id or f"OWNER/{source.name}"
    pinned = f'"{place}", revision=REVISION, trust_remote_code=True'
    loader = source.processor_class
    names = ["AutoModel", *([loader] if loader else []), *(["pipeline"] if tasks else [])]
    lines = [
        f"from transformers import {', '.join(names)}",
        "",
        f'REVISION = "{PLACE_OF_COMMIT}"  # put the commit here, see below',
        f"model = AutoModel.from_pretrained({pinned})",
    ]
    if loader:
        lines.append(f"processor = {loader}.from_pretrained({pinned})")
    if tasks:
        task = next(name for name in (RECONSTRUCTION_TASK, *tasks) if name in tasks)
        asked = ', language_model="A FOLDER OR A HUB ID"' if task in ASK_A_LANGUAGE_MODEL else ""
        made = f'run = pipeline("{task}", model={pinned}{asked})'
        lines += [made, *([CALLS[task]] if task in CALLS else [])]
    code = "\n".join(lines)
    come = f"Pipelines that come along: {', '.join(f'`{task}`' for task in tasks)}. " if tasks else ""
    installed = ""
    if _loads_what_is_installed(source):
        installed = (
            "Lines of this page that name no model use the one that ships with the package visual-sentence, which "
            f"`pip install visual-sentence=={_version()}` pins.\n\n"
        )
    return (
        f"{BEGIN}\n## Loading it from the Hub\n\n```python\n{code}\n```\n\n"
        f"{come}To be installed: {', '.join(_needed(source, folder))}. `trust_remote_code=True` runs the code of this "
        "repository: read it, and put the hash of the commit that you read, all of its 40 digits, into the place of "
        'REVISION (under "Files and versions", "History"), so that neither code nor weights can change under you.\n\n'
        f"{installed}{END}\n"
    )


def _loads_what_is_installed(source: Source) -> bool:
    """Whether the folder's own card has lines that load the model out of the package."""
    text = _own_text(source.folder / CARD) if source.has(CARD) else ""
    blocks = re.findall(r"```python\n(.*?)```", _without_loading(text), re.DOTALL)
    return any("visual_sentence" in block and "revision=" not in block for block in blocks)


def _needed(source: Source, folder: Path) -> list[str]:
    """Distributions that the code in a folder imports, at once or when this model is built."""
    modules = {module for path in folder.glob("*.py") for module in get_imports(path)} - set(sys.stdlib_module_names)
    told = str(source.config.to_dict())
    return sorted(
        {DISTRIBUTIONS.get(name, name) for name in modules | {BUILT_OF[sign] for sign in BUILT_OF if sign in told}}
    )


def _version() -> str:
    try:
        return version("visual-sentence")
    except PackageNotFoundError:
        return "VERSION"


# ---------------------------------------------------------------------------------------------------- what can be told


def _made_text(source: Source) -> str:
    """A card made of configuration, training report and measurements."""
    kind = KINDS[source.config.model_type][0]
    size = sum((source.folder / name).stat().st_size for name in source.weights)
    parts = [
        f"---\n{_dump(_metadata(source))}---\n\n# {source.name}: {_article(kind)} {kind}\n",
        f"{_described(source)} {source.values / 1e6:.2f} M numbers, {size / 1e6:.1f} MB of safetensors.\n",
        f"## Training\n\n{_trained(source.report)}\n",
        f"## Measured\n\n{_measured(source.measurements)}\n",
        f"## Citation\n\n{SOURCES[source.config.model_type]}; written with visual-sentence {_version()}.\n",
    ]
    return "\n".join(parts)


def _article(noun: str) -> str:
    return "an" if noun.startswith("LQ") else "a"


def _described(source: Source) -> str:
    """What a model makes of a picture, in a sentence or two."""
    config = source.config
    kind = config.model_type
    if kind == "vqgan":
        count, codes = config.image_seq_length, config.codebook_size
        return f"A picture of {config.image_size} pixels becomes {count:,} tokens of {codes:,} codes."
    if kind == "simlvm":
        text, tokens = config.text_config.model_type, config.tokens_per_image
        return (
            f"Shown pairs of pictures, it answers with another: a {text} language model over the {tokens:,} tokens "
            f"that its VQGAN makes of a picture of {config.vq_config.image_size} pixels, {config.codebook_size:,} "
            f"codes, {config.max_images} pictures a sentence."
        )
    if kind == "frozen-prefix":
        return (
            f"A picture becomes {config.num_prefix_tokens} embeddings of {config.hidden_size} values, which stand in "
            f"front of the words that the language model {_public(config.language_model)} reads."
        )
    if kind == "conse":
        return f"A picture becomes an embedding of {config.embedding_dim} values, a mixture of its labels'."
    told = []
    if config.local_codebook_size is not None:
        told.append(
            f"A picture of {config.image_size} pixels becomes {config.image_seq_length:,} local tokens of "
            f"{config.local_codebook_size:,} words."
        )
    if config.encoder_type is not None:
        told.append(
            f"Up to {config.num_global_tokens} of {config.num_words:,} words say what a whole picture shows, found by "
            f"the image tower of {_public(config.encoder_name)}."
        )
    return " ".join([*told, f"The words are those of the language model {_public(config.language_model)}."])


def _public(name: str | None) -> str:
    """A reference without the folders of this machine around it."""
    if name is None:
        return "(not named)"
    return Path(name).name if Path(name).is_absolute() or name.startswith(("~", ".")) else name


def _trained(report: dict[str, Any] | None) -> str:
    """How a model was trained, as far as its report says."""
    if report is None:
        return "Nothing is recorded."
    settings = report.get("config") or report.get("settings") or {}
    seen = next(((name, report[f"{name}_seen"]) for name in ("images", "tokens") if f"{name}_seen" in report), None)
    rows = {
        "steps": report.get("steps"),
        f"{seen[0]} seen" if seen else "seen": seen and seen[1],
        "seconds": report.get("seconds") and round(report["seconds"]),
        "processes": report.get("processes"),
        "device": report.get("device"),
        "trained numbers": report.get("trainable_parameters"),
        "preset": settings.get("preset"),
        "learning rate": settings.get("learning_rate"),
        "batch size": settings.get("batch_size"),
        "perceptual measure": report.get("perceptual"),
        "loss at the end": (report.get("terms") or {}).get("loss", report.get("last_loss")),
        "versions": ", ".join(f"{name} {number}" for name, number in (report.get("versions") or {}).items()),
    }
    for data in report.get("data") or ():
        rows[f"data: {_data_name(str(data.get('name')))}"] = data.get("count")
    cells = {name: _cell(value) for name, value in rows.items() if value not in (None, "")}
    ended = "" if report.get("stopped_by") in (None, "steps") else " The run was stopped before its last step."
    return _table(("", "of the run"), [cells.items()]) + (f"\n\n{ended.strip()}" if ended else "")


def _data_name(name: str) -> str:
    """What data is called, without the folders of this machine around it."""
    return " + ".join(_public(part) if "/" in part and part.count("/") != 1 else part for part in name.split(" + "))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _table(head: Sequence[str], groups: Iterable[Iterable[Sequence[str]]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for rows in groups for row in rows)])


def _measured(measurements: Sequence[dict[str, Any]]) -> str:
    """What was measured, a table for each measurement."""
    told = []
    for one in measurements:
        for title, numbers in _numbers(one):
            rows = [(name.replace("_", " "), _shown(name, value)) for name, value in numbers.items()]
            told.append(f"{title}:\n\n{_table(('measure', 'value'), [rows])}")
    return "\n\n".join(told) or "Nothing is recorded."


def _shown(name: str, value: Any) -> str:
    return f"{value:.{MEASURES[name]}f}" if name in MEASURES else _cell(value)


def _numbers(measurement: dict[str, Any]) -> Iterable[tuple[str, dict[str, float]]]:
    """What was measured on what, and the numbers: of `evaluate reconstruction`, or of `evaluate completion`."""
    if "results" in measurement and isinstance(measurement.get("setting"), dict):
        data, task = _data_name(str(measurement["setting"].get("data"))), measurement.get("task", "completion")
        for row in measurement["results"]:
            kept = {name: row[name] for name in MEASURES if isinstance(row.get(name), (int, float))}
            yield f"{task}, {data}, behind {row.get('pairs')} pairs", kept
        return
    kept = {
        name: value
        for name, value in measurement.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name != "seconds_per_image"
    }
    yield f"reconstruction, {_data_name(str(measurement.get('data')))}", kept


def _results(measurement: dict[str, Any]) -> Iterable[dict[str, Any]]:
    """Measurements as the Hub's metadata wants them."""
    for title, numbers in _numbers(measurement):
        data = title.partition(", ")[2]
        metrics = [
            {"type": name, "value": round(float(numbers[name]), digits), "name": name.upper() if digits == 2 else name}
            for name, digits in MEASURES.items()
            if name in numbers
        ]
        if metrics:
            kind = re.sub(r"\W+", "-", data.partition(", behind")[0]).strip("-").lower() or "pictures"
            described = {"task": {"type": "image-to-image", "name": title}, "dataset": {"type": kind, "name": data}}
            yield {**described, "metrics": metrics}


__all__ = ["linked_files", "write_card"]
