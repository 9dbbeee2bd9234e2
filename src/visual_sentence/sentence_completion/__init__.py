"""Completing visual sentences, and how well it is done."""

from .answers import Completion
from .completer import Question, SentenceCompleter
from .evaluation import CompletionSetting, evaluate_completion
from .requests import parse_request, read_counts, read_options
from .sheet import draw_rows

__all__ = [
    "SentenceCompleter",
    "Question",
    "Completion",
    "CompletionSetting",
    "evaluate_completion",
    "parse_request",
    "read_counts",
    "read_options",
    "draw_rows",
]
