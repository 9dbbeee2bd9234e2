"""The demo: what the shipped models do, on one page."""

from .results import EXAMPLES, QUESTION, SHOWN, DemoResult, SentenceResult, WordsResult
from .run import run_demo

__all__ = ["EXAMPLES", "QUESTION", "SHOWN", "DemoResult", "SentenceResult", "WordsResult", "run_demo"]
