"""LoRA adapters of a language model together with what they were tuned on, so that none is used with the wrong model.

An adapter's folder is PEFT's own (`adapter_config.json`, `adapter_model.safetensors`) and one file more,
`image_sequences.json`. A merged model's folder is a language model's, with the same file.
"""

import json
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from peft import PeftModel
from peft.utils import CONFIG_NAME
from transformers import PreTrainedModel
from transformers.utils import cached_file

from ..errors import UserError
from ..language import LanguageModel
from ..reconstruction import ImageCodec
from ..references import LOADING_ERRORS, unreachable
from .sequences import SequenceFormat

RECORD_FILE = "image_sequences.json"


@dataclass(frozen=True)
class AdapterRecord:
    """What an adapter was tuned on.

    Args:
        grid: (h, w), local tokens of a picture.
        num_global_words: k, global words in front of them.
        start_id: The token that sequences begin with.
        most_frequent_token: The commonest local token of the training pictures.
        tokens_sha256: `ImageCodec.fingerprint` of the V2L model that wrote them.
        image_model: What that model was called.
        global_model: What found the global words; None where there are none.
        language_model: Which language model was tuned.
        vocab_size: Its tokens.
        hidden_size: Its width.
    """

    grid: tuple[int, int]
    num_global_words: int
    start_id: int
    most_frequent_token: int
    tokens_sha256: str
    image_model: str
    global_model: str | None
    language_model: str
    vocab_size: int
    hidden_size: int

    @property
    def format(self) -> SequenceFormat:
        """How sequences are written for it."""
        return SequenceFormat(tuple(self.grid), self.num_global_words, self.start_id)

    def save(self, folder: Path) -> None:
        """Writes `image_sequences.json`."""
        (folder / RECORD_FILE).write_text(json.dumps(asdict(self), indent=1) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class TunedLanguageModel:
    """A language model that was tuned on pictures.

    Args:
        language_model: The model with its adapter in place.
        record: What it was tuned on.
        adapted: PEFT's wrapper, which can switch the adapter off; None where the adapter was merged.
    """

    language_model: LanguageModel
    record: AdapterRecord
    adapted: PeftModel | None

    @contextmanager
    def untuned(self) -> Generator[PreTrainedModel, None, None]:
        """The model as it was before, for as long as the block runs.

        Raises:
            UserError: If the adapter was merged, so that this cannot be had back.
        """
        if self.adapted is None:
            raise UserError(
                f"{self.language_model.reference} has its adapter merged, so the untuned model is gone: give the "
                "adapter's folder to compare with it."
            )
        with self.adapted.disable_adapter():
            yield self.language_model.model

    def require_tokens_of(self, codec: ImageCodec) -> None:
        """Refuses the tokens of another V2L model than the one it was tuned on.

        Raises:
            UserError: If they are another's.
        """
        if self.record.tokens_sha256 != codec.fingerprint:
            raise UserError(
                f"{self.language_model.reference} was tuned on the tokens of {self.record.image_model} (fingerprint "
                f"{self.record.tokens_sha256[:12]}), but {codec.name} writes others ({codec.fingerprint[:12]}): give "
                "that V2L model, or tune an adapter for this one."
            )


def save_adapter(adapted: PeftModel, folder: Path, record: AdapterRecord) -> None:
    """Writes an adapter.

    Args:
        adapted: The tuned model.
        folder: Is made where it does not exist.
        record: What it was tuned on.
    """
    config = adapted.peft_config["default"]
    # PEFT writes the path that the base was loaded from, which means nothing to others
    adapted.peft_config["default"] = replace(config, base_model_name_or_path=record.language_model)
    try:
        adapted.save_pretrained(str(folder), save_embedding_layers=False)  # they are as they were
    finally:
        adapted.peft_config["default"] = config
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's form, empty
    record.save(folder)


def load_tuned(language_model: LanguageModel, adapter: str | None = None) -> TunedLanguageModel:
    """Puts an adapter on a language model.

    Args:
        language_model: The model; is changed in place.
        adapter: The adapter's folder or Hub id; None where the model was saved with its adapter merged.

    Raises:
        UserError: If there is no such adapter, it was made by something else, or for another language model.
    """
    place = adapter or language_model.reference
    record = _read_record(place, is_adapter=adapter is not None)
    config = language_model.model.config.get_text_config(decoder=True)
    found = (config.vocab_size, config.hidden_size)
    if found != (record.vocab_size, record.hidden_size):
        raise UserError(
            f"{place} was tuned for {record.language_model} ({record.vocab_size:,} tokens, width "
            f"{record.hidden_size}), but {language_model.reference} has {found[0]:,} tokens and width {found[1]}: give "
            "the language model that it belongs to."
        )
    if adapter is None:
        return TunedLanguageModel(language_model, record, None)
    try:
        with quiet_peft():
            adapted = PeftModel.from_pretrained(language_model.model, adapter)
    except LOADING_ERRORS as error:
        said = str(error).strip().splitlines()[0][:200]
        raise UserError(
            f"{adapter} does not fit {language_model.reference} ({said}): give the language model that it was tuned "
            f"for, {record.language_model}."
        ) from error
    adapted.eval().requires_grad_(False)
    base: Any = adapted.get_base_model()
    tuned = replace(language_model, model=base, reference=adapter)
    return TunedLanguageModel(tuned, record, adapted)


@contextmanager
def quiet_peft() -> Generator[None, None, None]:
    """Without the warning of transformers that PEFT asks by a name that is going to change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _read_record(place: str, is_adapter: bool) -> AdapterRecord:
    """The record beside an adapter, or in the folder of a language model that one was merged into."""
    try:
        path = cached_file(place, RECORD_FILE, _raise_exceptions_for_missing_entries=False)
        has_adapter = path is None and cached_file(place, CONFIG_NAME, _raise_exceptions_for_missing_entries=False)
    except LOADING_ERRORS as error:
        if not is_adapter:
            path, has_adapter = None, False  # an "offline" or other model, whose name is no folder
        else:
            raise unreachable(place, error) from error
    if path is None:
        found = "a PEFT adapter of something else" if has_adapter else "no adapter"
        found = found if is_adapter else "a language model that was not tuned on pictures"
        raise UserError(
            f"{place} is {found} (no {RECORD_FILE}), so it fills no masked tokens: give an adapter that "
            "scripts/finetune_lm_lora.py wrote."
        )
    try:
        fields = json.loads(Path(path).read_text(encoding="utf-8"))
        fields["grid"] = tuple(fields["grid"])
        return AdapterRecord(**fields)
    except (OSError, ValueError, TypeError, KeyError) as error:
        said = str(error).strip().splitlines()[0][:200]
        raise UserError(f"{path} is damaged ({said}): fetch the adapter again.") from error
