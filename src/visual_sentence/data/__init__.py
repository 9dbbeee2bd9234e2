"""Visual sentences: tasks, examples, and their composition; as pictures and as tokens."""

from .augmentation import Augmentation, Light
from .examples import Example, ExampleSource
from .sentences import SentenceMaker, VisualSentence
from .shapes import Shapes
from .sources import open_examples
from .specs import TaskData, parse_task_data
from .tasks import TASKS, Pair, Task, make_task

__all__ = [
    "Example",
    "ExampleSource",
    "Shapes",
    "open_examples",
    "TASKS",
    "Pair",
    "Task",
    "make_task",
    "TaskData",
    "parse_task_data",
    "Augmentation",
    "Light",
    "VisualSentence",
    "SentenceMaker",
]
