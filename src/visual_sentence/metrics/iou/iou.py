"""Intersection over union of masks and label maps."""

from visual_sentence.metrics import segmentation


class IoU(segmentation.OverlapMetric):
    """See `inputs_description`."""

    measure = "iou"
    summary = "Intersection over union, |A and B| / |A or B|, of masks and label maps. Higher is better, 1 is equal."
