"""Captions of pictures and answers to questions about them, written in context by a frozen language model.

Reads tables of solved pictures, chooses examples, writes prompts. Pictures come in as words; what the language model
does is the room `completion`'s.
"""

from .pictures import InContextSetting, PictureAnswer, PictureCaption, answer, caption
from .prompts import CAPTION_STYLES, AnswerExample, AnswerPrompt, CaptionExample, CaptionPrompt
from .selection import CHOICES, ExamplePool
from .tables import Columns, PictureRows, answers_of, captions_of, read_answers, read_captions
from .writer import InContextWriter

__all__ = [
    "AnswerExample",
    "AnswerPrompt",
    "CAPTION_STYLES",
    "CHOICES",
    "CaptionExample",
    "CaptionPrompt",
    "Columns",
    "ExamplePool",
    "InContextSetting",
    "InContextWriter",
    "PictureAnswer",
    "PictureCaption",
    "PictureRows",
    "answer",
    "answers_of",
    "caption",
    "captions_of",
    "read_answers",
    "read_captions",
]
