"""A listening session: one checkpoint in memory, a corpus or a recording, and what the network makes of it.

Knows nothing of pages; `hydraudio.report.listen.page` and notebooks/listen.ipynb are built on it.
"""

from __future__ import annotations

import copy
import gc
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from omegaconf import DictConfig, OmegaConf

from hydra_preflight.compose import compose_run
from hydraudio.audio.io import read_audio_channels, resample
from hydraudio.audio.overlap_add import separate_long
from hydraudio.report.listen.checkpoints import CheckpointEntry, find_checkpoints
from hydraudio.report.listen.corpus import Corpus
from hydraudio.report.listen.scores import Scores, open_scorer, score_item
from hydraudio.run import choose_device, open_checkpoint, restore_data, restore_task
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer

AS_TRAINED = "as trained"
CHUNK_S, OVERLAP_S = 30.0, 4.0
"""What is longer than a chunk is separated by overlap-add; test items are shorter, so they score as in the test."""
MAX_RECORDING_S = 1800.0


@dataclass(frozen=True)
class Separation:
    """A separated item or recording; all signals at `sample_rate`, float32.

    Attributes:
        title: id of the item or name of the file.
        details: variant, length and the like.
        mixture: (time,)
        targets: (n_sources, time); None for a recording.
        estimates: (n_sources, time), in the order of the targets; at the level that the network gave them.
        scores: None for a recording.
        notes: what the listener should know.
        seconds: computing time of the network.
    """

    title: str
    details: tuple[str, ...]
    sample_rate: int
    mixture: np.ndarray
    targets: np.ndarray | None
    estimates: np.ndarray
    scores: Scores | None
    notes: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class _Opened:
    path: Path
    modified_ns: int
    trained: DictConfig
    task: Any
    scorer: PerceptualScorer


class Session:
    """Holds one network at a time; its methods may be called from several threads.

    Args:
        overrides: settings of ``configs/eval.yaml`` such as ``extras.trusted_targets=[my_package.]``,
            ``trainer.accelerator=gpu`` or ``data.num_workers=0``.
        log_dir: where checkpoints are looked for; None takes ``paths.log_dir``.
    """

    def __init__(self, overrides: Sequence[str] = (), log_dir: str | Path | None = None) -> None:
        folder = Path("logs") if log_dir is None else Path(log_dir)
        self.cfg = compose_run(["ckpt_path=null", *overrides], folder, primary="eval.yaml")
        self.log_dir = Path(self.cfg.paths.log_dir) if log_dir is None else folder
        self.device = choose_device(self.cfg)
        self._lock = threading.RLock()
        self._opened: _Opened | None = None
        self._corpora: dict[tuple[str, str | None, str | None], Corpus] = {}

    def checkpoints(self) -> tuple[list[CheckpointEntry], dict[Path, str]]:
        """Those below the log folder, the newest first, and files that cannot be read with the reasons."""
        return find_checkpoints(self.log_dir)

    def corpora(self) -> list[str]:
        """`AS_TRAINED` and the options of ``configs/data`` that hold mixtures."""
        folder = Path(self.cfg.paths.root_dir) / "configs" / "data"
        options = [path for path in folder.glob("*.yaml") if not path.stem.startswith("_") and holds_mixtures(path)]
        return [AS_TRAINED, *sorted(path.stem for path in options)]

    def open(self, path: str | Path) -> Any:
        """Makes a checkpoint the one in memory and returns its task, in evaluation mode on the device.

        Raises:
            FileNotFoundError, ValueError: there is no such file, it is damaged, names classes that are not trusted
                or holds no separation network.
        """
        path = Path(path)
        with self._lock:
            modified_ns = path.stat().st_mtime_ns if path.is_file() else 0
            if self._opened is None or (self._opened.path, self._opened.modified_ns) != (path, modified_ns):
                self.close()
                trained, checkpoint = open_checkpoint(self.cfg, path)
                if "n_sources" not in (trained.model.get("net") or {}):
                    raise ValueError(f"{path}: holds no separation network; choose a checkpoint of a separation run")
                task = restore_task(trained, checkpoint).to(self.device)
                self._opened = _Opened(path, modified_ns, trained, task, open_scorer(task.sample_rate))
            return self._opened.task

    def close(self) -> None:
        """Frees the network, its corpora and the scoring processes."""
        with self._lock:
            if self._opened is not None:
                self._opened.scorer.close()
            self._opened = None
            self._corpora.clear()
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def problems(self, path: str | Path, name: str = AS_TRAINED, root: str | None = None) -> list[str]:
        """Problems of a corpus whose number of sources is that of the network; empty for a corpus without problems."""
        with self._lock:
            corpus = self.corpus(path, name, root)
            return _fitting_problems(corpus.datamodule, self.open(path))

    def corpus(
        self, path: str | Path, name: str = AS_TRAINED, root: str | None = None, problem: str | None = None
    ) -> Corpus:
        """The test items of a corpus for a checkpoint.

        Args:
            path: the checkpoint.
            name: `AS_TRAINED` for the corpus that the checkpoint was trained with, or an option of ``configs/data``.
            root: another folder in the same format; None or empty takes the configured one.
            problem: None takes the one of the training where the corpus has it.

        Raises:
            ValueError, FileNotFoundError: the corpus is gone or faulty, or does not fit the network.
        """
        with self._lock:
            net = self.open(path)
            assert self._opened is not None
            key = (name, root or None, problem or None)
            if key not in self._corpora:
                self._corpora[key] = Corpus(self._datamodule(name, net, root, problem))
            return self._corpora[key]

    def _datamodule(self, name: str, net: Any, root: str | None, problem: str | None) -> Any:
        """Data that fits the network; without a given problem, one of the corpus that has its number of sources."""
        assert self._opened is not None
        trained = copy.deepcopy(self._opened.trained)
        if name not in self.corpora():
            raise ValueError(f"there is no corpus {name!r}; choose from {', '.join(self.corpora())}")
        if name != AS_TRAINED:
            fit = [f"data={name}", f"data.sample_rate={net.sample_rate}"]
            data = compose_run(fit, self.log_dir, primary="train.yaml").data
            trained.data = OmegaConf.to_container(data, resolve=True)
        given: dict[str, Any] = {"num_workers": 0, **({"root": root} if root else {})}

        def restore(problem: str | None) -> Any:
            laid_over = {**given, "problem": problem} if problem else given
            cfg = OmegaConf.merge(self.cfg, {"data": laid_over})
            return restore_data(cfg, trained, self._opened.path)  # type: ignore[arg-type,union-attr]

        datamodule = restore(problem)
        fitting = _fitting_problems(datamodule, net)
        if not problem and fitting and datamodule.problem not in fitting:
            datamodule = restore(fitting[0])
        _check_fit(datamodule, net)
        return datamodule

    def separate_item(self, path: str | Path, corpus: Corpus, number: int) -> Separation:
        """Separates an item of a corpus and scores it against its targets."""
        with self._lock:
            task = self.open(path)
            assert self._opened is not None
            item = corpus.item(number)
            outputs, seconds = self._separate(item.mixture)
            scores = score_item(task, self._opened.scorer, item.mixture, item.targets, outputs)
        notes = [f"Not scored: {error}" for error in scores.errors]
        if item.degenerate:
            notes.append("In this variant the mixture is the target, so there is nothing to improve.")
        details = (item.variant, *([corpus.problem] if corpus.problem else []), _length(item.mixture, task.sample_rate))
        return Separation(
            title=item.item_id,
            details=details,
            sample_rate=task.sample_rate,
            mixture=item.mixture,
            targets=item.targets,
            estimates=outputs[scores.permutation],
            scores=scores,
            notes=tuple(notes),
            seconds=seconds,
        )

    def separate_file(
        self, path: str | Path, file: str | Path, on_progress: Callable[[float], None] | None = None
    ) -> Separation:
        """Separates a recording of any sample rate; its channels are mixed down to one.

        Args:
            path: the checkpoint.
            file: in any format that libsndfile reads, at most `MAX_RECORDING_S` long.
            on_progress: told the fraction that is done.

        Raises:
            ValueError, FileNotFoundError: the file is missing, unreadable, empty, too long or holds NaN.
        """
        file = Path(file)
        with self._lock:
            task = self.open(path)
            channels, file_rate = read_audio_channels(file)
            mixture, notes = _fit_recording(file, channels, file_rate, task.sample_rate)
            outputs, seconds = self._separate(mixture, on_progress)
        return Separation(
            title=file.name,
            details=("recording", _length(mixture, task.sample_rate)),
            sample_rate=task.sample_rate,
            mixture=mixture,
            targets=None,
            estimates=outputs,
            scores=None,
            notes=tuple(notes),
            seconds=seconds,
        )

    def _separate(
        self, mixture: np.ndarray, on_progress: Callable[[float], None] | None = None
    ) -> tuple[np.ndarray, float]:
        """(time,) -> (n_sources, time) in the network's order, and the computing time in seconds."""
        assert self._opened is not None
        task, n_done = self._opened.task, 0

        def function(chunk: torch.Tensor) -> torch.Tensor:
            nonlocal n_done
            estimate = task.predict_waveform(chunk.to(self.device)).float().cpu()
            n_done += round((CHUNK_S - OVERLAP_S) * task.sample_rate)
            if on_progress is not None:
                on_progress(min(n_done / len(mixture), 1.0))
            return estimate

        begin = time.perf_counter()
        with torch.inference_mode():
            estimate = separate_long(
                function,
                torch.from_numpy(mixture),
                sample_rate=task.sample_rate,
                chunk_s=CHUNK_S,
                overlap_s=OVERLAP_S,
            )
        seconds = time.perf_counter() - begin
        outputs = estimate.numpy().copy()
        if not np.isfinite(outputs).all():
            raise ValueError("the network gave NaN or infinite samples; choose another checkpoint")
        return outputs, seconds


def _fitting_problems(datamodule: Any, task: Any) -> list[str]:
    """Problems of a corpus with as many sources as the network has; empty for a corpus without problems."""
    return [name for name, n_sources in getattr(datamodule, "problems", {}).items() if n_sources == task.n_sources]


def _check_fit(datamodule: Any, task: Any) -> None:
    """Refuses a corpus of another sample rate or number of sources."""
    for attribute in ("sample_rate", "n_sources"):
        given, built = getattr(datamodule, attribute), getattr(task, attribute)
        if given != built:
            raise ValueError(
                f"the corpus has {attribute}={given}, but the network was built for {attribute}={built}; choose "
                "another problem, corpus or checkpoint"
            )


def _fit_recording(file: Path, channels: np.ndarray, file_rate: int, rate: int) -> tuple[np.ndarray, list[str]]:
    """(channels, time) -> (time,) at the network's rate, and what was done to it."""
    notes = []
    duration_s = channels.shape[1] / file_rate
    if duration_s > MAX_RECORDING_S:
        raise ValueError(
            f"{file.name}: {duration_s / 60:.0f} minutes are more than a page can show ({MAX_RECORDING_S / 60:.0f}); "
            "use src/predict.py, which takes any length"
        )
    if len(channels) > 1:
        notes.append(f"{len(channels)} channels were mixed down to one.")
    mixture = channels.mean(axis=0, dtype=np.float32)
    if file_rate != rate:
        notes.append(f"Resampled from {file_rate} Hz to the network's {rate} Hz.")
        mixture = resample(mixture, file_rate, rate)
    if len(mixture) == 0:
        raise ValueError(f"{file.name}: {channels.shape[1]} samples at {file_rate} Hz are less than one at {rate} Hz")
    return np.ascontiguousarray(mixture), notes


def holds_mixtures(option: Path) -> bool:
    """Whether a YAML file of ``configs/data`` may be a corpus to separate: False for our own corpora of other tasks."""
    target = str((yaml.safe_load(option.read_text(encoding="utf-8")) or {}).get("_target_"))
    return target.startswith("hydraudio.tasks.separation.corpora.") or not target.startswith("hydraudio.")


def _length(waveform: np.ndarray, sample_rate: int) -> str:
    return f"{len(waveform) / sample_rate:.2f} s at {sample_rate} Hz"
