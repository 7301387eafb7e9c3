"""The emotion task on small batches in memory: losses, scores, optimizer groups, cached features, what is refused."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from hydra_preflight.errors import ConfigError, DataMismatchError
from hydraudio.core.sampling import build_loader
from hydraudio.losses.classification import CrossEntropy, LogitAdjustment, WeightedCrossEntropy
from hydraudio.losses.combination import FixedWeights, UncertaintyWeights
from hydraudio.metrics.accumulate import _merge
from hydraudio.tasks.emotion.losses import ConcordanceLoss, GenderCrossEntropy, LabelAdaptiveMixup
from hydraudio.tasks.emotion.networks.heads import AttributeHead, ClassifierHead, GenderClassifier
from hydraudio.tasks.emotion.networks.network import EmotionNetwork
from hydraudio.tasks.emotion.networks.pooling import AttentiveStatistics, MeanStd
from hydraudio.tasks.emotion.task import EmotionTask

CLASSES = ["Angry", "Sad", "Happy"]
ATTRIBUTES = ["arousal", "valence"]
HOP = 100


class StubUpstream(nn.Module):
    """Cuts a waveform into frames and maps each linearly, twice: two blocks, the lower of which can be frozen."""

    def __init__(self, trainable: int = 1, n_states: int = 1) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.blocks = nn.ModuleList([nn.Linear(HOP, 6), nn.Linear(6, 6)])
        for block in self.blocks[: 2 - trainable]:
            block.requires_grad_(False)
        self.n_states, self.dim, self.frozen = n_states, 6, trainable == 0
        self.shortest_samples, self.do_normalize = HOP, None

    def forward(self, waveform, lengths=None):
        frames = waveform[:, : waveform.shape[1] // HOP * HOP].unflatten(1, (-1, HOP))
        states = self.blocks[1](self.blocks[0](frames).tanh())[:, None]
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1])
        return states.expand(-1, self.n_states, -1, -1), lengths // HOP

    def parameter_groups(self, lr, layer_decay):
        groups = [("block_0", lr * layer_decay), ("block_1", lr)]
        blocks = zip(groups, self.blocks, strict=True)
        return [
            {"params": list(block.parameters()), "lr": rate, "name": name}
            for (name, rate), block in blocks
            if block.weight.requires_grad
        ]

    def fingerprint(self):
        return "stub"


def network(heads: str, upstream: nn.Module | None = None, pooling: Any = MeanStd) -> EmotionNetwork:
    torch.manual_seed(0)
    category = (lambda in_features: ClassifierHead(in_features, 3, 8, dropout=0.0)) if "c" in heads else None
    attributes = (
        (lambda in_features, context_features: AttributeHead(in_features, ATTRIBUTES, context_features, 8, dropout=0.0))
        if "a" in heads
        else None
    )
    gender = (lambda in_features: GenderClassifier(in_features, 4, dropout=0.0)) if "g" in heads else None
    return EmotionNetwork(upstream or StubUpstream(), pooling, category, attributes, gender)


def task_of(net: EmotionNetwork, **options: Any) -> EmotionTask:
    arguments: dict[str, Any] = {
        "losses": {"category": CrossEntropy(), "attributes": ConcordanceLoss(), "gender": GenderCrossEntropy()},
        "balance": FixedWeights({"category": 1.0, "attributes": 0.5, "gender": 0.1}),
        "class_names": CLASSES,
        "attribute_names": ATTRIBUTES,
        "optimizer": lambda groups: torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.01),
    }
    return EmotionTask(net, **{**arguments, **options})


def make_batch(n: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    label = torch.randint(-1, 3, (n,), generator=generator)
    target = torch.zeros(n, 3)
    target[label >= 0] = nn.functional.one_hot(label[label >= 0], 3).float()
    attributes = torch.rand(n, 2, generator=generator)
    attributes[0, 0] = math.nan
    lengths = torch.randint(4, 9, (n,), generator=generator) * HOP
    waveform = torch.randn(n, int(lengths.max()), generator=generator)
    waveform[torch.arange(waveform.shape[1])[None] >= lengths[:, None]] = 0
    return {
        "waveform": waveform,
        "lengths": lengths,
        "padded": True,
        "label": label,
        "target": target,
        "attributes": attributes,
        "gender": torch.randint(0, 3, (n,), generator=generator),
        "id": [f"{seed}-{i}.wav" for i in range(n)],
    }


class Batches(LightningDataModule):
    """Ready batches for training, validation and test."""

    sample_rate = 16000
    class_names = CLASSES
    attribute_names = ATTRIBUTES

    def __init__(self, sizes: tuple[int, ...] = (7, 4, 1)) -> None:
        super().__init__()
        self.batches = [make_batch(n, seed) for seed, n in enumerate(sizes)]
        self.cached: list[tuple[str, str]] = []

    def loader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None)  # type: ignore[arg-type]

    train_dataloader = val_dataloader = test_dataloader = loader

    def cache_features(self, key, what, compute, cache_dir):
        """Replace the waveforms of all batches, as the datamodules of corpora do."""
        self.cached.append((key, what))
        for batch in self.batches:
            if "waveform" in batch:
                arrays = [torch.from_numpy(np.asarray(array)) for array in compute(batch)]
                counts = [array.shape[1] if what == "frames" else 1 for array in arrays]
                longest = max(counts)
                if what == "frames":
                    arrays = [nn.functional.pad(a, (0, 0, 0, longest - a.shape[1])) for a in arrays]
                batch |= {"features": torch.stack(arrays), "frame_lengths": torch.tensor(counts)}
                for name in ("waveform", "lengths", "padded"):
                    del batch[name]


def trainer(**options) -> Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    return Trainer(accelerator="cpu", logger=False, num_sanity_val_steps=0, **{**quiet, "max_epochs": 1, **options})


def validate(task: EmotionTask, data: LightningDataModule) -> dict[str, float]:
    return trainer().validate(task, datamodule=data, verbose=False)[0]


def items_of(data: Batches) -> list[dict[str, Any]]:
    """All items one by one, without padding."""
    rows = []
    for batch in data.batches:
        for i in range(len(batch["id"])):
            row = {name: value[i : i + 1] for name, value in batch.items() if isinstance(value, torch.Tensor)}
            rows.append(row | {"waveform": row["waveform"][:, : int(row["lengths"])]})
    return rows


def test_scores_are_those_of_the_whole_set():
    """Independent of batching: computed here item by item, with plain formulas."""
    data, task = Batches(), task_of(network("cag"))
    found = validate(task, data)
    task.eval()
    truth = items_of(data)
    with torch.no_grad():
        outputs = [task.net(row["waveform"]) for row in truth]
    logits = torch.cat([each["logits"] for each in outputs])
    label = torch.cat([each["label"] for each in truth])
    known = label >= 0
    nll = nn.functional.cross_entropy(logits[known], label[known])
    assert found["val/nll"] == pytest.approx(float(nll), abs=1e-5)
    predicted = logits.argmax(-1)
    assert found["val/accuracy"] == pytest.approx(float((predicted == label)[known].float().mean()))
    f1 = []
    for k in range(3):
        hits = float(((predicted == k) & (label == k)).sum())
        total = float(((predicted == k) & known).sum() + (label == k).sum())
        f1.append(2 * hits / total if total else 0.0)
    assert found["val/macro_f1"] == pytest.approx(sum(f1) / 3)

    ccc = []
    for column in range(2):
        x = torch.cat([each["attributes"][:, column] for each in outputs]).double()
        y = torch.cat([each["attributes"][:, column] for each in truth]).double()
        x, y = x[~y.isnan()], y[~y.isnan()]
        cov = ((x - x.mean()) * (y - y.mean())).mean()
        ccc.append(float(2 * cov / (x.var(correction=0) + y.var(correction=0) + (x.mean() - y.mean()) ** 2 + 1e-8)))
    assert found["val/ccc_arousal"] == pytest.approx(ccc[0], abs=1e-5)
    assert found["val/ccc"] == pytest.approx(sum(ccc) / 2, abs=1e-5)

    gender_logits = torch.cat([each["gender_logits"] for each in outputs])
    gender = torch.cat([each["gender"] for each in truth])
    gender_loss = nn.functional.cross_entropy(gender_logits[gender < 2], gender[gender < 2])
    expected = float(nll) + 0.5 * (1 - sum(ccc) / 2) + 0.1 * float(gender_loss)
    assert found["val/loss"] == pytest.approx(expected, abs=1e-4)


def test_weighted_loss_is_pooled_over_batches_of_any_size():
    loss = {"category": WeightedCrossEntropy([50, 5, 1])}
    found = {sizes: validate(task_of(network("c"), losses=loss), Resized(sizes)) for sizes in ((12,), (5, 6, 1))}
    assert found[12,]["val/loss"] == pytest.approx(found[5, 6, 1]["val/loss"], abs=1e-6)


class Resized(Batches):
    """The same twelve items in batches of other sizes."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        super().__init__((12,))
        whole_batch, start, self.batches = self.batches[0], 0, []
        for size in sizes:
            part = slice(start, start + size)
            self.batches.append({k: v if isinstance(v, bool) else v[part] for k, v in whole_batch.items()})
            start += size


def test_nll_is_that_of_the_plain_softmax_whatever_the_loss():
    data = Batches()
    plain = validate(task_of(network("c")), data)
    shifted = validate(task_of(network("c"), losses={"category": LogitAdjustment([100, 10, 1])}), data)
    assert shifted["val/nll"] == plain["val/nll"]
    assert shifted["val/loss"] != plain["val/loss"]


@pytest.mark.parametrize("heads", ["c", "a", "ca", "cg", "cag"])
def test_each_set_of_heads_trains_and_logs_what_it_has(heads):
    data, task = Batches(), task_of(network(heads))
    before = {name: p.detach().clone() for name, p in task.named_parameters()}
    fit = trainer()
    fit.fit(task, datamodule=data)
    metrics = fit.callback_metrics
    assert ("val/macro_f1" in metrics) == ("c" in heads)
    assert ("val/ccc_valence" in metrics) == ("a" in heads)
    assert ("train/loss_gender" in metrics) == ("g" in heads)
    assert all(value.isfinite() for value in metrics.values())
    changed = {name for name, p in task.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {name for name, p in task.named_parameters() if p.requires_grad}


def test_test_step_returns_what_the_report_reads():
    data, task = Batches(), task_of(network("cag"))
    result = task.eval().evaluate_batch(data.batches[0])
    assert set(result) == {"loss", "logits", "probabilities", "attributes", "gender_logits", "embedding"}
    assert result["loss"].ndim == 0
    torch.testing.assert_close(result["probabilities"].sum(-1), torch.ones(7))
    assert ((result["attributes"] > 0) & (result["attributes"] < 1)).all()
    alone = task.predict_waveform(data.batches[0]["waveform"][:1, : int(data.batches[0]["lengths"][0])])
    torch.testing.assert_close(alone["probabilities"], result["probabilities"][:1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert {value.dtype for value in task.evaluate_batch(data.batches[0]).values()} == {torch.float32}


def test_batch_without_any_label_trains_and_is_not_scored():
    batch = make_batch(4)
    batch |= {"label": torch.full((4,), -1), "target": torch.zeros(4, 3), "attributes": torch.full((4, 2), math.nan)}
    task = task_of(network("ca"))
    task.log = task.log_dict = lambda *_, **__: None  # type: ignore[method-assign,assignment]
    loss = task.train().training_step(batch)
    loss.backward()
    assert loss.item() == 0.5  # half of a concordance of 0, and nothing of the categories
    assert all(p.grad is None or not p.grad.isnan().any() for p in task.parameters())
    data = Batches()
    data.batches = [batch]
    assert math.isnan(validate(task_of(network("c")), data)["val/macro_f1"])


def test_optimizer_groups_have_their_rates_and_no_decay_on_vectors():
    task = task_of(
        network("ca", StubUpstream(trainable=2)),
        balance=UncertaintyWeights(["category", "attributes"], ["attributes"]),
        upstream_lr=1e-5,
        layer_decay=0.5,
    )
    optimizer: Any = task.configure_optimizers()
    groups = {group["name"]: group for group in optimizer.param_groups}
    rates = {name: (group["lr"], group["weight_decay"]) for name, group in groups.items()}
    assert rates == {
        "block_0": (5e-6, 0.01),
        "block_0/no_decay": (5e-6, 0.0),
        "block_1": (1e-5, 0.01),
        "block_1/no_decay": (1e-5, 0.0),
        "heads": (1e-2, 0.01),
        "heads/no_decay": (1e-2, 0.0),
    }
    given = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(given) == sorted(id(p) for p in task.parameters() if p.requires_grad)
    assert all(p.ndim >= 2 for name in ("heads", "block_1") for p in groups[name]["params"])
    assert all(p.ndim < 2 for p in groups["heads/no_decay"]["params"])


def test_frozen_upstream_has_no_group():
    optimizer: Any = task_of(network("c", StubUpstream(trainable=0))).configure_optimizers()
    assert {group["name"] for group in optimizer.param_groups} == {"heads", "heads/no_decay"}


@pytest.mark.parametrize("what", ["statistics", "frames"])
def test_cached_features_give_what_waveforms_give(what):
    direct = validate(task_of(network("cag", StubUpstream(0))), Batches())
    task = task_of(network("cag", StubUpstream(0)), cache_features=what, cache_dir="unused")
    data = Batches()
    cached = validate(task, data)
    assert cached == pytest.approx(direct, abs=1e-5)
    assert data.cached == [(task.net.fingerprint(), what)]
    assert "waveform" not in data.batches[0]
    fit = trainer()
    fit.fit(task, datamodule=data)
    assert fit.callback_metrics["train/loss"].isfinite()


@pytest.mark.parametrize(
    ("options", "trainable", "pooling", "message"),
    [
        ({"cache_features": "frames"}, 1, MeanStd, "trainable_blocks=0"),
        ({"cache_features": "statistics"}, 0, AttentiveStatistics, "model/emotion/pooling=mean"),
        ({"cache_features": "frames", "mixup": LabelAdaptiveMixup()}, 0, MeanStd, "mixup"),
        ({"cache_features": "all"}, 0, MeanStd, "choose frames, statistics or null"),
        ({"cache_features": "frames", "cache_dir": None}, 0, MeanStd, "cache_dir"),
        ({"class_names": ["A", "B"]}, 1, MeanStd, r"2 class names \(A, B\) for a head with 3 outputs"),
        ({"losses": {"attributes": ConcordanceLoss()}}, 1, MeanStd, r"model\.losses\.category"),
    ],
)
def test_contradictions_are_refused(options, trainable, pooling, message):
    with pytest.raises(ValueError, match=message):
        task_of(network("ca", StubUpstream(trainable), pooling), **{"cache_dir": "x", **options})


@pytest.mark.parametrize(
    ("heads", "given", "refused"),
    [
        ("ca", {"class_names": ["Sad", "Angry", "Happy"]}, "class_names"),
        ("ca", {"attribute_names": ["valence", "arousal"]}, "attribute_names"),
        ("ca", {"sample_rate": 8000}, "sample_rate"),
        ("a", {"class_names": ["Neutral"]}, None),  # no head, no matter
        ("c", {"attribute_names": []}, None),
        ("ca", {}, None),
    ],
)
def test_other_data_is_refused(heads, given, refused):
    data = SimpleNamespace(**{"sample_rate": 16000, "class_names": CLASSES, "attribute_names": ATTRIBUTES, **given})
    task = task_of(network(heads))
    if refused is None:
        task.check_data(data)
    else:
        with pytest.raises(DataMismatchError, match=refused):
            task.check_data(data)


def test_mixup_changes_training_alone():
    class Loud(LabelAdaptiveMixup):
        def forward(self, batch, generator=None):
            calls.append(len(batch["id"]))
            return super().forward(batch, generator)

    calls: list[int] = []
    task = task_of(network("ca"), mixup=Loud(p=1.0))
    trainer().fit(task, datamodule=Batches())
    assert calls == [7, 4, 1]


def test_schedule_of_a_loss_hears_the_epoch_and_its_last_stage_in_a_test():
    class Listening(CrossEntropy):
        def set_epoch(self, epoch):
            heard.append(epoch)

    heard: list[int] = []
    task, data = task_of(network("c"), losses={"category": Listening()}), Batches((4,))
    fit = trainer(max_epochs=2)
    fit.fit(task, datamodule=data)
    assert heard == [0, 0, 1, 1]
    fit.test(task, datamodule=data, verbose=False)
    assert heard[-1] > 10**6


def test_export_gives_named_outputs():
    task = task_of(network("ca"))
    exported = task.export_module()
    assert exported.output_names == ("probabilities", "attributes")
    assert exported.metadata["class_names"] == '["Angry", "Sad", "Happy"]'
    waveform = torch.randn(1, 900)
    results = task.eval().predict_waveform(waveform)
    probabilities, attributes = exported.module.eval()(waveform)
    torch.testing.assert_close(probabilities, results["probabilities"])
    torch.testing.assert_close(attributes, results["attributes"])
    assert isinstance(task_of(network("a")).export_module().module(waveform), torch.Tensor)


def test_rows_of_processes_are_merged_once_and_in_order():
    parts = [(["b", "c"], {"x": torch.tensor([2.0, 3.0])}), (["a", "b"], {"x": torch.tensor([1.0, 2.0])}), ([], {})]
    assert _merge(parts)["x"].tolist() == [1.0, 2.0, 3.0]
    assert _merge([([], {})]) == {}


class Cut(Batches):
    """Training batches as the house's sampler cuts them."""

    def __init__(self, n_items: int, batch_size: int, budget: int | None = None, lengths: Any = None) -> None:
        super().__init__()
        self.n_items = n_items
        self.options = {"batch_size": batch_size, "batch_samples": budget, "lengths": lengths}

    def train_dataloader(self) -> DataLoader:
        return build_loader(
            Keys([0] * self.n_items),
            shuffle=True,
            seed=0,
            num_workers=0,
            trainer=None,
            collate_fn=lambda keys: make_batch(len(keys)),
            **self.options,
        )


class Keys(list):
    """Addressed by (epoch, index)."""

    def __getitem__(self, key):
        return key


@pytest.mark.parametrize(
    ("n_items", "batch_size", "budget", "lengths", "words"),
    [
        (3, 1, None, None, "3 of 3 training batches hold one item: .*data.batch_size to 3 or more"),
        (5, 4, None, None, "1 of 2 training batches hold one item"),
        (5, 4, 40, np.array([39, 39, 10, 10, 10]), "2 of 3 training batches hold one item: .*data.batch_s"),
    ],
    ids=["batches of one", "the last", "a small budget"],
)
def test_training_attributes_on_batches_of_one_is_refused(n_items, batch_size, budget, lengths, words):
    data = Cut(n_items, batch_size, budget, lengths)
    with pytest.raises(ConfigError, match=words):
        trainer(accumulate_grad_batches=2).fit(task_of(network("a")), datamodule=data)
    trainer().fit(task_of(network("c")), datamodule=data)
    trainer().fit(task_of(network("a")), datamodule=Cut(6, 2))
