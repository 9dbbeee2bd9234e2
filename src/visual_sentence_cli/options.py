"""Options that several commands share, described once."""

from pathlib import Path
from typing import Annotated

import typer

# The library's own, which is not imported here: it would load torch before it must.
BEST_SCORING = "domain-calibrated"

Model = Annotated[str, typer.Option(help="V2L model: 'offline', a folder or a Hub id.")]
LanguageModelOption = Annotated[
    str | None,
    typer.Option(
        "--llm",
        help="Language model: 'offline', a folder, a Hub id or a server (http://host:port/v1, tgi+http://host:port); "
        "by default the model's own.",
    ),
]
Words = Annotated[int | None, typer.Option("--words", min=1, help="Words per image (the paper's 5 or 21).")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Name and leave out unreadable pictures.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Images = Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Pictures.", show_default=False)]
Device = Annotated[str | None, typer.Option(help="'cpu', 'cuda', ...; the first accelerator by default.")]
Dtype = Annotated[str, typer.Option(help="Of the language model: auto, float32, bfloat16 or float16.")]
Scoring = Annotated[
    str,
    typer.Option(
        help="How the answer is read: domain-calibrated, calibrated, likelihood, trie, exact-match, prefix-match or "
        "position-mask."
    ),
]
PromptStyle = Annotated[str, typer.Option("--prompt", help="plain, paper or published-code.")]
Induction = Annotated[bool, typer.Option("--induction/--no-induction", help="Whether the prompt names the classes.")]
Repetitions = Annotated[int, typer.Option(min=0, help="How many more times the examples are shown (0, 1, 3, 5).")]
Codec = Annotated[
    str,
    typer.Option(
        "--model",
        help="V2L model with a local half, VQGAN or SimLVM: a folder, a Hub id, or 'default' (v2l-small).",
    ),
]
CodecDtype = Annotated[str, typer.Option("--dtype", help="float32, bfloat16 or float16.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Pictures per forward pass.")]
Seed = Annotated[int, typer.Option(help="Of everything random.")]
CaptionExamples = Annotated[
    str,
    typer.Option(
        "--examples",
        help="Captioned pictures: a folder with metadata.jsonl, Parquet files, a saved data set or a Hub id.",
        show_default=False,
    ),
]
AnswerExamples = Annotated[
    str,
    typer.Option(
        "--examples",
        help="Answered questions about pictures: a folder with metadata.jsonl, Parquet files, a saved data set or a "
        "Hub id.",
        show_default=False,
    ),
]
NumExamples = Annotated[int, typer.Option("--num-examples", min=1, help="Examples before each picture.")]
Choose = Annotated[str, typer.Option(help="Examples: random (drawn once) or nearest (of each picture).")]
ManyWords = Annotated[int, typer.Option("--words", min=1, help="Words per image (the paper's 21).")]
SentencePrompt = Annotated[str, typer.Option("--prompt", help="plain or paper.")]
MaxNewTokens = Annotated[
    int | None,
    typer.Option("--max-new-tokens", min=1, help="The most tokens of a text; by default 40, of an answer 12."),
]
Split = Annotated[str, typer.Option(help="Split of a data set that has several.")]
ImageColumn = Annotated[str | None, typer.Option(help="Column of the pictures; the first one by default.")]
CaptionColumn = Annotated[str | None, typer.Option(help="Column of the captions: caption, captions or text.")]
QuestionColumn = Annotated[str | None, typer.Option(help="Column of the questions: question.")]
AnswerColumn = Annotated[str | None, typer.Option(help="Column of the answers: answer or answers.")]
ShuffleWords = Annotated[bool, typer.Option("--shuffle-words", help="Control: write from another picture's words.")]
LocalModel = Annotated[
    str,
    typer.Option(
        "--model", help="V2L model with a local half: a folder, a Hub id, or 'default' for v2l-small, which ships."
    ),
]
Adapter = Annotated[
    str | None,
    typer.Option(help="Adapter of scripts/finetune_lm_lora.py; not with a language model that it was merged into."),
]
GlobalModel = Annotated[
    str | None,
    typer.Option(help="V2L model that finds the global words: 'offline', a folder or a Hub id; by default --model."),
]
MaskRatio = Annotated[float, typer.Option(help="Share of a picture's tokens that is masked at random.")]
Pictures = Annotated[
    str,
    typer.Option(
        "--data",
        help="Pictures: Parquet files, a folder, a saved data set or a Hub id, perhaps with [start:stop:step].",
        show_default=False,
    ),
]
Limit = Annotated[int | None, typer.Option(min=1, help="Only the first so many pictures.")]
Video = Annotated[Path, typer.Argument(metavar="VIDEO", help="A video, or an animated GIF.", show_default=False)]
VideoOutput = Annotated[Path, typer.Option("--output", "-o", help="A new folder for the results.", show_default=False)]
FrameStride = Annotated[int, typer.Option(min=1, help="Of stride: from one frame to the next (LVM's 8).")]
FramesPerShot = Annotated[int, typer.Option(min=1, help="Of shots: frames of each, evenly spread.")]
StartTime = Annotated[float, typer.Option(min=0, help="Seconds: only frames from there on.")]
ShotDetector = Annotated[str, typer.Option(help="PySceneDetect's adaptive or content.")]
ShotThreshold = Annotated[
    float | None, typer.Option(help="From which change on there is a cut; 3 for adaptive, 27 for content.")
]
MinShot = Annotated[float, typer.Option(min=0, help="Seconds of the shortest shot.")]
MaxSide = Annotated[int, typer.Option(min=16, help="Pixels of a frame's longer side, at most.")]
