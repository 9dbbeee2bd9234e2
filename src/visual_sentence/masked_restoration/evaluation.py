"""How good restored tokens and pictures are, beside guesses that need no tuned language model.

Accuracy is of masked tokens only. Pictures are compared, in 8 bits, with the model's view of the original; the decoded
full map is the best that restoring can reach, and the map with its masked codes set to zero is what one starts from
(V2L Tokenizer, section 4.3, figure 8).
"""

import time
from itertools import islice
from typing import Any

import torch
from PIL import Image

from ..errors import UserError
from ..image_io import ImageSource
from ..metrics import ImageQuality, RunningMean
from ..progress import progress_bar
from ..reconstruction import ImageCodec
from ..reconstruction.evaluation import as_batch
from ..words import WordFinder, batched
from .adapters import TunedLanguageModel
from .pictures import MaskedPictures
from .restorer import MASK_RATIO, MaskedRestorer, random_known
from .sequences import SequenceWriter

TUNED, UNTUNED, FREQUENT, LEFT = "tuned", "untuned", "most_frequent_token", "token_to_the_left"
FULL, MASKED = "all_tokens_known", "masked_codes_zero"


def evaluate_masked_restoration(
    codec: ImageCodec,
    tuned: TunedLanguageModel,
    source: ImageSource,
    finder: WordFinder | None = None,
    ratio: float = MASK_RATIO,
    seed: int = 0,
    limit: int | None = None,
    batch_size: int = 32,
) -> dict[str, Any]:
    """Masks and restores pictures by the tuned and the untuned language model and by two plain guesses.

    Args:
        codec: The V2L model.
        tuned: The language model with its adapter.
        source: Pictures that the adapter was not tuned on.
        finder: Finds the global words, where the adapter wants any.
        ratio: Share of tokens that is masked.
        seed: Of the masks.
        limit: Only the first so many pictures.
        batch_size: Pictures a forward pass.

    Returns:
        `model, adapter, language_model, data, n, mask_ratio, seed, masked_tokens, seconds_per_image` (of the tuned
        model), and `ways`: for each way `accuracy` in [0, 1] (None where nothing is guessed), `psnr` in dB and `ssim`.

    Raises:
        UserError: If the parts do not belong together or there is no picture.
    """
    tuned.require_tokens_of(codec)
    writer = SequenceWriter(codec, tuned.language_model, finder, tuned.record.num_global_words)
    restorer = MaskedRestorer(tuned.language_model.model, codec.codebook_size, batch_size=batch_size)
    ways = _Ways()
    count, seconds = 0, 0.0
    total = source.count if limit is None else min(limit, source.count or limit)
    with progress_bar("restoring masked pictures", total) as bar:
        for batch in batched(islice(source, limit), batch_size):
            tokens = codec.encode(batch)
            sequences = writer.write(batch, tokens)
            known = random_known(sequences.maps, ratio, seed)
            start = time.perf_counter()
            restored = restorer.restore(sequences, known)
            seconds += time.perf_counter() - start
            guesses = {TUNED: restored}
            if tuned.adapted is not None:
                with tuned.untuned():
                    guesses[UNTUNED] = restorer.restore(sequences, known)
            guesses[FREQUENT] = sequences.maps.where(known, torch.tensor(tuned.record.most_frequent_token))
            guesses[LEFT] = copy_from_the_left(sequences.maps, known)
            ways.update(MaskedPictures(codec, batch, tokens, known), guesses)
            count += len(batch)
            bar.advance(len(batch))
    if not count:
        raise UserError(f"{source.name} holds no picture, so there is nothing to measure: give other data.")
    return {
        "model": codec.name,
        "adapter": tuned.language_model.reference,
        "language_model": tuned.record.language_model,
        "data": source.name,
        "n": count,
        "mask_ratio": ratio,
        "seed": seed,
        "masked_tokens": ways.masked_tokens,
        "seconds_per_image": seconds / count,
        "ways": ways.compute(),
    }


def copy_from_the_left(maps: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
    """Fills every masked token with the one before it in raster order, itself perhaps filled; the first from behind.

    Args:
        maps: [N, h, w] int64.
        known: [N, h, w] bool.
    """
    tokens, is_known = maps.flatten(1).clone(), known.flatten(1)
    first = is_known.int().argmax(1, keepdim=True)  # the first known token, for those in front of it
    last = tokens.gather(1, first)[:, 0]
    for place in range(tokens.shape[1]):
        last = torch.where(is_known[:, place], tokens[:, place], last)
        tokens[:, place] = last
    return tokens.reshape(maps.shape)


class _Ways:
    """Sums over pictures, for every way of filling masked tokens."""

    def __init__(self) -> None:
        self.quality: dict[str, ImageQuality] = {}
        self.hits: dict[str, RunningMean] = {}
        self.masked_tokens = 0

    def update(self, pictures: MaskedPictures, guesses: dict[str, torch.Tensor]) -> None:
        """Adds one batch."""
        masked, truth = ~pictures.known, pictures.tokens.image_tokens
        self.masked_tokens += int(masked.sum())
        for name, maps in guesses.items():
            self.hits.setdefault(name, RunningMean()).update((maps == truth)[masked].float())
            self._compare(name, pictures.draw(maps), pictures)
        self._compare(FULL, pictures.draw(truth), pictures)
        self._compare(MASKED, pictures.masked, pictures)

    def _compare(self, name: str, drawn: list[Image.Image], pictures: MaskedPictures) -> None:
        self.quality.setdefault(name, ImageQuality()).update(as_batch(drawn), as_batch(pictures.originals))

    def compute(self) -> dict[str, dict[str, float | None]]:
        """The numbers of all batches."""
        found = {}
        for name, quality in self.quality.items():
            numbers = quality.compute()
            hits = self.hits[name].mean if name in self.hits else None
            found[name] = {"accuracy": hits, "psnr": numbers["psnr"], "ssim": numbers["ssim"]}
        return found
