"""The picture of a confusion matrix."""

import io

import numpy as np
import pytest

from hydraudio.report.heatmap_image import confusion_png


def test_the_picture_of_the_confusion_shows_every_cell() -> None:
    image_module = pytest.importorskip("PIL.Image")
    confusion = np.array([[90, 10], [0, 50]])
    image = np.asarray(image_module.open(io.BytesIO(confusion_png(confusion, ["Angry", "Neutral"]))).convert("RGB"))
    full = np.argwhere((image == (30, 66, 160)).all(-1))  # 100 % is dark
    assert len(full) > 3000
    assert full[:, 0].min() > image.shape[0] / 2  # and lies in the lower row
    assert full[:, 1].min() > image.shape[1] / 2  # and the right column
    empty = (image == (238, 243, 253)).all(-1)  # 0 % is light
    assert empty[full[0, 0] + 5, full[0, 1] - 50]
