"""SimLVM's table 1: Dice of segmentation in context, by language model and by codebook."""

from typing import Any

from ..data import parse_task_data
from ..errors import UserError
from ..sentence_completion import CompletionSetting, evaluate_completion
from ..sentence_completion.evaluation import Completer
from ..sentence_completion.seggpt import load_completer
from .cells import cell
from .context import Context
from .sentences import CODES, LARGEST, MEASURED_SHAPES, OTHER_SEED, PAIRS, SEED, SentenceModels
from .tables import Column, Experiment, Ordering, Row, Table
from .workspace import NotRunnableError

# Where the paper's claims are read: its own data, and what stands in for it.
CLAIMED = ("shapes", "road", "sa1b")
SMALLER = CODES[1:]
# The paper's Dice in percent, by codebook.
OF_300M = {8192: 61.25, 4096: 23.79, 2048: 24.80, 1024: 21.70}


def _paper(dice: float) -> dict[str, float]:
    return {"sa1b": dice}  # the one data set that its table is about


TABLE = Table(
    name="simlvm-table1",
    title="Segmentation in context by language model and codebook",
    source="SimLVM, table 1",
    columns=(
        Column(
            "shapes",
            "Dice, shapes",
            "Dice of unseen drawn shapes, for which the paper has no number",
            1,
            unit="%",
            is_same_measure=True,
        ),
        Column(
            "road",
            "Dice, roads",
            "Dice of roads in CamVid's test split, for which the paper has no number",
            1,
            unit="%",
            is_same_measure=True,
            data=("road-train", "road-test"),
        ),
        Column(
            "sa1b",
            "Dice, SA-1B",
            "Dice of all that has a mask in SA-1B, the paper's data",
            1,
            unit="%",
            is_same_measure=True,
            data=("sa1b",),
        ),
        Column(
            "monuseg",
            "Dice, MoNuSeg",
            "Dice of nuclei in MoNuSeg, of which the paper shows a failure and has no number",
            1,
            unit="%",
            is_same_measure=True,
            data=("monuseg-train", "monuseg-test"),
        ),
    ),
    rows=(
        Row("lvm-7b", "LVM 7B as published", _paper(31.01), "LVM 7B, 8192 codes"),
        Row("simlvm-1b", "1B, 8192 codes", _paper(50.79), "1B"),
        Row("simlvm-8192", "300M, 8192 codes", _paper(61.25), "300M"),
        *(Row(f"simlvm-{codes}", f"300M, {codes} codes", _paper(OF_300M[codes]), "300M") for codes in SMALLER),
        *(
            Row(f"mismatched-{codes}", f"300M of 8192 kept, tokens of another tokenizer of {codes}")
            for codes in SMALLER
        ),
        *(
            Row(f"same-start-{codes}", f"300M of 8192 kept, tokens of a tokenizer of {codes} from the same start")
            for codes in SMALLER
        ),
        *(Row(f"reduced-{codes}", f"8192 codes put together to {codes}, nothing tuned") for codes in SMALLER),
        *(Row(f"tuned-{codes}", f"8192 codes put together to {codes}, briefly tuned") for codes in SMALLER),
        Row("delvm-300m", "DeLVM 300M as published"),
        Row("delvm-1b", "DeLVM 1B as published"),
        Row("seggpt", "SegGPT ViT-L as published"),
    ),
    orderings=(
        Ordering("simlvm-8192", "simlvm-1b", CLAIMED, "300M above 1B"),
        *(Ordering("simlvm-8192", f"simlvm-{codes}", CLAIMED, f"8192 codes above {codes}") for codes in SMALLER),
        *(
            Ordering(
                f"tuned-{codes}", f"mismatched-{codes}", CLAIMED, f"{codes} put together above another tokenizer's"
            )
            for codes in SMALLER
        ),
    ),
    note=(
        "In place of 300M and 1B stand language models of 3 and 5 layers, 256 and 384 wide, on 36 tokens an image of "
        "48 pixels, three pairs before a query. The paper does not say how its smaller codebooks came to be; the rows"
        " below its own show three ways. Its Dice is of sets of pixels, and of coloured answers it does not say which; "
        "here it is of black and white masks. Models that are trained here see neither SA-1B nor MoNuSeg in training."
    ),
)
PUBLISHED = {
    "lvm-7b": "the published weights, 13 GB in 16 bits, and a GPU: `visual-sentence convert lvm`",
    "delvm-300m": "the published weights: `visual-sentence convert delvm`",
    "delvm-1b": "the published weights: `visual-sentence convert delvm`",
    "seggpt": "the weights of BAAI/seggpt-vit-large",
}


def measure(context: Context, row: str) -> dict[str, Any]:
    """The cells of a row, one for each data set that was given."""
    models = SentenceModels(context.workspace, context.data, context.sizes)
    reference = _model(context, models, row)
    completer = load_completer(reference, context.device)
    found: dict[str, Any] = {}
    for task, spec in _queries(context, models).items():
        found[task] = _dice(context, completer, *spec)
    return found


def settings(context: Context, row: str) -> dict[str, Any]:
    """What a row's numbers depend on."""
    models = SentenceModels(context.workspace, context.data, context.sizes)
    sizes = context.sizes
    return {
        **models.described,
        "row": row,
        "test": context.data.described("road-test"),
        "model": context.models.get(row),
        "vqgan_steps": sizes.vqgan_steps,
        "sentence_steps": sizes.sentence_steps,
        "tuning_steps": sizes.tuning_steps if row.startswith("tuned") else 0,
        "pictures": sizes.sentence_pictures,
        "queries": sizes.queries,
        "prompt_sets": sizes.prompt_sets,
        "pairs": PAIRS,
        **({"tokenizer_seed": OTHER_SEED} if row.startswith("mismatched") else {}),
        **{name: context.data.described(name) for name in _papers_data(context)},
    }


def _papers_data(context: Context) -> list[str]:
    """Names of the paper's data that was given; a part alone counts for nothing."""
    columns = (column for column in TABLE.columns if column.key in ("sa1b", "monuseg"))
    return [name for column in columns if not context.data.missing(column.data) for name in column.data]


def _model(context: Context, models: SentenceModels, row: str) -> str:
    """The model of a row: given, or trained."""
    if row in context.models:
        return context.models[row]
    if row in PUBLISHED:
        raise NotRunnableError(f"needs {PUBLISHED[row]}, then --models {row}=FOLDER")
    context.require_training(row, "scripts/train_simlvm.py")
    if row == "simlvm-1b":
        return str(models.language_model(LARGEST, "1b"))
    kind, _, codes = row.rpartition("-")
    makers = {
        "simlvm": models.language_model,
        "mismatched": models.mismatched,
        "same-start": lambda count: models.mismatched(count, SEED),
        "reduced": lambda count: models.reduced(count, tuned=False),
        "tuned": lambda count: models.reduced(count, tuned=True),
    }
    return str(makers[kind](int(codes)))


def _queries(context: Context, models: SentenceModels) -> dict[str, tuple[str, str | None]]:
    """For each task whose data was given the queries, and the pairs where these are of other data."""
    end = MEASURED_SHAPES + max(context.sizes.queries, 8 * PAIRS)
    found: dict[str, tuple[str, str | None]] = {"shapes": (f"segmentation:shapes[{MEASURED_SHAPES}:{end}]", None)}
    if models.road is not None:
        train, test = models.road
        found["road"] = (f"segmentation:{test}?foreground=3", f"segmentation:{train}?foreground=3")
    given = {name: context.data[name] for name in _papers_data(context)}
    if "sa1b" in given:
        found["sa1b"] = (f"segmentation:{given['sa1b']}", None)
    if "monuseg-test" in given:
        found["monuseg"] = (f"segmentation:{given['monuseg-test']}", f"segmentation:{given['monuseg-train']}")
    return found


def _dice(context: Context, completer: Completer, queries: str, pairs: str | None) -> dict[str, Any]:
    setting = CompletionSetting((PAIRS,), context.sizes.queries, context.sizes.prompt_sets, SEED)
    shown = None if pairs is None else parse_task_data(pairs)
    found = evaluate_completion(completer, parse_task_data(queries), setting, shown, batch_size=16)
    (result,) = found["results"]
    if result["dice"] is None:
        raise UserError(f"{queries} has no masks to compare: give other data.")
    interval = result["ci95"]["dice"]
    return cell(
        100 * result["dice"],
        None if interval is None else [100 * end for end in interval],
        result["n"],
        references={name: 100 * row["dice"] for name, row in result["references"].items() if row["dice"] is not None},
        prompt_sets=context.sizes.prompt_sets,
    )


EXPERIMENTS = (Experiment(TABLE, settings, measure),)

__all__ = ["EXPERIMENTS"]
