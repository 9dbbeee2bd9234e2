"""How good captions and answers are, beside numbers that keep them honest.

Captions stand beside the caption of the nearest picture, which needs no language model; answers beside the most
frequent answer, which needs no picture; and both can be written from other pictures' words.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any

from PIL import Image

from ..completion import CompletionModel
from ..errors import UserError
from ..metrics.answers import vqa_scores
from ..metrics.captions import bleu, check_installed, cider, rouge
from ..progress import progress_bar
from ..words import WordFinder
from .pictures import InContextSetting, PictureAnswer, PictureCaption, write_answers, write_captions
from .prompts import AnswerPrompt, CaptionPrompt
from .selection import SeenPicture, see
from .tables import PictureRow, PictureRows
from .writer import InContextWriter

# Pictures whose texts are written between two steps of the progress bar.
PICTURES_A_STEP = 16


@dataclass(frozen=True)
class Evaluation:
    """What was measured.

    Args:
        results: The numbers.
        texts: One record a picture or question: its row, words, what was written, the references.
        skipped: One line for each row that was left out.
    """

    results: dict[str, Any]
    texts: list[dict[str, Any]]
    skipped: list[str]

    def as_dict(self) -> dict[str, Any]:
        """What was measured, as it is printed."""
        return asdict(self)


@dataclass(frozen=True)
class _Query:
    """A row in question.

    Args:
        row: The row; its texts are the references.
        seen: What is shown of its picture.
        digest: Of the row's own picture, also where another one's words are shown.
    """

    row: PictureRow
    seen: SeenPicture
    digest: str


def evaluate_captioning(
    finder: WordFinder,
    language_model: CompletionModel,
    data: PictureRows,
    examples: PictureRows,
    setting: InContextSetting,
    shuffle_words: bool = False,
    skip_bad: bool = False,
) -> Evaluation:
    """Writes a caption for every picture and compares it with the picture's own captions.

    Rows with the same picture are one picture with the captions of all. No picture is an example of itself, so data
    and examples may be one table (leave one out).

    Args:
        finder: The V2L model.
        language_model: The frozen language model.
        data: Pictures with their captions.
        examples: The pool of examples.
        setting: Words, examples, prompt.
        shuffle_words: Control: every caption is written from another picture's words.
        skip_bad: Whether pictures that cannot be read are left out instead of ending it.

    Returns:
        Results: `bleu1` to `bleu4`, `rouge1`, `rouge2`, `rougeL` in [0, 1], `cider` in [0, 10] (None for one picture),
        `n` pictures, `copied` captions of an example shown, `empty` ones, `distinct` ones, `seconds_per_picture`
        (language model only), and `nearest_caption`: the same measures for the first caption of the nearest picture
        among the examples.

    Raises:
        UserError: If a measure's library is not installed, there are no two pictures to shuffle, examples are missing,
            or a picture cannot be read.
    """
    check_installed()  # before anything is written, which may take hours
    queries = _one_a_picture(list(_see_rows(finder, data, setting.num_words, skip_bad)))
    own = queries
    if shuffle_words:
        queries = _shuffled(queries, setting.seed)
    pool = setting.pool(examples, finder, skip_bad=skip_bad)
    writer, prompt = InContextWriter(language_model, setting.max_new_tokens), CaptionPrompt(setting.style)

    chosen = [pool.examples_for(query.seen, {query.digest}) for query in queries]

    def write(part: slice) -> list[PictureCaption]:
        return write_captions([query.seen for query in queries[part]], chosen[part], writer, prompt)

    written, seconds = _in_steps(len(queries), write, "writing captions")
    nearest = [pool.nearest(query.seen).row.texts[0] for query in own]
    references = [query.row.texts for query in queries]
    results = {
        **_caption_results(written, references),
        "seconds_per_picture": seconds / len(written),
        "nearest_caption": _caption_scores(nearest, references),
    }
    texts = [
        {
            "row": query.row.name,
            **asdict(caption),
            "nearest_caption": other,
            "references": query.row.texts,
        }
        for query, caption, other in zip(queries, written, nearest, strict=True)
    ]
    return Evaluation(results, texts, _lines(data, examples))


def evaluate_answers(
    finder: WordFinder,
    language_model: CompletionModel,
    data: PictureRows,
    examples: PictureRows,
    setting: InContextSetting,
    shuffle_words: bool = False,
    skip_bad: bool = False,
) -> Evaluation:
    """Answers every question and compares the answer with the reference answers.

    No picture is an example of itself, whatever is asked about it, so data and examples may be one table.

    Args:
        finder: The V2L model.
        language_model: The frozen language model.
        data: Pictures with questions and answers.
        examples: The pool of examples.
        setting: Words, examples, prompt.
        shuffle_words: Control: every question is answered from another picture's words.
        skip_bad: Whether pictures that cannot be read are left out instead of ending it.

    Returns:
        Results: `exact_match` in [0, 1] (the normalised answer is one of the normalised references), `vqa_accuracy` in
        [0, 1] over the `n_ten` questions with ten references (None where there is none), `n` questions, `empty`
        answers, `seconds_per_question` (language model only), and `most_frequent_answer`: the same measures where the
        most frequent answer of the examples is always given.

    Raises:
        UserError: As `evaluate_captioning`.
    """
    queries = list(_see_rows(finder, data, setting.num_words, skip_bad))
    if shuffle_words:
        queries = _shuffled(queries, setting.seed)
    pool = setting.pool(examples, finder, skip_bad=skip_bad)
    writer, prompt = InContextWriter(language_model, setting.max_new_tokens), AnswerPrompt(setting.style)

    chosen = [pool.examples_for(query.seen, {query.digest}) for query in queries]

    def write(part: slice) -> list[PictureAnswer]:
        questions = [query.row.question or "" for query in queries[part]]
        return write_answers([query.seen for query in queries[part]], questions, chosen[part], writer, prompt)

    written, seconds = _in_steps(len(queries), write, "answering questions")
    references = [query.row.texts for query in queries]
    ((frequent, _),) = Counter(row.texts[0] for row in examples.rows).most_common(1)
    results = {
        **_answer_scores([answer.answer for answer in written], references),
        "n": len(written),
        "empty": sum(not answer.answer for answer in written),
        "seconds_per_question": seconds / len(written),
        "most_frequent_answer": {"answer": frequent, **_answer_scores([frequent] * len(written), references)},
    }
    texts = [
        {"row": query.row.name, "question": query.row.question, **asdict(answer), "references": query.row.texts}
        for query, answer in zip(queries, written, strict=True)
    ]
    return Evaluation(results, texts, _lines(data, examples))


def _see_rows(finder: WordFinder, data: PictureRows, num_words: int | None, skip_bad: bool) -> Iterator[_Query]:
    """Looks at every row's picture; lines about those that cannot be read are added to the table's problems."""
    readable: list[PictureRow] = []

    def pictures() -> Iterator[Image.Image]:
        for row in data.rows:
            try:
                picture = row.open()
            except UserError as error:
                if not skip_bad:
                    raise
                data.problems.append(str(error))
                continue
            readable.append(row)
            yield picture

    for place, seen in enumerate(see(finder, pictures(), num_words, total=len(data))):
        yield _Query(readable[place], seen, seen.digest)
    if not readable:
        raise UserError(f"No picture of {data.name} can be read; the first: {data.problems[0]}")


def _one_a_picture(queries: Sequence[_Query]) -> list[_Query]:
    """Joins the rows of one picture: the first one's name, the captions of all."""
    joined: dict[str, _Query] = {}
    for query in queries:
        first = joined.get(query.digest)
        if first is not None:
            query = replace(query, row=replace(first.row, texts=(*first.row.texts, *query.row.texts)))
        joined[query.digest] = query
    return list(joined.values())


def _shuffled(queries: Sequence[_Query], seed: int) -> list[_Query]:
    """Gives every row what was seen of another picture."""
    pictures = {query.digest: query.seen for query in queries}
    if len(pictures) < 2:
        raise UserError("Words can be shuffled among at least 2 different pictures: give more.")
    order = list(pictures)
    Random(seed).shuffle(order)
    donors = dict(zip(order, [*order[1:], *order[:1]], strict=True))
    return [replace(query, seen=pictures[donors[query.digest]]) for query in queries]


def _in_steps(count: int, write: Callable[[slice], list], label: str) -> tuple[list, float]:
    """What is written for all pictures, some at a time, and the seconds that it took."""
    written, start = [], time.perf_counter()
    with progress_bar(label, total=count) as bar:
        for begin in range(0, count, PICTURES_A_STEP):
            part = write(slice(begin, begin + PICTURES_A_STEP))
            written += part
            bar.advance(len(part))
    return written, time.perf_counter() - start


def _caption_results(written: Sequence[PictureCaption], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """How near captions are to their references, and what kind of captions they are."""
    return {
        **_caption_scores([caption.text for caption in written], references),
        "n": len(written),
        "copied": sum(caption.copied for caption in written),
        "empty": sum(not caption.text for caption in written),
        "distinct": len({caption.text for caption in written}),
    }


def _caption_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float | None]:
    by_caption = rouge(texts, references)
    means = {kind: sum(row[kind] for row in by_caption) / len(texts) for kind in by_caption[0]}
    consensus = sum(cider(texts, references)) / len(texts) if len(texts) > 1 else None
    return {**bleu(texts, references), **means, "cider": consensus}


def _answer_scores(texts: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    rows = vqa_scores(texts, references)
    of_ten = [row["vqa_accuracy"] for row in rows if row["vqa_accuracy"] is not None]
    return {
        "exact_match": sum(row["exact_match"] or 0.0 for row in rows) / len(rows),
        "vqa_accuracy": sum(of_ten) / len(of_ten) if of_ten else None,
        "n_ten": len(of_ten),
    }


def _lines(data: PictureRows, examples: PictureRows) -> list[str]:
    """What was left out of data and examples; rows of a table that is both are named once."""
    return list(dict.fromkeys([*data.problems, *examples.problems]))
