"""`visual-sentence answer`: a question about pictures, answered in the manner of answered questions."""

import json
from dataclasses import asdict
from typing import Annotated

import typer

from . import evaluate, options


def answer(
    images: options.Images,
    question: Annotated[str, typer.Option(help="What is asked about every picture.", show_default=False)],
    examples: options.AnswerExamples,
    num_examples: options.NumExamples = 10,
    choose: options.Choose = "random",
    seed: options.Seed = 0,
    words: options.ManyWords = 21,
    prompt: options.SentencePrompt = "plain",
    model: options.Model = "offline",
    llm: options.LanguageModelOption = None,
    max_new_tokens: options.MaxNewTokens = None,
    split: options.Split = "train",
    image_column: options.ImageColumn = None,
    question_column: options.QuestionColumn = None,
    answer_column: options.AnswerColumn = None,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Answer a question about pictures by a frozen language model that is shown answered questions."""
    from visual_sentence.image_io import check_images

    checked = check_images(images, skip_bad)

    from visual_sentence.captioning import Columns, InContextSetting, read_answers
    from visual_sentence.captioning import answer as write
    from visual_sentence.captioning.pictures import load_models

    setting = InContextSetting(words, num_examples, choose, seed, prompt, max_new_tokens)
    columns = Columns(image=image_column, question=question_column, answer=answer_column)
    rows = read_answers(examples, split, columns, skip_bad)
    finder, language_model = load_models(model, llm, dtype, device)
    answers = write(checked.paths, question, rows, finder, language_model, setting, skip_bad=skip_bad)
    skipped = checked.problems + rows.problems
    for problem in skipped:
        typer.echo(f"skipped: {problem}", err=True)
    found = [{"image": str(path), **asdict(found)} for path, found in zip(checked.paths, answers, strict=True)]
    if as_json:
        record = {"model": model, "llm": language_model.name, "setting": setting.as_dict(), "question": question}
        record |= {"images": found, "skipped": skipped}
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    for row in found:
        typer.echo(f"{row['image']}: {row['answer'] or '(nothing was written)'}")


@evaluate.app.command("question-answering")
def evaluate_question_answering(
    data: Annotated[
        str,
        typer.Option(help="Questions with reference answers, in any form that --examples takes.", show_default=False),
    ],
    examples: options.AnswerExamples,
    num_examples: options.NumExamples = 10,
    choose: options.Choose = "random",
    seed: options.Seed = 0,
    words: options.ManyWords = 21,
    prompt: options.SentencePrompt = "plain",
    model: options.Model = "offline",
    llm: options.LanguageModelOption = None,
    max_new_tokens: options.MaxNewTokens = None,
    shuffle_words: options.ShuffleWords = False,
    split: Annotated[str, typer.Option(help="Split of --data that is measured.")] = "train",
    examples_split: Annotated[str, typer.Option(help="Split of --examples.")] = "train",
    image_column: options.ImageColumn = None,
    question_column: options.QuestionColumn = None,
    answer_column: options.AnswerColumn = None,
    skip_bad: options.SkipBad = False,
    as_json: options.Json = False,
    device: options.Device = None,
    dtype: options.Dtype = "auto",
) -> None:
    """Exact match and VQA accuracy of answers given in context, beside the most frequent answer."""
    from visual_sentence.captioning import Columns, InContextSetting, read_answers
    from visual_sentence.captioning.evaluation import evaluate_answers
    from visual_sentence.captioning.pictures import load_models

    setting = InContextSetting(words, num_examples, choose, seed, prompt, max_new_tokens)
    columns = Columns(image=image_column, question=question_column, answer=answer_column)
    rows = read_answers(data, split, columns, skip_bad)
    shown = read_answers(examples, examples_split, columns, skip_bad)
    finder, language_model = load_models(model, llm, dtype, device)
    found = evaluate_answers(finder, language_model, rows, shown, setting, shuffle_words, skip_bad)
    described = {**setting.as_dict(), "data": data, "examples": examples, "shuffle_words": shuffle_words}
    described["dtype"] = language_model.dtype
    if as_json:
        record = {"model": model, "llm": language_model.name, "setting": described, **found.as_dict()}
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    typer.echo(evaluate.beside(found.results, "most_frequent_answer"))
