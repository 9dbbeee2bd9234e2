"""Tiny stand-ins for a language model and a joint encoder: random weights, trained nowhere, fixed seeds."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SENTENCES = [
    "a photo of a golden retriever on the grass",
    "a photo of two cats and a dog near the sofa",
    "Cats and dogs: a photo of many animals!",
    "the kingfisher, a small blue bird, sat near the river",
    "a photo of an old fire engine in the city at night",
    "sports cars and old cars were parked near the tower",
    "strawberries, berries and a café with naïve paintings",
]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE, as most language models use it, with two special tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=["<eos>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(SENTENCES * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<eos>", pad_token="<pad>")


@pytest.fixture(scope="session")
def language_model(tokenizer) -> LlamaForCausalLM:
    """A Llama of two layers whose greedy continuations differ from entry to entry."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer) + 12,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        initializer_range=0.3,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config).eval()


class TinyEncoder:
    """A random BERT for texts, case ignored, and a random projection for images, into one space."""

    name = "tiny-encoder"
    embedding_dim = 16
    whole = frozenset(["cat", "cats", "dog", "dogs", "old", "near", "the", "bird", "photo"])

    def __init__(self):
        torch.manual_seed(1)
        config = BertConfig(
            vocab_size=300,
            hidden_size=self.embedding_dim,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=32,
        )
        self.bert = BertModel(config, add_pooling_layer=False).eval()
        self.image_projection = torch.randn(8 * 8 * 3, self.embedding_dim)
        self.encoded: list[list[int]] = []
        self.images_seen = 0
        self.fail_after: int | None = None

    def tokenize(self, texts):
        return [[256, *text.lower().encode(), 257] for text in texts]

    @torch.inference_mode()
    def encode_token_ids(self, batch):
        if self.fail_after is not None and len(self.encoded) >= self.fail_after:
            raise KeyboardInterrupt
        self.encoded.extend(batch)
        longest = max(map(len, batch))
        ids = torch.tensor([[*ids, *[258] * (longest - len(ids))] for ids in batch])
        mask = (ids != 258).long()
        states = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        mean = (states * mask.unsqueeze(-1)).sum(1) / mask.sum(1, keepdim=True)
        return F.normalize(mean, dim=-1)

    def encode_images(self, images):
        if self.fail_after is not None and self.images_seen >= self.fail_after:
            raise KeyboardInterrupt
        self.images_seen += len(images)
        pixels = torch.stack([torch.from_numpy(np.asarray(image, dtype=np.float32)).flatten() for image in images])
        return F.normalize((pixels / 127.5 - 1) @ self.image_projection, dim=-1)

    def whole_words(self, texts):
        return [all(word.lower() in self.whole for word in text.split()) for text in texts]


@pytest.fixture
def encoder() -> TinyEncoder:
    return TinyEncoder()


@pytest.fixture
def images() -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 8, 8, 3), dtype=np.uint8)
    return [Image.fromarray(array) for array in pixels]
