"""What one pass of the encoder for all probes saves: python scripts/pretraining/benchmark_probes.py [--clips 2000].

Five folds of clips of noise whose colour is their class, 5 s each, and AudioMAE++ quick with random weights, in this
order, each in a process of its own:

1. one pass over all clips, then the linear probes of the five folds (scripts/pretraining/probe.py);
2. the same for one fold only, with an empty cache;
3. a linear layer upon the frozen encoder for one fold, trained as X-ARES does (ten epochs, batches of 32, Adam), every
   batch encoded when it is needed.

Of 2 and 3 one run is measured and counted five times. Seconds of the processors, which other programs on the machine
hardly change, seconds on the clock, and how often the first goes into each.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch.utils.data import Dataset  # noqa: E402

from hydra_preflight.compose import compose_run  # noqa: E402
from hydra_preflight.resolvers import bind_data_attributes  # noqa: E402

CLASSES, FOLDS, SAMPLES = 50, 5, 80000
NAMES = ("one pass, five probes", "a pass and a probe for each fold", "a layer upon the frozen encoder for each fold")


class Noise(Dataset):
    """Clips of noise, made when they are asked for: number k has class k % 50 and fold k // 50 % 5."""

    def __init__(self, n_clips: int) -> None:
        numbers = np.arange(n_clips)
        self.items = [str(number) for number in numbers]
        self.lengths, self.labels = np.full(n_clips, SAMPLES), numbers % CLASSES
        self.clips = [SimpleNamespace(part=str(1 + number // CLASSES % FOLDS)) for number in numbers.tolist()]

    def __len__(self) -> int:
        return len(self.items)

    def identities(self) -> list[str]:
        """Their numbers: no two are alike."""
        return self.items

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        number = key[1]
        noise = np.random.default_rng(number).standard_normal(SAMPLES, dtype=np.float32)
        colour = np.float32(number % CLASSES / CLASSES)
        waveform = 0.1 * (noise[1:] - colour * noise[:-1])
        return {
            "waveform": np.append(waveform, np.float32(0)),
            "label": number % CLASSES,
            "target": np.eye(CLASSES, dtype=np.float32)[number % CLASSES],
            "id": str(number),
        }


def corpus_of(n_clips: int) -> Any:
    """What the probes read of a datamodule."""
    parts = {"multilabel": False, "folds": [str(k + 1) for k in range(FOLDS)], "num_workers": 0, "eval_batch_size": 16}
    methods = {"prepare_data": lambda: None, "setup": lambda: None}
    return SimpleNamespace(**parts, **methods, root="noise", datasets={"train": Noise(n_clips)})


def task_of() -> tuple[Any, dict[str, Any]]:
    """The task and its configuration."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    cfg = compose_run(["task=pretraining", "model=pretraining/classifier"], tempfile.gettempdir())
    names = [str(k) for k in range(CLASSES)]
    bind_data_attributes(SimpleNamespace(class_names=names, n_classes=CLASSES, multilabel=False))
    config = OmegaConf.to_container(cfg.model, resolve=True)
    torch.manual_seed(0)
    return instantiate(cfg.model, scheduler=None).eval(), config  # type: ignore[return-value]


def probe(n_clips: int, only: list[str], cache_dir: Path) -> None:
    """One pass, and the linear probes of the folds in `only`, all if it is empty."""
    from hydraudio.tasks.pretraining.features import corpus_features
    from hydraudio.tasks.pretraining.probing import probe_rows

    task, config = task_of()
    features = corpus_features(task, config, corpus_of(n_clips), "mean", cache_dir)
    print(probe_rows(features, "mean", ["linear"], only))


def train_layer(n_clips: int) -> None:
    """Train and test a linear layer on the first fold, without a cache."""
    from hydraudio.core.feature_cache import Rows
    from hydraudio.core.sampling import build_loader
    from hydraudio.tasks.pretraining.corpora.dataset import collate

    task, _ = task_of()
    dataset = Noise(n_clips)
    folds = np.array([clip.part for clip in dataset.clips])
    layer = torch.nn.Linear(task.net.encoder.embedding_dim("mean"), CLASSES)
    optimizer = torch.optim.Adam(layer.parameters(), lr=1e-3)

    def batches(rows: np.ndarray, shuffle: bool) -> Any:
        settings: dict[str, Any] = {"seed": 0, "num_workers": 0, "trainer": None, "collate_fn": collate}
        return build_loader(Rows(dataset, rows), batch_size=32, shuffle=shuffle, **settings)

    def logits(batch: dict[str, Any]) -> torch.Tensor:
        with torch.no_grad():
            embedding = task.embed(batch["waveform"], None, "mean")
        return layer(embedding)

    train, val, test = (np.flatnonzero(mask) for mask in ((folds > "2"), folds == "2", folds == "1"))
    for _ in range(10):
        for batch in batches(train, shuffle=True):
            optimizer.zero_grad()
            F.cross_entropy(logits(batch), batch["label"]).backward()
            optimizer.step()
        for batch in batches(val, shuffle=False):
            logits(batch)
    hits = [float((logits(batch).argmax(1) == batch["label"]).float().sum()) for batch in batches(test, shuffle=False)]
    print(f"accuracy {sum(hits) / len(test):.3f}")


def main() -> None:
    """Measure each in a process, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--only", type=int, choices=(1, 2, 3), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only == 3:
        train_layer(arguments.clips)
        return
    if arguments.only is not None:
        with tempfile.TemporaryDirectory() as cache:
            probe(arguments.clips, [] if arguments.only == 1 else ["1"], Path(cache))
        return
    first = None
    for number, (name, times) in enumerate(zip(NAMES, (1, FOLDS, FOLDS), strict=True), start=1):
        before = _used()
        command = [sys.executable, __file__, "--clips", str(arguments.clips), "--only", str(number)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        cpu_s, clock_s = (times * (after - begin) for after, begin in zip(_used(), before, strict=True))
        first = first or (cpu_s, clock_s)
        ratios = f"{cpu_s / first[0]:5.1f} times the first, {clock_s / first[1]:5.1f} on the clock"
        print(f"{name:46} {cpu_s:7.1f} s of CPU, {clock_s:7.1f} s: {ratios}", flush=True)


def _used() -> tuple[float, float]:
    """Seconds of the processors that processes begun here have used, and the clock."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime, time.perf_counter()


if __name__ == "__main__":
    main()
