"""Visual sentences of drawn shapes: pairs, a query, the answer of the model that ships, and its worst answer."""

from pathlib import Path

from ..data import parse_task_data
from ..sentence_completion import CompletionSetting, SentenceCompleter, evaluate_completion
from .results import SentenceResult, sentence_result

# Shapes that no training saw: those of the shipped model are numbered below 20,000.
UNSEEN = "shapes[20000:20040]"
TASKS = {
    "segmentation": ("Segmentation", f"segmentation:{UNSEEN}"),
    "denoising": ("Denoising", f"denoising:{UNSEEN}?sigma=50"),
    "brightness": ("Brightness", f"brightness:{UNSEEN}?factor=0.4"),
    "colourisation": ("Colourisation", f"colourisation:{UNSEEN}"),
}
# The mean of what the model expects over a few draws is nearer to the truth than its likeliest answer.
GENERATION = {"do_sample": True, "num_candidates": 4, "seed": 0, "average": True}
BOUND = "tokenizer"


def show_sentences(output: Path, model: str) -> tuple[SentenceResult, ...]:
    """Asks a model for the answers of a few sentences of each task, measures them, and draws a sheet of each.

    Args:
        output: The folder of the sheets.
        model: SimLVM: "default" for the one that ships, a folder or a Hub id.

    Raises:
        UserError: If there is no such model or a sheet cannot be written.
    """
    completer, found = SentenceCompleter.load(model), []
    side = completer.processor.image_processor.local_size  # noise is of the resolution that the model sees
    setting = CompletionSetting(pairs=(3,), queries=8, prompt_sets=1, size=side)
    for name, (title, text) in TASKS.items():
        picture = f"sentences-{name}.png"
        data = parse_task_data(text)
        measured = evaluate_completion(completer, data, setting, generation=GENERATION, sheet=output / picture)
        found.append(sentence_result(title, picture, measured, BOUND))
    return tuple(found)
