"""Filling masked tokens from left to right, known ones forced: batched on a key-value cache, and the plain way.

Knows tokens and a causal language model, no pictures.
"""

from hashlib import sha256

import torch
from transformers import DynamicCache, PreTrainedModel

from ..completion.prefix_cache import SharedPrefix, can_share_cache, last_logits
from ..completion.questions import batches
from ..errors import UserError
from ..restoration.local_tokens import LocalTokensOnly
from .sequences import ImageSequences

MASK_RATIO = 0.3  # paper, section 4.3


def random_known(maps: torch.Tensor, ratio: float = MASK_RATIO, seed: int = 0) -> torch.Tensor:
    """Which tokens of pictures are left: drawn for each by the seed and its own tokens, whatever stands beside it.

    Args:
        maps: [N, h, w] int64, local tokens.
        ratio: Share of a picture's tokens that is masked, in (0, 1); their number is rounded and at least 1.
        seed: Of all masks.

    Returns:
        [N, h, w] bool, True where a token is known.

    Raises:
        UserError: If the ratio is not a share.
    """
    if not 0 < ratio < 1:
        raise UserError(f"The share of masked tokens is {ratio}, but has to lie between 0 and 1: 0.3 is the paper's.")
    known = torch.ones(maps.flatten(1).shape, dtype=torch.bool)
    length = known.shape[1]
    for row, tokens in zip(known, maps.flatten(1).tolist(), strict=True):
        digest = sha256(f"{seed} {tokens}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))
        row[torch.randperm(length, generator=generator)[: max(1, round(ratio * length))]] = False
    return known.view(maps.shape)


class MaskedRestorer:
    """Restores masked local tokens with a causal language model, greedily and in raster order.

    A masked token becomes the likeliest local token behind everything in front of it; a known one stays what it is.
    What stands behind a hole is not looked at: the model reads from left to right.

    Args:
        model: A causal language model, tuned or not.
        codebook_size: K; ids from 0 to K - 1 are local tokens.
        batch_size: The most pictures in one forward pass.
        use_cache: False asks with the whole sequence for every masked token and every picture: slow, and what the
            cached way is compared with.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        codebook_size: int,
        batch_size: int = 32,
        use_cache: bool = True,
    ):
        self.model = model.eval()
        self.only_local = LocalTokensOnly(codebook_size)
        self.batch_size = batch_size
        self.use_cache = use_cache and can_share_cache(model)

    @torch.inference_mode()
    def restore(self, sequences: ImageSequences, known: torch.Tensor) -> torch.Tensor:
        """Fills the masked tokens of N pictures.

        Args:
            sequences: Their tokens; what stands in masked places is not read.
            known: [N, h, w] bool, False where a token is masked.

        Returns:
            [N, h, w] int64: the known tokens, and the model's where they were masked.
        """
        if not self.use_cache:
            rows = [self._restore_plainly(sequences[[row]], known[row]) for row in range(len(sequences))]
            return torch.stack(rows)
        restored = sequences.maps.clone()
        mixed = SharedPrefix(self.model).allows_padding
        for rows in batches([len(prefix) for prefix in sequences.prefixes], self.batch_size, mixed):
            restored[rows] = self._restore_batch(sequences[rows], known[rows])
        return restored

    def _restore_batch(self, sequences: ImageSequences, known: torch.Tensor) -> torch.Tensor:
        """The cached way, for one batch: tokens that are known in all of its pictures go in together."""
        inputs = sequences.inputs(self.model.device)
        mask, positions = inputs["attention_mask"], inputs["position_ids"]
        tokens, is_known = inputs["input_ids"], known.flatten(1).to(self.model.device)
        start = tokens.shape[1] - is_known.shape[1]
        asked = [place for place, column in enumerate(is_known.T) if not column.all()]
        cache, done = DynamicCache(config=self.model.config.get_text_config(decoder=True)), 0
        for place in asked:
            end = start + place
            logits = last_logits(
                self.model,
                input_ids=tokens[:, done:end],
                attention_mask=mask[:, :end],
                position_ids=positions[:, done:end],
                cache=cache,
            )
            found = self.only_local(tokens[:, :end], logits[:, -1].float()).argmax(-1)
            tokens[:, end] = torch.where(is_known[:, place], tokens[:, end], found)
            done = end
        return tokens[:, start:].reshape(sequences.maps.shape).cpu()

    def _restore_plainly(self, sequence: ImageSequences, known: torch.Tensor) -> torch.Tensor:
        """The plain way, for one picture."""
        tokens, prefix = sequence.maps.flatten().clone(), sequence.prefixes[0]
        for place in (~known.flatten()).nonzero().flatten().tolist():
            input_ids = torch.tensor([[*prefix, *tokens[:place].tolist()]], device=self.model.device)
            logits = last_logits(self.model, input_ids=input_ids)[:, -1].float()
            tokens[place] = self.only_local(input_ids, logits).argmax(-1)[0].cpu()
        return tokens.reshape(known.shape)
