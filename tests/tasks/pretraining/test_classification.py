"""The classification task on a tiny corpus: what it learns, how fast each layer does, exact resume, scores, export."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer, seed_everything
from torch import Tensor

from hydraudio.core.callbacks.checkpoint_contents import CheckpointContents
from hydraudio.losses.classification import CrossEntropy, WeightedBinaryCrossEntropy
from hydraudio.metrics.classification import SCALARS
from hydraudio.nn.frontends.mel import LogMel
from hydraudio.nn.frontends.standardize import Standardize
from hydraudio.tasks.pretraining.augmentation import Mixup, SpecAugment
from hydraudio.tasks.pretraining.classification import ClassificationTask, layer_numbers, mean_average_precision
from hydraudio.tasks.pretraining.corpora.esc50 import ESC50DataModule
from hydraudio.tasks.pretraining.networks.blocks import FeedForward, PlainBlock
from hydraudio.tasks.pretraining.networks.classifier import EncoderClassifier
from hydraudio.tasks.pretraining.networks.encoder import Encoder
from hydraudio.tasks.pretraining.networks.positions import Learned

CLASSES = ["dog", "rain", "footsteps"]
QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}


def encoder_of(depth: int = 2, drop_path: float = 0.0, width: int = 16) -> Encoder:
    ffn = functools.partial(FeedForward, ratio=2.0, activation="gelu")
    block = functools.partial(PlainBlock, ffn=ffn, qkv_bias=True)
    return Encoder(
        {"n_frames": 50, "n_bins": 40, "patch": (10, 20)}, width, depth, 2, block, Learned, drop_path=drop_path
    )


def task_of(encoder: Encoder | None = None, patch_drop: float = 0.0, **options: Any) -> ClassificationTask:
    torch.manual_seed(0)
    net = EncoderClassifier(encoder or encoder_of(), len(CLASSES), patch_drop=patch_drop)
    arguments: dict[str, Any] = {
        "frontend": LogMel(n_bins=40),
        "standardize": Standardize("corpus", n_bins=40),
        "class_names": CLASSES,
        "loss": CrossEntropy(),
        "optimizer": functools.partial(torch.optim.AdamW, lr=1e-3),
        "reference_batch": None,
    }
    return ClassificationTask(net, **{**arguments, **options})


@pytest.fixture
def corpus(esc50_root: Path, tmp_path: Path):
    def make(**options: Any) -> ESC50DataModule:
        usual = {"root": str(esc50_root), "cache_dir": str(tmp_path), "crop_s": 0.5, "batch_size": 8}
        return ESC50DataModule(**{**usual, **options})

    return make


def trainer_of(**options: Any) -> Trainer:
    return Trainer(accelerator="cpu", **{**QUIET, **options})


def weights_of(task: ClassificationTask) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in task.state_dict().items()}


def test_what_is_logged_is_what_the_task_says(corpus):
    task, trainer = task_of(), trainer_of(max_epochs=1)
    trainer.fit(task, corpus())
    assert set(trainer.callback_metrics) == {*task.metric_names("train"), *task.metric_names("val")}
    trainer.test(task, corpus(), verbose=False)
    assert set(trainer.callback_metrics) == set(task.metric_names("test"))
    assert set(task.metric_names("test")) == {f"test/{name}" for name in ("loss", *SCALARS)}


@pytest.mark.slow
def test_one_batch_is_learned_by_heart(corpus):
    task, data = task_of(), corpus(crop_s=None)
    trainer_of(max_epochs=1, limit_train_batches=0, limit_val_batches=0).fit(task, data)  # the statistics
    batch = next(iter(data.train_dataloader()))
    optimizer = torch.optim.Adam(task.net.parameters(), lr=5e-3)
    for _ in range(60):
        optimizer.zero_grad()
        counts = task.spectrogram.frame_counts(batch["lengths"])
        spectrogram = task.spectrogram(batch["waveform"], batch["lengths"])
        loss = task.mean_loss(task.net(spectrogram, counts), batch["target"])
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert (task.predict(batch)["probabilities"].argmax(1) == batch["label"]).all()


def test_rates_fall_by_the_decay_from_layer_to_layer(corpus):
    """scale_i = decay^(N + 1 - i): 0 before the blocks, i in block i, N + 1 for the norm and the head."""
    task = task_of(encoder_of(depth=3), layer_decay=0.5, optimizer=functools.partial(torch.optim.AdamW, lr=0.8))
    trainer = trainer_of(max_epochs=1, limit_train_batches=0, limit_val_batches=0)
    trainer.fit(task, corpus())
    rates, decays = {}, {}
    for group in task.configure_optimizers().param_groups:
        for parameter in group["params"]:
            assert parameter not in rates
            rates[parameter], decays[parameter] = group["lr"], group["weight_decay"]
    names = dict(task.net.named_parameters())
    assert set(rates) == set(names.values())
    expected = {
        "encoder.cls_token": 0.05,
        "encoder.patch_embedding.weight": 0.05,
        "encoder.positions.table": 0.05,
        "encoder.blocks.0": 0.1,
        "encoder.blocks.1": 0.2,
        "encoder.blocks.2": 0.4,
        "encoder.norm": 0.8,
        "head": 0.8,
    }
    for prefix, rate in expected.items():
        found = {round(rates[value], 9) for name, value in names.items() if name.startswith(prefix)}
        assert found == {rate}, prefix
    for name, value in names.items():
        assert decays[value] == (0.0 if value.ndim <= 1 else pytest.approx(0.01)), name
    assert set(layer_numbers(task.net.encoder).values()) == {0, 1, 2, 3}


def test_the_rate_grows_with_the_items_of_a_step(corpus):
    task = task_of(reference_batch=32, layer_decay=1.0)
    trainer_of(max_epochs=1, limit_train_batches=0, limit_val_batches=0, accumulate_grad_batches=2).fit(task, corpus())
    assert {round(group["lr"], 9) for group in task.configure_optimizers().param_groups} == {1e-3 * 8 * 2 / 32}


def test_a_resumed_training_ends_with_the_same_weights(corpus, tmp_path):
    """With everything that is drawn: mixup, masks, left-out patches and blocks."""
    random = {"mixup": Mixup(p=0.7), "augment": SpecAugment(), "patch_drop": 0.3}

    def fit(n_epochs: int, seed: int, **options: Any) -> tuple[ClassificationTask, Trainer]:
        seed_everything(seed, verbose=False)
        (tmp_path / "config.yaml").write_text("model: {}")
        contents = CheckpointContents(tmp_path / "config.yaml")  # of the global random state: left-out patches, blocks
        task = task_of(encoder_of(drop_path=0.2), **random)
        trainer = trainer_of(max_epochs=n_epochs, callbacks=[contents])
        trainer.fit(task, corpus(), **options)
        return task, trainer

    whole, _ = fit(3, seed=1)
    _, first = fit(2, seed=1)
    first.save_checkpoint(tmp_path / "two.ckpt")
    resumed, _ = fit(3, seed=2, ckpt_path=tmp_path / "two.ckpt", weights_only=True)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(resumed)[name]), name


def test_draws_depend_on_seed_and_step_and_leave_the_global_state_alone(corpus):
    def first_loss(seed: int, global_seed: int) -> float:
        seed_everything(global_seed, verbose=False)
        task = task_of(mixup=Mixup(p=1.0), augment=SpecAugment(0.5, 0.5), seed=seed)
        trainer = trainer_of(max_steps=1, limit_val_batches=0)
        trainer.fit(task, corpus())
        return float(trainer.callback_metrics["train/loss"])

    task_of()
    assert first_loss(3, 0) == first_loss(3, 1)
    assert first_loss(3, 0) != first_loss(4, 0)


def test_padding_and_company_change_no_prediction(corpus):
    """Whole clips of unequal lengths: a clip alone gives what it gives in a batch."""
    task = task_of().eval()
    waveform = 0.1 * torch.randn(3, 30000, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([30000, 12345, 700])
    for row, n in zip(waveform, lengths, strict=True):
        row[n:] = 0.0
    together = task.predict({"waveform": waveform, "lengths": lengths})["logits"]
    for k, n in enumerate(lengths.tolist()):
        alone = task.predict_waveform(waveform[k : k + 1, :n])["logits"]
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-5, rtol=1e-4)


def test_the_scores_of_the_whole_set_are_no_means_over_batches(corpus):
    scores = []
    for batch_size in (2, 9):
        trainer = trainer_of()
        trainer.test(task_of(), corpus(eval_batch_size=batch_size), verbose=False)
        scores.append({name: float(value) for name, value in trainer.callback_metrics.items()})
    assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_mean_average_precision_of_classes_that_occur():
    probabilities = torch.tensor([[0.9, 0.2, 0.5], [0.8, 0.7, 0.1], [0.1, 0.6, 0.3], [0.4, 0.9, 0.9]])
    target = torch.tensor(
        [[1.0, 0, 0], [0, 1, 0], [1, 1, 0], [0, 0, 0]]
    )  # the last has no label, the last class no item
    first = (1 / 1 + 2 / 3) / 2  # ranks 1 and 3 of three
    second = (1 / 1 + 2 / 2) / 2
    assert float(mean_average_precision(probabilities, target)) == pytest.approx((first + second) / 2)
    assert torch.isnan(mean_average_precision(probabilities, torch.zeros(4, 3)))
    one = mean_average_precision(torch.tensor([[0.1], [0.9]]), torch.tensor([[1.0], [1.0]]))
    assert float(one) == pytest.approx(1.0)


def test_clips_of_several_classes_are_scored_by_their_precision(corpus):
    task = task_of(loss=WeightedBinaryCrossEntropy(), multilabel=True)
    assert task.metric_names("val") == ["val/loss", "val/mean_ap"]
    trainer = trainer_of()
    trainer.test(task, corpus(), verbose=False)
    assert 0 < trainer.callback_metrics["test/mean_ap"] <= 1
    probabilities = task.predict_waveform(torch.zeros(1, 8000))["probabilities"]
    assert not torch.allclose(probabilities.sum(), torch.ones(()))


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="layer_decay=0"):
        task_of(layer_decay=0.0)
    with pytest.raises(ValueError, match="2 classes for a head with 3 outputs"):
        task_of(class_names=CLASSES[:2])


@pytest.mark.slow
def test_the_onnx_file_gives_the_probabilities_also_of_silence(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from hydraudio.share.onnx import TOLERANCE, export_onnx

    task = task_of().eval()
    exportable = task.export_module()
    assert json.loads(exportable.metadata["class_names"]) == CLASSES
    assert export_onnx(exportable, tmp_path / "net.onnx") <= TOLERANCE
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    for waveform in (torch.zeros(1, 16000), 0.1 * torch.randn(1, 12345)):
        (found,) = session.run(None, {"waveform": waveform.numpy()})
        expected = task.predict_waveform(waveform)["probabilities"].numpy()
        np.testing.assert_allclose(found, expected, atol=1e-4)
