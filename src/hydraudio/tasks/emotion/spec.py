"""Speech emotion recognition as a value: an utterance in, probabilities of categories, attributes or both out."""

from hydraudio.core.spec import Axes, Block, Card, Metric, Pin, TaskSpec

_CLASSES, _PAGE = "classification.html", "hydraudio.tasks.emotion.report/page.html"

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
        Metric("macro_f1", "Macro-F1", main=True),
        Metric("uar", "UAR", main=True),
        Metric("accuracy", "Accuracy", main=True),
        Metric("ccc", "CCC", parts="attribute_names", main=True),
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
    blocks=(
        Block("lead", "", _CLASSES),
        Block("listen", "Listen"),
        Block("summary", "Scores", _CLASSES),
        Block("classes", "Per class", _CLASSES),
        Block("confusion", "Confusion", _CLASSES),
        Block("calibration", "Calibration", _CLASSES),
        Block("attributes", "Attributes", _PAGE),
        Block("slices", "Slices", _CLASSES),
        Block("gender", "Gender", _PAGE),
        Block("speakers", "Speakers", _PAGE),
        Block("curves", "Learning curves"),
        Block("about", "What was tested"),
    ),
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
        sharing="hydraudio.tasks.emotion.sharing.EmotionSharing",
    ),
    inputs=("waveform", "lengths"),
    pretrained={  # configs/model/emotion/upstream, with the SHA-256 of their pytorch_model.bin
        "microsoft/wavlm-base-plus": Pin(
            "4c66d4806a428f2e922ccfa1a962776e232d487b",
            "3bb273a6ace99408b50cfc81afdbb7ef2de02da2eab0234e18db608ce692fe51",
        ),
        "microsoft/wavlm-large": Pin(
            "c1423ed94bb01d80a3f5ce5bc39f6026a0f4828c",
            "fdee460e529396ddb2f8c8e8ce0ad74cfb747b726bc6f612e666c7c1e1963c9d",
        ),
        "facebook/hubert-base-ls960": Pin(
            "dba3bb02fda4248b6e082697eee756de8fe8aa8a",
            "062249fffb353eab67547a2fbc129f7c31a2f459faf641b19e8fb007cc5c48ad",
        ),
        "facebook/wav2vec2-base": Pin(
            "0b5b8e868dd84f03fd87d01f9c4ff0f080fecfe8",
            "3249fe98bfc62fcbc26067f724716a6ec49d12c4728a2af1df659013905dff21",
        ),
    },
    problem="classes",
    names={"classes": "class_names", "attributes": "attribute_names"},
    heads={"class_names": ("net.category.output",), "attribute_names": ("net.attributes.output",)},
    listening="hydraudio.tasks.emotion.listen.EmotionListening",
)
