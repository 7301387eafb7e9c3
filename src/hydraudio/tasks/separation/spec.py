"""Speech separation and enhancement as a value: a mixture in, one waveform per source out."""

from hydraudio.core.spec import Axes, Block, Card, Metric, TaskSpec

_PAGE = "hydraudio.tasks.separation.report/page.html"

SPEC = TaskSpec(
    name="separation",
    batch={
        "mixture": Axes("batch time", unit="[-1, 1]"),
        "target": Axes("batch sources time", unit="[-1, 1]"),
        "lengths": Axes("batch", "int64", "samples"),
    },
    outputs={"estimate": Axes("batch sources time", unit="[-1, 1]")},
    metrics=(
        Metric("si_sdri", "SI-SDRi", unit="dB", digits=2, main=True),
        Metric("pesq", "PESQ", digits=2, main=True, package="pesq"),
        Metric("stoi", "STOI", digits=3, main=True, package="pystoi"),
        Metric("si_sdr", "SI-SDR", unit="dB", digits=2),
        Metric("loss", "Loss", better="lower", digits=4),
    ),
    agree=("sample_rate", "n_sources"),
    resampled="recording",
    blocks=(
        Block("lead", "", _PAGE),
        Block("listen", "Listen"),
        Block("summary", "Per variant", _PAGE),
        Block("charts", "Charts", _PAGE),
        Block("curves", "Learning curves"),
        Block("slices", "Slices", _PAGE),
        Block("problems", "Unscorable items", _PAGE),
        Block("about", "What was tested"),
    ),
    card=Card(
        pipeline_tag="audio-to-audio",
        tags=("audio-source-separation", "speech-separation", "speech"),
        limits="For research. Recordings that are unlike the training data are separated worse.",
        license_note=(
            "Weights inherit the terms of the recordings that they were trained on: check the licence of the corpus "
            "before you use or pass on this model."
        ),
    ),
    inputs=("mixture",),
    problem="problem",
    group="variant",
    listening="hydraudio.tasks.separation.listen.SeparationListening",
)
