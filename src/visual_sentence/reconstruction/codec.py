"""Pictures to tokens and back: a V2L or VQGAN model with its image processor, fed in batches.

What is compared and shown is always what a file can hold: the model's view of a picture and its reconstruction, both
in 8 bits.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, AutoProcessor, PretrainedConfig, PreTrainedModel

from ..errors import UserError
from ..language import DTYPES, choose_device
from ..modeling import V2LImageProcessor
from ..progress import progress_bar
from ..references import LOADING_ERRORS, load_config, resolve, unreachable
from ..words import batched

# By name, as the classes of a model that brings its own code are not those of this package.
V2L_TYPES, VQGAN_TYPE = ("v2l", "lqae", "spae"), "vqgan"
SENTENCE_MODEL = "simlvm"  # holds a VQGAN
RGB = 3


@dataclass(frozen=True)
class ImageTokens:
    """What B pictures are written as.

    Args:
        image_tokens: [B, h, w] int64, places in the codebook.
        global_tokens: [B, k] int64, places in the codebook of words for whole pictures; None where the decoder
            does not look at them.
        global_words: B lists of their k words; None without global tokens or without a vocabulary.
    """

    image_tokens: torch.Tensor
    global_tokens: torch.Tensor | None = None
    global_words: list[list[str]] | None = None


@dataclass(frozen=True)
class Reconstruction:
    """One picture, its tokens, and what comes back.

    Args:
        original: What the model saw: the picture resized and cropped, R x R pixels.
        reconstruction: What the tokens were decoded to, of the same size, values clipped and rounded to 8 bits.
        image_tokens: h rows of w places in the codebook.
        words: The same map in words; None for a model whose codebook has none.
        global_tokens: k places in the codebook of words for whole pictures; None where the decoder does not use any.
        global_words: Their words.
    """

    original: Image.Image
    reconstruction: Image.Image
    image_tokens: list[list[int]]
    words: list[list[str]] | None = None
    global_tokens: list[int] | None = None
    global_words: list[str] | None = None

    @property
    def distinct_tokens(self) -> int:
        """How many different codes the picture is written with."""
        return len({token for row in self.image_tokens for token in row})


class ImageCodec:
    """Writes pictures as tokens and draws pictures from tokens.

    Args:
        model: A `VQGANModel`, or a `V2LModel` with a local half.
        image_processor: The model's image processor.
        name: What the model is called, for messages and records.

    Raises:
        UserError: If the model cannot draw pictures, or its image processor makes views that it cannot take.
    """

    def __init__(self, model: PreTrainedModel, image_processor: V2LImageProcessor, name: str):
        check_config(model.config, name)
        side, factor = image_processor.local_size, model.config.downsampling_factor
        if side % factor:
            raise UserError(
                f"{name}: its image processor makes views of {side} pixels, but the model takes multiples of {factor}: "
                "they do not belong together; save the model's own image processor beside it."
            )
        # a VQGANModel or a V2LModel, perhaps of the code that came with it
        self.model: Any = model.eval()
        self.image_processor: Any = image_processor
        self.name = name
        self.num_tokens: int | None = None

    def take_first(self, num_tokens: int) -> None:
        """Writes pictures with the first tokens only, of a model that writes them from coarse to fine (SPAE).

        Args:
            num_tokens: How many; one of `config.token_counts`.

        Raises:
            UserError: If the model has no such prefix.
        """
        counts = getattr(self.model.config, "token_counts", None)
        if counts is None or num_tokens not in counts:
            able = "needs all of its map"
            if counts is not None:
                able = f"can do with {', '.join(map(str, counts))}"
            raise UserError(f"{self.name} cannot draw pictures of {num_tokens} tokens: it {able}.")
        self.num_tokens = num_tokens

    @property
    def is_v2l(self) -> bool:
        """Whether the codes are a language model's words."""
        return self.model.config.model_type in V2L_TYPES

    @property
    def writes_map(self) -> bool:
        """Whether a picture's tokens are a map of h x w, as they are but for a pyramid's (SPAE)."""
        return len(getattr(self.model.config, "token_counts", (0,))) == 1

    @property
    def codebook_size(self) -> int:
        """K, entries of the codebook."""
        config = self.model.config
        return config.local_codebook_size if self.is_v2l else config.codebook_size

    @property
    def resolution(self) -> int:
        """R, side of the view in pixels."""
        return self.image_processor.local_size

    @property
    def dtype(self) -> torch.dtype:
        """In which the convolutions are computed; the quantizer's codebook stays in float32."""
        return self.model.quant_conv.weight.dtype

    @property
    def words(self) -> list[str] | None:
        """The K words of the codebook; None where it has none."""
        vocabulary = self.model.local_vocabulary if self.is_v2l else None
        return None if vocabulary is None else vocabulary.words

    @property
    def uses_global_tokens(self) -> bool:
        """Whether the decoder looks at words for the whole picture."""
        return self.is_v2l and self.model.config.cross_attention is not None

    @cached_property
    def fingerprint(self) -> str:
        """The sha256, in hexadecimal, of the weights that decide which tokens a picture is written as.

        Taken of their values in bfloat16, so that a model has one fingerprint whatever its dtype.
        """
        model, digest = self.model, hashlib.sha256()
        parts = {"encoder": model.encoder, "quant_conv": model.quant_conv, "quantizer": model.codec_quantizer}
        for part, module in parts.items():
            for name, tensor in sorted(module.state_dict().items()):
                digest.update(f"{part}.{name} {tuple(tensor.shape)}\n".encode())
                digest.update(tensor.detach().cpu().to(torch.bfloat16).contiguous().view(torch.uint8).numpy())
        return digest.hexdigest()

    def encode(self, pictures: Sequence[Image.Image]) -> ImageTokens:
        """Writes B pictures as tokens.

        Args:
            pictures: Of any size and mode.
        """
        return self._encode(self._views(pictures))

    def decode(self, tokens: ImageTokens, known: torch.Tensor | None = None) -> list[Image.Image]:
        """Draws the pictures that tokens stand for.

        Args:
            tokens: Of B pictures.
            known: [B, h, w] bool; codes of the others are zero. For V2L models; all are known by default.

        Returns:
            B pictures; values are clipped and rounded to 8 bits.
        """
        image_tokens = tokens.image_tokens.to(self.model.device)
        if not self.is_v2l:
            return self.image_processor.postprocess(self.model.decode(image_tokens))
        global_tokens = tokens.global_tokens if self.uses_global_tokens else None
        global_tokens = None if global_tokens is None else global_tokens.to(self.model.device)
        known = None if known is None else known.to(self.model.device)
        return self.image_processor.postprocess(self.model.decode(image_tokens, global_tokens, known))

    def views(self, pictures: Sequence[Image.Image]) -> list[Image.Image]:
        """What the model sees of pictures: resized and cropped to R x R pixels."""
        views = self.image_processor(list(pictures), return_tensors="pt", do_global_view=False)
        return self.image_processor.postprocess(views["pixel_values"])

    def reconstruct(self, pictures: Sequence[Image.Image]) -> list[Reconstruction]:
        """Writes pictures as tokens and draws them again.

        Args:
            pictures: One batch, of any size and mode.
        """
        views = self._views(pictures)
        tokens = self._encode(views)
        drawn = self.decode(tokens)
        maps = tokens.image_tokens.tolist()
        nothing = [None] * len(drawn)
        return [
            Reconstruction(original, picture, rows, self._in_words(rows), chosen, words)
            for original, picture, rows, chosen, words in zip(
                self.image_processor.postprocess(views["pixel_values"]),
                drawn,
                maps,
                nothing if tokens.global_tokens is None else tokens.global_tokens.tolist(),
                tokens.global_words or nothing,
                strict=True,
            )
        ]

    def _views(self, pictures: Sequence[Image.Image]) -> dict[str, torch.Tensor]:
        wanted = {"do_local_view": True, "do_global_view": self.uses_global_tokens}
        return self.image_processor(list(pictures), return_tensors="pt", **wanted)

    def _encode(self, views: dict[str, torch.Tensor]) -> ImageTokens:
        pixels = views["pixel_values"].to(self.model.device)
        if not self.is_v2l:
            return ImageTokens(self.model.encode(pixels).image_tokens.cpu())
        if not self.uses_global_tokens:
            tokens = self.model.encode(pixel_values=pixels).local_tokens.cpu()
            return ImageTokens(tokens if self.num_tokens is None else tokens[..., : self.num_tokens])
        output = self.model.encode(
            pixel_values=pixels, global_pixel_values=views["global_pixel_values"].to(self.model.device)
        )
        return ImageTokens(output.local_tokens.cpu(), output.global_tokens.cpu(), output.global_words)

    def _in_words(self, rows: list[list[int]]) -> list[list[str]] | None:
        words = self.words
        return None if words is None else [[words[token] for token in row] for row in rows]


def load_image_codec(
    reference: str, device: str | None = None, dtype: str = "float32", num_tokens: int | None = None
) -> ImageCodec:
    """Loads a model that writes pictures as tokens and draws them again.

    Args:
        reference: A folder or a Hub id of a V2L model with a local half, of a VQGAN, or of a SimLVM for its VQGAN.
        device: Where to put it; the first accelerator by default, else the CPU.
        dtype: "float32", "bfloat16" or "float16"; in 16 bits some tokens differ from those of float32.
        num_tokens: See `ImageCodec.take_first`; all by default.

    Raises:
        UserError: If there is no such model, it is of another kind, it has no local half or no such prefix, or device
            or dtype are unknown.
    """
    if DTYPES.get(dtype) is None:
        known = ", ".join(name for name, value in DTYPES.items() if value is not None)
        raise UserError(f"Unknown dtype {dtype!r}: choose one of {known}.")
    device = choose_device(device)
    folder = resolve(reference, "v2l")
    config = load_config(reference, folder)
    of_sentences = config.model_type == SENTENCE_MODEL
    check_config(config.vq_config if of_sentences else config, reference)
    try:
        if of_sentences:
            model = AutoModel.from_pretrained(folder).vqgan.to(DTYPES[dtype])
            image_processor = AutoProcessor.from_pretrained(folder).image_processor
        else:
            model = AutoModel.from_pretrained(folder, dtype=DTYPES[dtype])
            image_processor = AutoImageProcessor.from_pretrained(folder)
    except LOADING_ERRORS as error:
        raise unreachable(reference, error) from error
    codec = ImageCodec(model.to(device), image_processor, reference)
    if num_tokens is not None:
        codec.take_first(num_tokens)
    return codec


def check_config(config: PretrainedConfig, name: str) -> None:
    """Refuses what cannot draw pictures from tokens.

    Args:
        config: A model's configuration.
        name: What the user calls the model.

    Raises:
        UserError: If it is no V2L model and no VQGAN, a V2L model without a local half or without the image tower that
            its decoder needs, or not for RGB.
    """
    if config.model_type not in (*V2L_TYPES, VQGAN_TYPE):
        raise UserError(
            f"{name} is a {config.model_type} model, which does not write pictures as tokens: give a V2L model with a "
            "local half, a VQGAN or a SimLVM."
        )
    is_v2l = config.model_type in V2L_TYPES
    if is_v2l and config.local_codebook_size is None:
        raise UserError(
            f"{name} is a V2L model without a local half: it finds words for whole pictures (`visual-sentence "
            "describe`) but cannot draw a picture from them; give a model trained with local tokens, or a VQGAN."
        )
    if is_v2l and config.cross_attention is not None and config.encoder_type is None:
        raise UserError(
            f"{name} looks at words for the whole picture when it draws, but has no image tower to find them: convert "
            "or train it with one (`convert --encoder`, `--global-model`)."
        )
    if getattr(config, "num_channels", RGB) != RGB:
        raise UserError(
            f"{name} was made for images of {config.num_channels} channels, but pictures are read as red, green and "
            "blue: give a model for 3 channels."
        )


def reconstruct_pictures(
    codec: ImageCodec, pictures: Iterable[Image.Image], batch_size: int = 8, total: int | None = None
) -> Iterator[Reconstruction]:
    """Writes pictures as tokens and draws them again, a batch at a time.

    Args:
        codec: What writes and draws.
        pictures: Taken as they are needed.
        batch_size: Pictures a forward pass.
        total: How many pictures there are, for the progress bar.

    Yields:
        The reconstruction of each picture, in order.
    """
    with progress_bar("reconstructing", total) as bar:
        for batch in batched(pictures, batch_size):
            yield from codec.reconstruct(batch)
            bar.advance(len(batch))
