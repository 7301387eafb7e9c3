"""A task in one file, for tests of rooms that know no task: is a sound high or low?

Two networks (one borrowed from a file), an input beside the sound, names along an axis, waveforms and numbers out, and
items in groups.
"""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from hydraudio.core.pretrained import are_weights_coming_later
from hydraudio.core.spec import Axes, Card, Metric, TaskSpec
from hydraudio.core.task import Task

KINDS = ("low", "high")
SPEC = TaskSpec(
    name="toy",
    batch={
        "sound": Axes("batch time", unit="[-1, 1]"),
        "lengths": Axes("batch", "int64", "samples"),
        "hint": Axes("batch hints", unit="[0, 1]"),
        "clean": Axes("batch layers time", unit="[-1, 1]"),
        "kind": Axes("batch kinds", unit="probability"),
    },
    outputs={
        "cleaned": Axes("batch layers time", unit="[-1, 1]"),
        "guess": Axes("batch kinds", unit="probability"),
    },
    metrics=(
        Metric("hits", "Hits", digits=2),
        Metric("error", "Error", unit="dB", better="lower", digits=1, parts="kind_names"),
    ),
    agree=("sample_rate", "kind_names"),
    resampled="item",
    blocks=(),
    card=Card(
        pipeline_tag="audio-classification",
        tags=("toy-hearing", "toy"),
        limits="For tests and nothing else.",
        license_note="Toys are free.",
        metric_types={"hits": "accuracy"},
        sharing="toy_floor.ToySharing",
    ),
    inputs=("sound", "lengths", "hint"),
    names={"kinds": "kind_names"},
    group="weather",
)


class Ear(nn.Module):
    """Loudness of the sound at two times, by gains that come from a file while it is trained."""

    def __init__(self, source: str | None = None, revision: str | None = None) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(2))
        if source is not None and not are_weights_coming_later():
            self.gain.data = torch.load(source, weights_only=True)
        self.source = source

    def stand_alone(self) -> dict[str, Any]:
        return {"source": None, "revision": None}

    def forward(self, sound: Tensor, lengths: Tensor) -> Tensor:
        valid = torch.arange(sound.shape[1]) < lengths[:, None]
        steps = sound.diff(dim=1, prepend=sound[:, :1]) * valid
        return torch.stack([sound.square().sum(1) / lengths, steps.square().sum(1) / lengths], 1).sqrt() * self.gain


class Judge(nn.Module):
    def __init__(self, n_kinds: int = 2) -> None:
        super().__init__()
        self.weights = nn.Linear(4, n_kinds)

    def forward(self, heard: Tensor, hint: Tensor) -> Tensor:
        return self.weights(torch.cat([heard, hint], 1))


class ToyTask(Task):
    spec = SPEC
    parts = ("net", "ear")
    n_hints = 2

    def __init__(self, net: nn.Module, ear: nn.Module, kind_names: list[str], sample_rate: int = 8000) -> None:
        super().__init__(net, torch.optim.SGD, sample_rate=sample_rate)
        self.ear, self.kind_names = ear, list(kind_names)
        self.unshared = nn.Parameter(torch.ones(1))

    @torch.inference_mode()
    def predict(self, example):
        heard = self.ear(example["sound"], example["lengths"])
        cleaned = torch.stack([example["sound"], -0.5 * example["sound"]], 1)
        return {"guess": self.net(heard, example["hint"]).softmax(-1), "cleaned": cleaned}

    def evaluate_batch(self, batch):
        found = self.predict(batch)
        hits = (found["guess"].argmax(1) == batch["kind"].argmax(1)).float()
        return {**found, "hits": hits, "error": 20 * (found["guess"] - batch["kind"]).abs().amax(1)}

    def validation_step(self, batch):
        found = self.evaluate_batch(batch)
        for name in ("hits", "error"):
            self.log(f"val/{name}", found[name].mean(), batch_size=len(batch["sound"]), on_epoch=True)


class ToyDataset(Dataset):
    items = [(f"{number:02d}.wav", weather) for number in range(6) for weather in ("dry", "wet")]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key):
        epoch, number = key
        assert epoch == 0
        high, item_id = number // 2 % 2, self.items[number]
        time_s = np.arange(4000 + 100 * number) / 8000
        clean = (0.3 * np.sin(2 * np.pi * (200, 900)[high] * time_s)).astype(np.float32)
        noise = np.random.default_rng(number).normal(0, 0.02 * (item_id[1] == "wet"), len(clean)).astype(np.float32)
        said = {"high": high, "id": item_id[0], "weather": item_id[1]}
        return {"sound": clean + noise, "clean": np.stack([clean, -clean]), **said}


def collate(items):
    lengths = torch.tensor([len(item["sound"]) for item in items])
    pad = torch.nn.utils.rnn.pad_sequence
    return {
        "sound": pad([torch.from_numpy(item["sound"]) for item in items], batch_first=True),
        "clean": pad([torch.from_numpy(item["clean"].T) for item in items], batch_first=True).transpose(1, 2),
        "lengths": lengths,
        "hint": torch.full((len(items), 2), 0.5),
        "kind": torch.eye(2)[[item["high"] for item in items]],
        "id": [item["id"] for item in items],
        "weather": [item["weather"] for item in items],
    }


class ToyDataModule(pl.LightningDataModule):
    fingerprint = "f" * 64

    def __init__(self, root=None, sample_rate=8000, kind_names=KINDS, num_workers=0, splits=None, notes=None) -> None:
        super().__init__()
        self.root, self.sample_rate, self.kind_names = root or "/toys", sample_rate, list(kind_names)
        self.num_workers, self.datasets = num_workers, {}

    def setup(self, stage=None):
        self.datasets = {"val": ToyDataset(), "test": ToyDataset()}

    def val_dataloader(self):
        return DataLoader(self.datasets["val"], batch_size=4, collate_fn=collate)

    def test_dataloader(self):
        return DataLoader(self.datasets["test"], batch_size=4, collate_fn=collate)


from hydraudio.share.sharing import Sharing  # noqa: E402


class ToySharing(Sharing):
    """What only this floor knows: a colour."""

    def facts(self, task, trained, datamodule):
        return {"colour": "red", "corpus_colour": getattr(datamodule, "colour", "red")}

    def check(self, task, config):
        if config["colour"] != "red":
            raise ValueError(f"colour: {config['colour']}")

    def sections(self, config, metrics):
        return {"Output": f"Painted {config['colour']}.", "Weather": "Fine." if metrics else "Unknown."}
