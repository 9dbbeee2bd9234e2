"""Dice coefficient of masks and label maps."""

from visual_sentence.metrics import segmentation


class Dice(segmentation.OverlapMetric):
    """See `inputs_description`."""

    measure = "dice"
    summary = "Dice coefficient, 2 |A and B| / (|A| + |B|), of masks and label maps. Higher is better, 1 is equal."
