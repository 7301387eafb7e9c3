"""The emotion task from configuration to report, on a tiny corpus in the layout of MSP-PODCAST."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from omegaconf import OmegaConf

REPOSITORY = Path(__file__).parents[4]
TINY = [
    "trainer=cpu",
    "data.num_workers=0",
    "data.batch_size=16",
    "data.batch_s=null",
    "model.optimizer.lr=3e-3",
    "report.n_bootstrap=20",
]
PATIENT = ["callbacks.hybrid_early_stopping.patience=100"]
SHORT_HEADS = ["model.net.category.hidden_dim=16"]


def environment_of(folder: Path) -> dict[str, str]:
    folders = {"HYDRAUDIO_LOG_DIR": str(folder / "logs"), "HYDRAUDIO_DATA_DIR": str(folder / "data")}
    return {**os.environ, **folders, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def start(folder: Path, *arguments: str, script: str = "src/train.py") -> subprocess.Popen:
    folder.mkdir(parents=True, exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY / script), *arguments],
        cwd=folder,
        env=environment_of(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, *arguments: str, script: str = "src/train.py", status: int = 0) -> str:
    process = start(folder, *arguments, script=script)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == status, output
    return output


def train(folder: Path, root: Path, experiment: str, *arguments: str) -> Path:
    """Run folder of an experiment on the tiny corpus."""
    run(folder, f"experiment=emotion/{experiment}", f"data.root={root}", "name=tiny", *TINY, *arguments)
    return folder / "logs" / "tiny" / "latest"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def logged(run_folder: Path, metric: str) -> list[float]:
    return [float(row[metric]) for row in rows(run_folder / "metrics.csv") if row.get(metric)]


def load(checkpoint: Path) -> dict:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


@pytest.fixture(scope="module")
def trained(msp_root, tmp_path_factory) -> Path:
    """Run folder of a short training of the dual head with gender, tested."""
    folder = tmp_path_factory.mktemp("trained")
    return train(folder, msp_root, "msp_wavlm_gender", "trainer.max_epochs=2", *PATIENT)


@pytest.mark.slow
def test_run_folder_is_complete(trained):
    for name in ("config.yaml", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt", "report/index.html"):
        assert (trained / name).is_file(), name
    for metric in ("val/macro_f1", "val/ccc", "val/smoothed_f1", "val/loss_threshold"):
        assert len(logged(trained, metric)) == 2, metric
    assert len(logged(trained, "test/macro_f1")) == 1
    assert len(rows(trained / "report" / "items.csv")) > 5


@pytest.mark.slow
def test_best_model_is_that_of_the_best_smoothed_score(trained):
    smoothed = logged(trained, "val/smoothed_f1")
    state = load(trained / "checkpoints" / "best.ckpt")["callbacks"]["HybridEarlyStopping"]
    assert state["best"] == pytest.approx(max(smoothed))
    assert state["best_event"] == 1 + int(np.argmax(smoothed))


@pytest.mark.slow
def test_eval_of_the_checkpoint_equals_the_test_after_training(trained, tmp_path):
    run(tmp_path, f"ckpt_path={trained}/checkpoints/best.ckpt", script="src/eval.py")
    after_training = rows(trained / "report" / "items.csv")
    evaluated = rows(tmp_path / "logs" / "eval" / "latest" / "report" / "items.csv")
    assert len(evaluated) == len(after_training)
    for ours, theirs in zip(evaluated, after_training, strict=True):
        for column, value in theirs.items():
            if is_number(value):
                assert float(ours[column]) == pytest.approx(float(value), rel=1e-4, abs=1e-5), column
            else:
                assert ours[column] == value


def is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


@pytest.mark.slow
def test_predict_of_other_rates_and_lengths(trained, tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "in" / "deep" / "stereo.wav", 0.1 * rng.standard_normal((200011, 2)), 44100)
    soundfile.write(tmp_path / "in" / "short.flac", 0.1 * rng.standard_normal(150), 8000)
    checkpoint = f"ckpt_path={trained}/checkpoints/best.ckpt"
    run(tmp_path, checkpoint, f"input={tmp_path}/in", f"output={tmp_path}/out", script="src/predict.py")
    found = rows(tmp_path / "out" / "emotions.csv")
    assert {row["file"] for row in found} == {"deep/stereo.wav", "short.flac"}
    classes = OmegaConf.load(trained / "config.yaml").model.class_names
    for row in found:
        assert sum(float(row[name]) for name in classes) == pytest.approx(1, abs=1e-3)
        assert 1 <= float(row["valence"]) <= 7


@pytest.mark.slow
def test_killed_and_resumed_ends_as_the_uninterrupted_run(msp_root, tmp_path):
    arguments = ["trainer.max_epochs=3", "test=false", "callbacks.last_checkpoint.every_n_steps=1", *PATIENT]
    whole = train(tmp_path / "whole", msp_root, "msp_wavlm_joint", *arguments)
    cut = tmp_path / "cut"
    last = cut / "logs" / "tiny" / "latest" / "checkpoints" / "last.ckpt"
    for delay_s in (0.0, 0.2):
        before = last.stat().st_mtime_ns if last.is_file() else 0
        resume = ["ckpt_path=last"] if before else []
        given = ["experiment=emotion/msp_wavlm_joint", f"data.root={msp_root}", "name=tiny", *TINY, *arguments, *resume]
        process = start(cut, *given)
        while process.poll() is None and not (last.is_file() and last.stat().st_mtime_ns > before):
            time.sleep(0.01)
        time.sleep(delay_s)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    resumed = train(cut, msp_root, "msp_wavlm_joint", *arguments, "ckpt_path=last")
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (load(folder / "checkpoints" / name) for folder in (resumed, whole))
        assert all(torch.equal(ours["state_dict"][key], theirs["state_dict"][key]) for key in theirs["state_dict"]), (
            name
        )
        states = [each["callbacks"]["HybridEarlyStopping"] | {"best_model_path": ""} for each in (ours, theirs)]
        assert states[0] == states[1], name
    assert logged(resumed, "val/macro_f1") == logged(whole, "val/macro_f1")


@pytest.mark.slow
def test_frozen_probe_keeps_its_features_and_resumes(msp_root, tmp_path):
    arguments = ["trainer.max_epochs=2", *PATIENT, *SHORT_HEADS]
    first = train(tmp_path, msp_root, "msp_frozen_probe", *arguments)
    scores = logged(first, "test/macro_f1")
    shards = sorted((tmp_path / "data" / "cache" / "features").glob("*/*.npy"))
    assert shards
    times = [path.stat().st_mtime_ns for path in shards]
    second = train(tmp_path, msp_root, "msp_frozen_probe", *arguments)
    assert sorted((tmp_path / "data" / "cache" / "features").glob("*/*.npy")) == shards
    assert [path.stat().st_mtime_ns for path in shards] == times
    assert logged(second, "test/macro_f1") == scores
    uncached = train(tmp_path, msp_root, "msp_frozen_probe", *arguments, "model.cache_features=null")
    assert logged(uncached, "test/loss") == pytest.approx(logged(second, "test/loss"), abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("experiment", "more"),
    [
        (
            "msp_wavlm_category",
            ["trainer.precision=bf16-mixed", "model/emotion/pooling=multi_head", "model/emotion/loss=focal"],
        ),
        ("msp_wavlm_attributes", ["model/emotion/gender=adversarial"]),
        ("msp_wavlm_joint", ["data.targets=soft_p", "model/emotion/loss=kl", "data.votes=true"]),
        ("msp_wavlm_category", ["data.classes=4", "data.sampling=balanced"]),
    ],
)
def test_variants_train_and_test(msp_root, tmp_path, experiment, more):
    folder = train(tmp_path, msp_root, experiment, "trainer.max_epochs=1", *more, *PATIENT)
    metric = "test/ccc" if "attributes" in experiment else "test/macro_f1"
    assert len(logged(folder, metric)) == 1
    assert (folder / "report" / "index.html").is_file()


@pytest.mark.slow
def test_two_processes_score_as_one(msp_root, tmp_path):
    arguments = ["trainer.max_epochs=1", *PATIENT]
    folder = train(tmp_path, msp_root, "msp_wavlm_category", *arguments, "trainer=ddp_sim")
    run(tmp_path, f"ckpt_path={folder}/checkpoints/best.ckpt", script="src/eval.py")
    alone = rows(tmp_path / "logs" / "eval" / "latest" / "report" / "items.csv")
    together = rows(folder / "report" / "items.csv")
    assert [row["id"] for row in together] == [row["id"] for row in alone]
    predicted = [row["prediction"] for row in alone]
    assert [row["prediction"] for row in together] == predicted
    assert len(logged(folder, "val/macro_f1")) == 1


@pytest.mark.slow
def test_other_classes_are_refused_in_evaluation(trained, tmp_path):
    arguments = [f"ckpt_path={trained}/checkpoints/best.ckpt", "+data.classes=4"]
    assert "class_names" in run(tmp_path, *arguments, script="src/eval.py", status=1)


@pytest.mark.slow
def test_a_list_of_experiments_leaks_nothing(msp_root, tmp_path):
    """`-m experiment=a,b` composes each as alone."""
    names = ("msp_wavlm_gender", "msp_frozen_probe", "msp_wavlm_category")
    given = ["train=false", "test=false", f"data.root={msp_root}", "trainer=cpu"]
    run(tmp_path / "together", "-m", f"experiment={','.join(f'emotion/{name}' for name in names)}", *given)
    for name in names:
        run(tmp_path / name, f"experiment=emotion/{name}", *given)
    folders = sorted((tmp_path / "together" / "logs").glob("*/*_[0-9]"), key=lambda path: int(path.name.split("_")[-1]))
    assert len(folders) == len(names)
    for folder, name in zip(folders, names, strict=True):
        alone = next((tmp_path / name / "logs" / name).glob("*/config.yaml"))
        together = OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"))
        expected = OmegaConf.to_container(OmegaConf.load(alone))
        for config in (together, expected):
            del config["paths"]
        assert json.loads(json.dumps(together)) == json.loads(json.dumps(expected)), name


def test_one_batch_can_be_overfitted(msp_root, tmp_path):
    """In one process and with the real pieces: the way from labels on disk to a loss near zero."""
    from functools import partial

    from hydraudio.core.torchaudio_standin import install_torchaudio_standin
    from hydraudio.losses.classification import CrossEntropy
    from hydraudio.losses.combination import FixedWeights
    from hydraudio.tasks.emotion.corpora.msp_podcast.datamodule import MSPPodcastDataModule
    from hydraudio.tasks.emotion.losses import ConcordanceLoss
    from hydraudio.tasks.emotion.networks.heads import AttributeHead, ClassifierHead
    from hydraudio.tasks.emotion.networks.network import EmotionNetwork
    from hydraudio.tasks.emotion.networks.normalization import WaveformNormalization
    from hydraudio.tasks.emotion.networks.pooling import MeanStd
    from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream
    from hydraudio.tasks.emotion.task import EmotionTask

    install_torchaudio_standin()
    torch.manual_seed(0)
    splits = {"train": ["Train"], "val": ["Development"], "test": ["Test1"]}
    options = {"batch_size": 6, "max_train_samples": 6, "cache_dir": str(tmp_path)}
    data = MSPPodcastDataModule(root=str(msp_root), splits=splits, **options)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    category = partial(ClassifierHead, n_classes=8, hidden_dim=32, dropout=0.0)
    attributes = partial(AttributeHead, attribute_names=data.attribute_names, hidden_dim=32, dropout=0.0)
    upstream = Upstream(trainable_blocks=0, layers="all")
    normalization = WaveformNormalization(data.waveform_mean, data.waveform_std)
    net = EmotionNetwork(upstream, MeanStd, category, attributes, normalization=normalization, normalize_states=True)
    task = EmotionTask(
        net,
        losses={"category": CrossEntropy(), "attributes": ConcordanceLoss()},
        balance=FixedWeights({"category": 1.0, "attributes": 1.0}),
        class_names=data.class_names,
        attribute_names=data.attribute_names,
        optimizer=partial(torch.optim.AdamW, lr=1e-2),
    ).train()
    before = task.evaluate_batch(batch)["loss"].item()
    features = {"features": net.statistics(batch["waveform"], batch["lengths"]), "frame_lengths": torch.ones(6)}
    optimizer = task.configure_optimizers()
    for _ in range(200):
        optimizer.zero_grad()
        task.evaluate_batch(batch | features)["loss"].backward()
        optimizer.step()
    assert task.evaluate_batch(batch)["loss"].item() < 0.1 * before


@pytest.mark.slow
def test_a_checkpoint_of_other_classes_is_refused(msp_root, tmp_path):
    classes = ["data.classes=[Angry,Sad,Happy,Neutral]", "data.classes=[Neutral,Happy,Sad,Angry]"]
    common = ["trainer.max_epochs=1", "test=false", *PATIENT]
    folder = train(tmp_path, msp_root, "msp_wavlm_category", *common, classes[0])
    file = f"{folder}/checkpoints/best.ckpt"
    for given in (["ckpt_path=last"], [f"ckpt_path={file}", "train=false", "test=true"], [f"init_from={file}"]):
        arguments = ["experiment=emotion/msp_wavlm_category", f"data.root={msp_root}", "name=tiny", *TINY, *common]
        text = run(tmp_path, *arguments, classes[1], *given, status=1)
        assert "the data has class_names=['Neutral', 'Happy', 'Sad', 'Angry']" in text, given
    assert sorted(path.name for path in folder.parent.iterdir()) == sorted([folder.resolve().name, "latest"])
