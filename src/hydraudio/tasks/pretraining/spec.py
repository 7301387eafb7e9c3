"""Masked-autoencoder pretraining as a value: a clip in, an embedding out; class probabilities after fine-tuning."""

from hydraudio.core.spec import Axes, Block, Card, Metric, TaskSpec

_PAGE = "hydraudio.tasks.pretraining.report/page.html"

SPEC = TaskSpec(
    name="pretraining",
    batch={
        "waveform": Axes("batch time", unit="[-1, 1]"),
        "lengths": Axes("batch", "int64", "samples"),
        "label": Axes("batch", "int64", "class index; -1 where there is none, or several"),
        "target": Axes("batch classes", unit="probability; a row of zeros where there is no label"),
    },
    outputs={
        "embedding": Axes("batch channels"),
        "probabilities": Axes("batch classes", unit="probability"),
    },
    metrics=(
        Metric("accuracy", "Accuracy", main=True),
        Metric("macro_f1", "Macro-F1", main=True),
        Metric("mean_ap", "Mean average precision", main=True),
        Metric("loss", "Loss", better="lower", digits=4, main=True),
        Metric("relative_loss", "Loss by that of the mean", better="lower", main=True),
        Metric("knn_accuracy", "kNN accuracy", main=True),
        Metric("rankme", "RankMe", digits=1),
        Metric("baseline_loss", "Loss of the mean", better="lower", digits=4),
        Metric("visible_loss", "Loss of visible patches", better="lower", digits=4),
        Metric("uar", "UAR"),
        Metric("weighted_f1", "Weighted F1"),
        Metric("top2", "Top-2 accuracy"),
        Metric("nll", "Negative log-likelihood", unit="nats", better="lower"),
        Metric("brier", "Brier score", better="lower"),
        Metric("ece", "Expected calibration error", better="lower"),
        Metric("ece_scaled", "Expected calibration error after temperature", better="lower"),
        Metric("nll_scaled", "Negative log-likelihood after temperature", unit="nats", better="lower"),
    ),
    agree=("sample_rate", "class_names"),
    resampled="source",
    blocks=(
        Block("lead", "", _PAGE),
        Block("listen", "Look and listen"),
        Block("summary", "Scores", _PAGE),
        Block("classes", "Per class", _PAGE),
        Block("confusion", "Confusion", _PAGE),
        Block("calibration", "Calibration", _PAGE),
        Block("slices", "Slices", _PAGE),
        Block("curves", "Learning curves"),
        Block("about", "What was tested"),
    ),
    card=Card(
        pipeline_tag="feature-extraction",
        tags=("audio", "masked-autoencoder", "self-supervised-learning"),
        limits=(
            "An encoder of sound, for research. It was trained to fill in what was hidden of spectrograms; what its "
            "embedding tells apart depends on the recordings that it was trained on, and is measured, not promised "
            "(see below)."
        ),
        license_note=(
            "Weights inherit the terms of the recordings that they were trained on: ESC-50 may not be used "
            "commercially (CC BY-NC), and the clips of other collections have a licence each."
        ),
        metric_types={
            "macro_f1": "f1",
            "weighted_f1": "f1",
            "uar": "recall",
            "top2": "accuracy",
            "knn_accuracy": "accuracy",
            "ece_scaled": "ece",
            "nll_scaled": "nll",
        },
    ),
    inputs=("waveform", "lengths"),
    problem="protocol",
    names={"classes": "class_names"},
    heads={"class_names": ("net.head.output",)},
)
