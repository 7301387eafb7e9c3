"""Speech emotion recognition as a value: an utterance in, probabilities of categories, attributes or both out."""

from hydraudio.core.spec import Axes, Card, Metric, TaskSpec

SPEC = TaskSpec(
    name="emotion",
    batch={
        "waveform": Axes("batch time", unit="[-1, 1]"),
        "lengths": Axes("batch", "int64", "samples"),
        "target": Axes("batch classes", unit="probability; a row of zeros where there is no label"),
        "label": Axes("batch", "int64", "class index; -1 where there is no label"),
        "attributes": Axes("batch attributes", unit="[0, 1]; NaN where unknown"),
        "gender": Axes("batch", "int64", "index; -1 where unknown"),
    },
    outputs={
        "probabilities": Axes("batch classes", unit="probability"),
        "attributes": Axes("batch attributes", unit="[0, 1]"),
    },
    metrics=(
        Metric("macro_f1", "Macro-F1"),
        Metric("uar", "UAR"),
        Metric("accuracy", "Accuracy"),
        Metric("ccc", "CCC", parts="attribute_names"),
        Metric("weighted_f1", "Weighted F1"),
        Metric("top2", "Top-2 accuracy"),
        Metric("nll", "Negative log-likelihood", unit="nats", better="lower"),
        Metric("brier", "Brier score", better="lower"),
        Metric("ece", "Expected calibration error", better="lower"),
        Metric("ece_scaled", "Expected calibration error after temperature", better="lower"),
        Metric("nll_scaled", "Negative log-likelihood after temperature", unit="nats", better="lower"),
        Metric("pearson", "Pearson correlation", parts="attribute_names"),
        Metric("rmse", "Root mean square error, scale 1 to 7", better="lower", parts="attribute_names"),
        Metric("loss", "Loss", better="lower", digits=4, parts="heads"),
    ),
    agree=("sample_rate", "class_names", "attribute_names"),
    resampled="speaker",
    blocks=(),
    card=Card(
        pipeline_tag="audio-classification",
        tags=("speech-emotion-recognition", "emotion", "speech"),
        limits=(
            "For research on how emotion is perceived in speech. Labels are the perceptions of raters, not what a "
            "speaker felt. Scores differ between speakers and groups of speakers (see below) and fall on other "
            "recordings, languages and cultures. Not for decisions about people: hiring, policing, health, education, "
            "credit."
        ),
        license_note=(
            "Emotional speech corpora such as MSP-PODCAST are given out under academic licences. Weights trained on "
            "them are usually not free for commercial use: check the licence of the corpus before you use or pass on "
            "this model."
        ),
        metric_types={
            "macro_f1": "f1",
            "weighted_f1": "f1",
            "uar": "recall",
            "top2": "accuracy",
            "ece_scaled": "ece",
            "nll_scaled": "nll",
        },
    ),
    inputs=("waveform", "lengths"),
    names={"classes": "class_names", "attributes": "attribute_names"},
)
