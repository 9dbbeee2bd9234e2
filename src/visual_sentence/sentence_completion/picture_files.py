"""Completions of picture files: which are the pairs, and what is written for each query."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import UserError
from ..image_io import list_pictures, open_image
from ..progress import progress_bar
from ..reconstruction.drawing import draw_row
from ..reconstruction.files import name_results, writing
from .answers import AUTO, IMAGE, LABELS, MASK, Completion
from .completer import Question, SentenceCompleter
from .opening import refuse_video

# How the two pictures of a pair are told apart in one folder: NAME_img and NAME_label (DeLVM), NAME and NAME_target
# (SegGPT).
TARGET_ENDINGS = ("_label", "_target", "_mask")
INPUT_ENDINGS = ("_img", "_image", "_input", "")
FOLDERS = ("inputs", "targets")
# Of sheets: rows, and pixels of a picture's longer side.
MOST_ROWS, LARGEST_SHOWN = 16, 256

PairFiles = tuple[Path, Path]


@dataclass(frozen=True)
class CompletionFiles:
    """What is asked.

    Args:
        pairs: Files of solved pairs, (input, target).
        queries: Files to answer.
        frames: Instead of both, files that follow each other.
        num_images: Pictures to add to frames.
        output: "auto", "image", "mask" or "labels".
        palette: Colours of label maps; by default those of the targets.
        partial: File of an answer that is known in part; of a single query.
        known_rows: Which rows of tokens of it.
        generation: As for `SentenceCompleter.complete`.

    Raises:
        UserError: If these do not go together.
    """

    pairs: Sequence[PairFiles] = ()
    queries: Sequence[Path] = ()
    frames: Sequence[Path] = ()
    num_images: int = 1
    output: str = AUTO
    palette: Sequence[tuple[int, int, int]] | None = None
    partial: Path | None = None
    known_rows: tuple[int, ...] = ()
    generation: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.frames:
            if self.pairs or self.queries or self.partial or self.palette or self.output not in (AUTO, IMAGE):
                raise UserError(
                    "Frames are a sentence of their own and go on with pictures: leave pairs, queries, --partial, "
                    "--palette and --as out, or the frames."
                )
        elif not self.queries:
            raise UserError("There is no query: give the picture that the pairs' task is to be done on, by --query.")
        elif not self.pairs:
            raise UserError(
                "There is no pair, so nothing says what is to be done: give solved ones by --input and --target, or a "
                "folder of them by --pairs-from."
            )
        elif self.num_images != 1:
            raise UserError("A query has one answer; --images is of --frame: leave one of them out.")
        if self.partial and len(self.queries) > 1:
            raise UserError("A partial answer is of one query: give one --query, or leave --partial out.")
        for path in self.all_files:
            refuse_video(path)

    @property
    def all_files(self) -> list[Path]:
        """Every picture that is read."""
        return [
            *(path for pair in self.pairs for path in pair),
            *self.queries,
            *self.frames,
            *([self.partial] if self.partial else []),
        ]


def pair_files(inputs: Sequence[Path], targets: Sequence[Path], folder: Path | None = None) -> list[PairFiles]:
    """The pairs that a user named, those of the folder first.

    Args:
        inputs: Files of inputs.
        targets: Their targets, in the same order.
        folder: See `folder_pairs`.

    Raises:
        UserError: If there are not as many of both, or the folder has none.
    """
    if len(inputs) != len(targets):
        raise UserError(
            f"There are {len(inputs)} inputs and {len(targets)} targets of pairs, which belong together in order: give "
            "a --target behind each --input."
        )
    return [*(folder_pairs(folder) if folder else []), *zip(inputs, targets, strict=True)]


def folder_pairs(folder: Path) -> list[PairFiles]:
    """The pairs of a folder, in order of name.

    Args:
        folder: With the sub-folders `inputs` and `targets`, files of one stem belonging together; or with both kinds
            of files side by side: NAME_label, NAME_target or NAME_mask is the target of NAME_img, NAME_image,
            NAME_input or NAME.

    Raises:
        UserError: If a picture is without its partner, or there is no pair.
    """
    if all((folder / name).is_dir() for name in FOLDERS):
        inputs, targets = ({path.stem: path for path in list_pictures(folder / name)} for name in FOLDERS)
        if alone := sorted(inputs.keys() ^ targets.keys()):
            has, lacks = FOLDERS if alone[0] in inputs else FOLDERS[::-1]
            raise UserError(f"{folder}: {alone[0]!r} is in {has} but not in {lacks}: give both files one name.")
        return [(inputs[stem], targets[stem]) for stem in sorted(inputs)]
    stems = {path.stem: path for path in list_pictures(folder)}
    pairs, used = [], set()
    for stem, target in stems.items():
        ending = next((ending for ending in TARGET_ENDINGS if stem.endswith(ending)), None)
        if ending is None:
            continue
        name = stem.removesuffix(ending)
        partner = next((name + other for other in INPUT_ENDINGS if name + other in stems), None)
        if partner is None:
            raise UserError(f"{target} is a target without its input {name}_img: put it there, or leave both out.")
        pairs.append((stems[partner], target))
        used |= {stem, partner}
    if not pairs:
        raise UserError(
            f"{folder} holds no pairs: make two folders inputs/ and targets/ in it, or name the files NAME_img and "
            "NAME_label."
        )
    if alone := sorted(stems.keys() - used):
        raise UserError(f"{stems[alone[0]]} is an input without its target {alone[0]}_label: add it, or move it away.")
    return sorted(pairs)


def expand(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, of folders all pictures."""
    return [file for path in paths for file in (list_pictures(path) if path.is_dir() else [path])]


def parse_rows(text: str) -> tuple[int, ...]:
    """Numbers of rows such as "0-3" or "0,2,5-7".

    Raises:
        UserError: If it is nothing of that kind.
    """
    rows: set[int] = set()
    for part in text.split(","):
        first, _, last = part.strip().partition("-")
        if not first.isdecimal() or (last and not last.isdecimal()) or (last and int(last) < int(first)):
            raise UserError(f"{part!r} names no rows of tokens: give numbers from 0 such as 0-3 or 0,2,5.")
        rows |= set(range(int(first), int(last or first) + 1))
    return tuple(sorted(rows))


def parse_palette(text: str) -> list[tuple[int, int, int]]:
    """Colours such as "000000,ff0000".

    Raises:
        UserError: If one is none.
    """
    colours = []
    for part in text.split(","):
        digits = part.strip().removeprefix("#")
        try:
            red, green, blue = bytes.fromhex(digits)
        except ValueError:
            raise UserError(f"{part!r} is no colour: write RRGGBB in hexadecimal, such as 000000,ff0000.") from None
        colours.append((red, green, blue))
    return colours


def complete_files(
    completer: SentenceCompleter, asked: CompletionFiles, output: Path, sheet: Path | None = None, batch_size: int = 16
) -> Iterator[dict[str, Any]]:
    """Completes sentences of picture files and writes the answers; each file appears whole or not at all.

    Args:
        completer: The model.
        asked: What is asked.
        output: For one answer a file (by its suffix), else a folder: NAME.answer.png as in `name_results`. Masks are
            black and white, label maps have the class as palette index.
        sheet: A PNG of pairs, query and answer in a row, for the first 16 queries.
        batch_size: Queries that are answered together.

    Yields:
        For each answer: `query` (of frames the last one), `answer`, the file; `kind`, "image", "mask" or "labels";
        `palette`; `log_likelihood`.

    Raises:
        UserError: If a file cannot be read or written, or as `SentenceCompleter.complete`.
    """
    answered = [asked.frames[-1]] * asked.num_images if asked.frames else asked.queries
    places = plan_answers(asked, answered, output)
    rows: list[list[tuple[str, Image.Image]]] = []
    with progress_bar("completing", len(answered)) as bar:
        for number, (shown, query, answer) in enumerate(_answers(completer, asked, batch_size)):
            save_answer(answer, places[number])
            if sheet is not None and len(rows) < MOST_ROWS:
                rows.append(_sentence_row(shown, query, answer))
            yield {
                "query": str(answered[number]),
                "answer": str(places[number]),
                "kind": MASK if answer.mask is not None else LABELS if answer.label_map is not None else IMAGE,
                "palette": None if answer.label_map is None else [list(colour) for colour in answer.palette or ()],
                "log_likelihood": answer.log_likelihood,
            }
            bar.advance(1)
    if sheet is not None:
        with writing(sheet) as aside:
            _stack(rows).save(aside, format="PNG")


def plan_answers(asked: CompletionFiles, answered: Sequence[Path], output: Path) -> list[Path]:
    """The file of each answer.

    Args:
        asked: What is asked.
        answered: The query of each answer.
        output: A file or a folder.

    Raises:
        UserError: If one file is to hold several answers, or would replace what is read.
    """
    if output.suffix.lower() == ".png" and not output.is_dir():
        if len(answered) > 1:
            raise UserError(f"{output} is one file, but there are {len(answered)} answers: give a folder as --output.")
        if any(path.resolve() == output.resolve() for path in asked.all_files):
            raise UserError(f"{output} is read itself, so the answer would replace it: give another --output.")
        return [output]
    if output.suffix.lower() in Image.registered_extensions() and not output.is_dir():
        raise UserError(f"{output} is no PNG, and others would blur masks and label maps: give a name with .png.")
    return [place for (place,) in name_results(answered, output, ("answer.png",))]


def save_answer(answer: Completion, file: Path) -> None:
    """Writes an answer as PNG.

    Args:
        answer: A label map is written with its palette, a mask as 0 and 255.
        file: The file; its folder is made.

    Raises:
        UserError: If it cannot be written.
    """
    picture = answer.painted
    if answer.label_map is not None:
        picture = Image.fromarray(answer.label_map.astype(np.uint8)).convert("P")
        picture.putpalette([value for colour in answer.palette or () for value in colour])
    with writing(file) as aside:
        picture.save(aside, format="PNG")


def _answers(
    completer: SentenceCompleter, asked: CompletionFiles, batch_size: int
) -> Iterator[tuple[list[tuple[str, Image.Image]], Image.Image | None, Completion]]:
    """What stands before each answer, its query, and the answer."""
    if asked.frames:
        frames = [open_image(path) for path in asked.frames]
        shown = [(f"frame {place}", frame) for place, frame in enumerate(frames, start=1)]
        for answer in completer.go_on([frames], asked.num_images, **asked.generation)[0]:
            yield shown, None, answer
        return
    pairs = [(open_image(one), open_image(two)) for one, two in asked.pairs]
    partial = open_image(asked.partial) if asked.partial else None
    shown = [
        (f"{kind} {place}", picture)
        for place, pair in enumerate(pairs, start=1)
        for kind, picture in zip(("input", "target"), pair, strict=True)
    ]
    for start in range(0, len(asked.queries), batch_size):
        queries = [open_image(path) for path in asked.queries[start : start + batch_size]]
        questions = [Question(pairs, query, partial, asked.known_rows) for query in queries]
        found = completer.complete(questions, batch_size, asked.output, asked.palette, **asked.generation)
        for query, answer in zip(queries, found, strict=True):
            yield shown, query, answer


def _sentence_row(
    shown: Sequence[tuple[str, Image.Image]], query: Image.Image | None, answer: Completion
) -> list[tuple[str, Image.Image]]:
    panels = [*shown, *([] if query is None else [("query", query)]), ("answer", answer.painted.convert("RGB"))]
    scale = min(1.0, LARGEST_SHOWN / max(answer.image.size))
    width, height = (max(1, round(side * scale)) for side in answer.image.size)
    return [(caption, picture.resize((width, height))) for caption, picture in panels]


def _stack(rows: Sequence[Sequence[tuple[str, Image.Image]]]) -> Image.Image:
    """The rows of a sheet beneath each other."""
    drawn = [draw_row(row) for row in rows]
    canvas = Image.new("RGB", (max(row.width for row in drawn), sum(row.height for row in drawn)), "white")
    top = 0
    for row in drawn:
        canvas.paste(row, (0, top))
        top += row.height
    return canvas
