"""Small tokenizers, language models with random weights and a made-up episode."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from visual_sentence.few_shot import Example

VOCAB_SIZE = 420
CORPUS = [
    "The words describe a photo. The photo shows one of: goldfish, French bulldog, dog, dog sled.\n\n",
    "Words: fishes, gold, aquarium, puppy, canine, winter, snow\nThe photo shows: goldfish\n\n",
    "For each of the following input-output pairs, output is one of. Input: fishes gold, output: dog.",
    "###\nInput: < fishesgold >\nOutput: French_bulldog###\nInput: < canine >\nOutput: dog_sled N/A",
]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def bpe_tokenizer():
    """Byte-level BPE without a begin token, as GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@pytest.fixture(scope="session")
def metaspace_tokenizer():
    """As LLaMA's sentencepiece: spaces as ▁, one put before the text, and a begin token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=[chr(code) for code in range(32, 127)],
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def _llama_like(config_class, model_class, **settings):
    torch.manual_seed(0)
    config = config_class(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        # Wide weights make confident models, whose choices do not hang on the last digit.
        initializer_range=0.3,
        **settings,
    )
    return model_class(config).eval()


@pytest.fixture(scope="session")
def llama():
    return _llama_like(LlamaConfig, LlamaForCausalLM, max_position_embeddings=1024)


@pytest.fixture(scope="session")
def mistral():
    """Attends to the last 12 tokens only, far fewer than a prompt has."""
    return _llama_like(MistralConfig, MistralForCausalLM, sliding_window=12, max_position_embeddings=1024)


@pytest.fixture(scope="session")
def gpt2():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCAB_SIZE, n_embd=32, n_layer=2, n_head=4, n_positions=1024, initializer_range=0.3)
    return GPT2LMHeadModel(config).eval()


@pytest.fixture(scope="session")
def class_names():
    """Labels of different lengths, one of them the beginning of another."""
    return ["goldfish", "French bulldog", "dog", "dog sled"]


@pytest.fixture(scope="session")
def support(class_names):
    words = [("fishes", "gold"), ("canine", "breeds", "puppy"), ("puppy",), ("winter", "snow", "canine")]
    return [Example(image, label) for image, label in zip(words, class_names, strict=True)]


@pytest.fixture(scope="session")
def queries():
    """Queries of different lengths that begin differently."""
    return [
        ("aquarium", "gold"),
        ("snow",),
        ("canine", "puppy", "breeds", "fishes"),
        ("gold", "winter", "snow"),
    ]
