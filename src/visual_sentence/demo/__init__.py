"""The demo: what the shipped models do, on one page."""

from .results import EXAMPLES, QUESTION, SHOWN, DemoResult, SheetResult, WordsResult
from .run import run_demo

__all__ = ["EXAMPLES", "QUESTION", "SHOWN", "DemoResult", "SheetResult", "WordsResult", "run_demo"]
