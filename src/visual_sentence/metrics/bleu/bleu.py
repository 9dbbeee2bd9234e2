"""BLEU of captions, orders 1 to 4."""

import datasets
import evaluate

from visual_sentence.metrics import captions, streaming

DESCRIPTION = """
BLEU of captions over all pictures together, by sacrebleu, without smoothing, closest reference length, on words in
lower case without punctuation (as COCO's evaluation). Higher is better.
"""


class CaptionBleu(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=captions.INPUTS.format(returns="bleu1, bleu2, bleu3, bleu4, each in [0, 1]"),
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
            ),
        )

    def reduce(self, predictions, references):
        predictions, references = captions.check_captions(predictions, references)
        return {"predictions": predictions, "references": references}

    def _compute(self, predictions, references):
        return {**captions.bleu(predictions, references), "n": len(predictions)}
