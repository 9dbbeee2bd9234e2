"""CIDEr-D of captions."""

import datasets
import evaluate

from visual_sentence.metrics import captions, image_quality, streaming

DESCRIPTION = """
CIDEr-D of captions, by its authors' code: tf-idf weighted cosine of 1 to 4 grams, clipped, with a penalty for length,
times 10, mean over pictures, on words in lower case without punctuation. Document frequencies come from the references
that are given, so sets of different pictures cannot be compared. Higher is better.
"""


class CaptionCider(streaming.StreamingMetric):
    """See `inputs_description`."""

    def _info(self):
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation="",
            inputs_description=captions.INPUTS.format(returns="cider in [0, 10]"),
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.List(datasets.Value("string"))}
            ),
        )

    def reduce(self, predictions, references):
        predictions, references = captions.check_captions(predictions, references)
        return {"predictions": predictions, "references": references}

    def _compute(self, predictions, references):
        mean = image_quality.RunningMean()
        mean.update(captions.cider(predictions, references))
        return {"cider": mean.mean, "n": mean.n}
