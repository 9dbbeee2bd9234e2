"""The papers' tables, measured with what is at hand: their systems side by side, on one's own models and data."""

from .budgets import BUDGETS, DATA
from .run import reproduce, table_names

__all__ = ["BUDGETS", "DATA", "reproduce", "table_names"]
