"""Visual sentences: pairs, a query, the answer of the model that ships, and its worst answer."""

from pathlib import Path

from PIL import Image

from ..data import TaskData, make_task, parse_task_data
from ..sentence_completion import CompletionSetting, SentenceCompleter, evaluate_completion
from .results import SheetResult, sentence_result
from .tissue import NOTE, TissueSquares

# Shapes that no training saw: those of the shipped model are numbered below 20,000.
UNSEEN = "shapes[20000:20040]"
TASKS = {
    "segmentation": ("Segmentation", f"segmentation:{UNSEEN}"),
    "denoising": ("Denoising", f"denoising:{UNSEEN}?sigma=50"),
    "brightness": ("Brightness", f"brightness:{UNSEEN}?factor=0.4"),
    "colourisation": ("Colourisation", f"colourisation:{UNSEEN}"),
}
NUCLEI = ("nuclei", "Nuclei")
BOUND = "tokenizer"


def show_sentences(output: Path, model: str, section: Image.Image) -> tuple[SheetResult, ...]:
    """Asks a model for the answers of a few sentences of each task, measures them, and draws a sheet of each.

    Args:
        output: The folder of the sheets.
        model: SimLVM: "default" for the one that ships, a folder or a Hub id.
        section: A stained section, for the nuclei.

    Raises:
        UserError: If there is no such model or a sheet cannot be written.
    """
    completer, found = SentenceCompleter.load(model), []
    side = completer.processor.image_processor.local_size  # noise is of the resolution that the model sees
    setting = CompletionSetting(pairs=(3,), queries=8, prompt_sets=1, size=side)
    asked = [(name, title, parse_task_data(text), "") for name, (title, text) in TASKS.items()]
    nuclei = TaskData(make_task("segmentation"), TissueSquares(section), text="nuclei of a stained section")
    for name, title, data, note in (*asked, (*NUCLEI, nuclei, NOTE)):
        picture = f"sentences-{name}.png"
        measured = evaluate_completion(completer, data, setting, sheet=output / picture)
        found.append(sentence_result(title, picture, measured, BOUND, note))
    return tuple(found)
