"""SimLVM: images as tokens, a language model that goes on with the sentence, and the way back to images.

Sources: SimLVM (figures 1 and 2), LVM (https://arxiv.org/abs/2312.00785) and DeLVM (https://arxiv.org/abs/2402.04841),
whose shapes it takes by config. Level 4.
"""

import math
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, Cache, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from .aligned_embedding import AlignedImages, NeighbourhoodReader
from .cache_names import CACHE, cache_argument, cache_of, one_cache
from .configuration_simlvm import SimLVMConfig
from .convolutional_codec import as_token_maps
from .generation_simlvm import SentenceGeneration
from .image_token_converter import PLACEHOLDER
from .modeling_visual_gru import VisualGRUForCausalLM
from .modeling_vqgan import VQGANModel

# fields of a VQGAN's config that change what its weights mean, or how they are trained, but no shape
NOT_IN_SHAPES = (
    "value_range",
    "normalize_latents",
    "quantizer_gradient",
    "codebook_loss_weight",
    "commitment_loss_weight",
    "reconstruction_loss",
)


class CodebookEmbedding(nn.Module):
    """Embeddings of image tokens as a linear projection of their frozen codes (DeLVM, internlm/model/embedding.py).

    Args:
        config: The model's config.
    """

    def __init__(self, config: SimLVMConfig):
        super().__init__()
        width = config.text_config.hidden_size
        self.offset, self.codebook_size = config.image_token_offset, config.codebook_size
        self.special_ids = sorted(config.special_token_ids.values())
        self.register_buffer("codes", torch.zeros(config.codebook_size, config.vq_config.codebook_dim))
        self.projection = nn.Linear(config.vq_config.codebook_dim, width, bias=False)
        self.specials = nn.Embedding(len(self.special_ids), width) if self.special_ids else None

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """[..., H] of ids [...]; what is neither an image token's nor a special id is taken for the nearest token's."""
        tokens = (ids - self.offset).clamp(0, self.codebook_size - 1)
        found = self.projection(self.codes.to(self.projection.weight.dtype)[tokens])
        if self.specials is not None:
            for row, number in enumerate(self.special_ids):
                found = torch.where((ids == number)[..., None], self.specials.weight[row], found)
        return found


class SimLVMForVisualSentence(SentenceGeneration):
    """An image tokenizer and a language model over its tokens.

    Example:
        >>> model = AutoModel.from_pretrained(folder, trust_remote_code=True)
        >>> processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
        >>> found = model.complete(**processor(pairs=[(image, mask)], query=another))
        >>> processor.postprocess(model.draw(found.image_tokens[:, 0]))[0].save("mask.png")
    """

    config: SimLVMConfig
    config_class = SimLVMConfig
    base_model_prefix = "simlvm"
    main_input_name = "input_ids"
    input_modalities = ["image"]
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _no_split_modules = ["LlamaDecoderLayer", "GRULayer", "CausalAttention"]
    # images keep their tokens in whatever precision the language model is loaded
    _keep_in_fp32_modules_strict = ["vqgan"]

    def __init__(self, config: SimLVMConfig):
        super().__init__(config)
        self.vqgan = VQGANModel(config.vq_config)
        if config.text_config.model_type == "visual_gru":
            text_config: Any = config.text_config  # of the class that its model_type names
            self.language_model = VisualGRUForCausalLM(text_config)
        else:
            self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        if config.embedding == "codebook":
            self.language_model.set_input_embeddings(CodebookEmbedding(config))
        width = config.text_config.hidden_size
        self.grid_embedding = nn.Embedding(config.tokens_per_image, width) if config.grid_positions else None
        self.aligned_embedding = self._make_aligned_embedding(config) if config.aligned_tokens else None
        self.converter = config.make_converter()
        self.post_init()
        self.freeze()
        # a language model's own are those of its texts: here they may be image tokens, at which nothing ends
        self.generation_config.bos_token_id = self.converter.begin_id
        self.generation_config.eos_token_id = self.converter.end_id
        self.generation_config.pad_token_id = self.converter.pad_id

    @staticmethod
    def _make_aligned_embedding(config: SimLVMConfig) -> nn.Module:
        """Tokens [N, T] of whole images to [N, T, H]."""
        width = config.text_config.hidden_size
        if config.aligned_layers == 0:
            return nn.Embedding(config.codebook_size, width)
        return NeighbourhoodReader(
            width,
            config.vq_config.grid_size,
            config.codebook_size,
            config.vq_config.codebook_dim,
            config.aligned_width,
            config.aligned_layers,
            config.aligned_followers,
        )

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """As `PreTrainedModel.from_pretrained`; what is frozen stays frozen."""
        found = super().from_pretrained(*args, **kwargs)
        (found[0] if isinstance(found, tuple) else found).freeze()  # loading makes every parameter trainable
        return found

    @property
    def dtype(self) -> torch.dtype:
        """The language model's."""
        return self.language_model.dtype

    def freeze(self) -> None:
        """Freezes the image tokenizer, unless the config says that it is trained."""
        if not self.config.train_vqgan:
            self.vqgan.requires_grad_(False)

    def train(self, mode: bool = True):
        """As `nn.Module.train`; a frozen image tokenizer stays in evaluation mode."""
        super().train(mode)
        if not self.config.train_vqgan:
            self.vqgan.eval()  # its tokens are those that shards hold
        return self

    def trainable_parameters(self) -> list[nn.Parameter]:
        """What an optimizer is to move."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def take_vqgan(self, vqgan: VQGANModel) -> None:
        """Puts a trained image tokenizer's weights into this model, and its codes under the embeddings.

        Args:
            vqgan: Of the shape of `config.vq_config`. How it was trained and what range its weights want is taken
                from its own config.

        Raises:
            ValueError: If its codebook, its images or its layers are of another shape.
        """
        for name in ("codebook_size", "codebook_dim", "image_seq_length", "norm_num_groups"):
            found, wanted = getattr(vqgan.config, name), getattr(self.config.vq_config, name)
            if found != wanted:
                raise ValueError(
                    f"The VQGAN's {name} is {found}, this model's {wanted}: its tokens would mean other things; take "
                    "the VQGAN that the model was made for, or make a model for this one."
                )
        theirs, ours = ({name: part.shape for name, part in one.state_dict().items()} for one in (vqgan, self.vqgan))
        if odd := sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name)):
            raise ValueError(
                f"The VQGAN's layers are not this model's, e.g. at {odd[0]}: make vq_config the VQGAN's, which its "
                "config.json says."
            )
        self.vqgan.load_state_dict(vqgan.state_dict())
        for name in NOT_IN_SHAPES:
            setattr(self.vqgan.config, name, getattr(vqgan.config, name))
        self.take_codes()

    @torch.no_grad()
    def take_codes(self) -> None:
        """Copies the codebook's entries under the embeddings, where the config wants them there."""
        for embedding in (self.language_model.get_input_embeddings(), self.aligned_embedding):
            if isinstance(embedding, (CodebookEmbedding, NeighbourhoodReader)):
                embedding.codes.copy_(self.image_codes())

    def get_input_embeddings(self) -> nn.Module:
        """The language model's."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Puts another table into the language model."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.language_model.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Puts another head on the language model."""
        self.language_model.set_output_embeddings(new_embeddings)

    @torch.no_grad()
    def tokenize(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """Image tokens of images.

        Args:
            pixel_values: [..., C, S, S] in [-1, 1].

        Returns:
            [..., T] int64 in [0, K).
        """
        lead = pixel_values.shape[:-3]
        flat = pixel_values.reshape(-1, *pixel_values.shape[-3:]).to(self.vqgan.device)
        return self.vqgan.encode(flat).image_tokens.flatten(1).view(*lead, -1)

    @torch.no_grad()
    def draw(self, image_tokens: torch.Tensor) -> torch.Tensor:
        """Images [B, C, S, S] in about [-1, 1] of image tokens [B, T] or [B, h, w]."""
        return self.vqgan.decode(as_token_maps(image_tokens, self.config.vq_config.grid_size).to(self.vqgan.device))

    @torch.no_grad()
    def draw_codes(self, codes: torch.Tensor) -> torch.Tensor:
        """Images [B, C, S, S] in about [-1, 1] of codes [B, D, h, w], which need not be entries of the codebook."""
        return self.vqgan.decode_codes(codes.to(self.vqgan.device))

    @torch.no_grad()
    def image_codes(self) -> torch.Tensor:
        """The code [K, D] float32 of every image token."""
        every = torch.arange(self.config.codebook_size, device=self.vqgan.device)
        return self.vqgan.quantizer.lookup(every[None, None])[0, :, 0].T

    def fill(self, input_ids: torch.Tensor, pixel_values: torch.Tensor | None) -> torch.Tensor:
        """Ids with the pictures' tokens in their places.

        Args:
            input_ids: [B, L] int64; -1 where a token of a picture belongs.
            pixel_values: [N, C, S, S], the N pictures of all rows in order.

        Raises:
            ValueError: If the places are not those of N pictures.
        """
        places = input_ids == PLACEHOLDER
        wanted, size = int(places.sum()), self.config.tokens_per_image
        count = 0 if pixel_values is None else pixel_values.shape[0]
        if wanted != count * size:
            raise ValueError(
                f"The sentences have places for {wanted} image tokens, but {count} pictures of {size} tokens were "
                "given: make both with this model's processor."
            )
        if wanted == 0 or pixel_values is None:
            return input_ids
        ids = self.converter.to_ids(self.tokenize(pixel_values)).to(input_ids.device)
        return input_ids.masked_scatter(places, ids)

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        pixel_values: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        cache: Cache | None = None,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token; with labels the loss, the mean over them in nats.

        Args:
            input_ids: [B, L] int64; -1 where a token of `pixel_values` belongs.
            pixel_values: [N, C, S, S] in [-1, 1], the pictures of all rows in order.
            attention_mask: [B, P + L], 0 for padding; or [B, 1, L, P + L] bool for packed rows.
            position_ids: [B, L], from 0 in each sentence.
            past_key_values: The cache of P tokens that stand before.
            inputs_embeds: [B, L, H] instead of ids.
            labels: [B, L] int64, -100 where nothing is asked; shifted here. Logits are then those of the labelled
                places only, [M, V].
            use_cache: Whether to give a cache back.
            logits_to_keep: How many of the last positions get logits; 0 for all.
            cache: The newer name of `past_key_values`.
        """
        past_key_values = one_cache(cache, past_key_values)
        past = 0 if past_key_values is None else past_key_values.get_seq_length()
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("Give either input_ids or inputs_embeds.")
            input_ids = self.fill(input_ids, pixel_values)
            inputs_embeds = self.language_model.get_input_embeddings()(input_ids)
        batch, length = inputs_embeds.shape[:2]
        position_ids = positions(attention_mask, position_ids, past, batch, length, inputs_embeds.device)
        if self.grid_embedding is not None:
            begins = int(self.converter.begin_id is not None)
            places = (position_ids - begins) % self.config.tokens_per_image
            inputs_embeds = inputs_embeds + self.grid_embedding(places)
        if self.aligned_embedding is not None:
            if input_ids is None:
                raise ValueError("With aligned_tokens embeddings depend on earlier ids: give input_ids.")
            if use_cache and past_key_values is None:
                past_key_values = DynamicCache(config=self.config.text_config)
            history = self._remember(input_ids, past_key_values)
            images = AlignedImages(history, attention_mask, position_ids, self.converter, self.config.tokens_per_image)
            inputs_embeds = inputs_embeds + self._aligned(self.aligned_embedding, images, past_key_values)
        decoder, head = self.language_model.base_model, self.get_output_embeddings()
        found = decoder(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            use_cache=use_cache,
            **{cache_argument(decoder) or CACHE: past_key_values},
            **kwargs,
        )
        hidden, loss = found.last_hidden_state, None
        if labels is None:
            kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            logits = head(hidden[:, kept])
        else:
            # the head is applied where something is asked only: with one answer in two that is half of its work
            asked = labels[:, 1:] != -100
            logits = head(hidden[:, :-1][asked])
            loss = F.cross_entropy(logits.float(), labels[:, 1:][asked]) if len(logits) else logits.sum() * 0
            if self.config.train_vqgan and pixel_values is not None:
                loss = loss + self.vqgan(pixel_values).loss
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: cache_of(found)})

    def _remember(self, ids: torch.Tensor, cache: Cache | None) -> torch.Tensor:
        """All ids [B, P + L] so far; they are kept in the cache, behind the language model's own layers."""
        if cache is None:
            return ids
        place = self.config.text_config.num_hidden_layers
        while len(cache.layers) <= place:
            cache.layers.append(DynamicLayer())
        kept = ids[:, None, :, None].float()  # exact below 2 ** 24
        return cache.layers[place].update(kept, kept[..., :0])[0][:, 0, :, 0].long()

    def _aligned(self, embedding: nn.Module, images: AlignedImages, cache: Cache | None) -> torch.Tensor:
        """Embeddings [B, L, H] of what stands one image before the tokens to come; zeros where there is none."""
        if not bool(images.there.any()):
            return images.there[..., None].to(self.dtype)
        windows = images.windows(earlier=self.config.aligned_followers)
        place = self.config.text_config.num_hidden_layers
        layer = None if cache is None else cache.layers[place]
        # while an image is written those before stay the same: what was found of them is kept beside their tokens
        kept, found = getattr(layer, "aligned", (None, None))
        if found is None or not windows.show_the_same(kept):
            if isinstance(embedding, NeighbourhoodReader):
                found = embedding(windows.tokens, windows.wanted, windows.before)
            else:
                found = embedding(windows.tokens)
            if layer is not None:
                layer.aligned = (windows, found)
        return found[windows.numbers, images.place] * images.there[..., None]

    @torch.no_grad()
    def perplexity(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """How surprising the last image of a sentence is (LVM, section 4.1 and evaluation/vqlm_demo/inference.py).

        Args:
            pixel_values: [B, n, C, S, S] in [-1, 1], n of at least 2.

        Returns:
            [B] float32, exp of the mean negative log-likelihood of the last image's tokens, over the whole vocabulary.

        Raises:
            ValueError: If there is nothing before the last image, or the sentence is too long.
        """
        batch, count = pixel_values.shape[:2]
        if not 2 <= count <= self.config.max_images:
            raise ValueError(f"Perplexity is of the last of 2 to {self.config.max_images} images, got {count}.")
        ids = self.converter.to_ids(self.tokenize(pixel_values)).flatten(1).to(self.device)
        if self.converter.begin_id is not None:
            ids = torch.cat([ids.new_full((batch, 1), self.converter.begin_id), ids], dim=1)
        size = self.config.tokens_per_image
        logits = self(input_ids=ids, logits_to_keep=size + 1).logits[:, :-1].float()
        losses = F.cross_entropy(logits.transpose(1, 2), ids[:, -size:], reduction="none")
        return losses.mean(1).exp()


def positions(
    mask: torch.Tensor | None, given: torch.Tensor | None, past: int, batch: int, length: int, device: torch.device
) -> torch.Tensor:
    """[B or 1, L] int64, places in the sentence: those given, else counted without padding."""
    if given is not None:
        return given
    if mask is not None and mask.ndim == 2:
        return (mask.long().cumsum(1) - 1).clamp(min=0)[:, -length:]
    return torch.arange(past, past + length, device=device).unsqueeze(0)


def flops_per_token(model: SimLVMForVisualSentence, length: int) -> float:
    """Floating-point operations of training on one token: 6 per weight of a matrix product, 12 of attention.

    Args:
        model: The model.
        length: L, tokens of a sequence; a token attends to half of them in the mean.

    Source: Kaplan et al. 2020 (https://arxiv.org/abs/2001.08361), section 2.1; PaLM (https://arxiv.org/abs/2204.02311),
    appendix B.
    """
    text = model.config.text_config
    embedding = model.get_input_embeddings()
    table = embedding.weight.numel() if isinstance(embedding, nn.Embedding) else 0
    weights = sum(parameter.numel() for parameter in model.language_model.parameters()) - table
    layers = getattr(text, "num_attention_layers", text.num_hidden_layers)
    return 6.0 * weights + 12.0 * layers * text.hidden_size * math.ceil(length / 2)


__all__ = ["SimLVMForVisualSentence", "flops_per_token"]
