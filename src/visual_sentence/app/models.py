"""The page's models: loaded when a tab first needs them, and used by one visitor at a time."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from threading import RLock

from ..completion import CompletionModel, LocalCompletions, load_completion_model
from ..errors import UserError
from ..reconstruction import ImageCodec, load_image_codec
from ..references import OFFLINE
from ..restoration import PictureRestorer
from ..sentence_completion import SentenceCompleter
from ..shipped import DEFAULT
from ..words import WordFinder
from .stops import Runs, stop_point, stoppable

# Seconds between two looks whether work that waits for the models was stopped.
PATIENCE = 0.2


@dataclass(frozen=True)
class References:
    """Which models the page shows.

    Args:
        words: V2L model that finds words for whole pictures: "offline", a folder or a Hub id.
        local: V2L model with a local half: "default" for the one that ships, a folder or a Hub id.
        simlvm: SimLVM: "default" for the one that ships, a folder or a Hub id.
        llm: Language model: "offline", a folder, a Hub id, or the address of a served one.
        device: Where models run; the first accelerator by default.
    """

    words: str = OFFLINE
    local: str = DEFAULT
    simlvm: str = DEFAULT
    llm: str = OFFLINE
    device: str | None = None


class AppModels:
    """The models of a page.

    Models keep the last visitor's pairs or examples to be faster with the next picture, so only one request at a time
    may use them; `alone` sees to that. `runs` is the work that uses them or waits for them.

    Args:
        references: Which.
    """

    def __init__(self, references: References | None = None):
        self.references = references or References()
        self.runs = Runs()
        self._lock = RLock()

    @contextmanager
    def alone(self) -> Generator["AppModels", None, None]:
        """Keeps other requests waiting; those that wait can be stopped.

        Raises:
            Stopped: If this one is, while it waits.
        """
        while not self._lock.acquire(timeout=PATIENCE):
            stop_point()
        try:
            yield self
        finally:
            self._lock.release()

    @cached_property
    def finder(self) -> WordFinder:
        """Finds words for whole pictures."""
        return WordFinder.load(self.references.words, self.references.device)

    @cached_property
    def reader(self) -> CompletionModel:
        """Reads words, and writes labels, captions and answers."""
        model = load_completion_model(self.references.llm, device=self.references.device)
        if isinstance(model, LocalCompletions):
            stoppable(model.language_model.model)
        return model

    @cached_property
    def codec(self) -> ImageCodec:
        """Writes pictures as local words, and draws pictures of them."""
        return load_image_codec(self.references.local, self.references.device)

    @cached_property
    def restorer(self) -> PictureRestorer:
        """Restores pictures in context."""
        if not isinstance(self.reader, LocalCompletions):
            raise UserError(
                f"{self.references.llm} is served elsewhere, but restoring looks at all of a model's scores: start the "
                "page with a language model that is loaded here."
            )
        return PictureRestorer(self.codec, self.reader.language_model)

    @cached_property
    def completer(self) -> SentenceCompleter:
        """Completes visual sentences."""
        completer = SentenceCompleter.load(self.references.simlvm, self.references.device)
        stoppable(completer.model.language_model)
        return completer


__all__ = ["AppModels", "References"]
