"""A listening session: one checkpoint in memory, a corpus or a recording, and what the network makes of it.

Knows nothing of pages; `hydraudio.report.listen.page` and notebooks/listen.ipynb are built on it.
"""

from __future__ import annotations

import copy
import gc
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from hydra_preflight.compose import compose_run
from hydraudio.audio.io import read_audio_channels, read_info, resample
from hydraudio.core.task import Task
from hydraudio.prepare import choose_device
from hydraudio.report.listen.checkpoints import CheckpointEntry, find_checkpoints
from hydraudio.report.listen.corpus import Corpus
from hydraudio.report.listen.listening import Heard, Listening, check_finite, listening_of
from hydraudio.report.tables import TableData
from hydraudio.trained import open_checkpoint, restore_data, restore_task

AS_TRAINED = "as trained"
MAX_RECORDING_S = 1800.0


@dataclass(frozen=True)
class _Opened:
    path: Path
    modified_ns: int
    trained: DictConfig
    task: Task
    listening: Listening


class Session:
    """Holds one network at a time, from below the log folder; its methods may be called from several threads.

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

    def corpora(self, path: str | Path) -> list[str]:
        """`AS_TRAINED` and the options of ``configs/data`` for the checkpoint's task."""
        folder, own = Path(self.cfg.paths.root_dir) / "configs" / "data", self.open(path).spec.name
        options = [*folder.glob("*.yaml"), *(folder / own).rglob("*.yaml")]
        names = sorted(p.relative_to(folder).with_suffix("").as_posix() for p in options if not p.stem.startswith("_"))
        return [AS_TRAINED, *names]

    def open(self, path: str | Path) -> Task:
        """Make a checkpoint the one in memory and return its task, in evaluation mode on the device.

        Raises:
            FileNotFoundError, ValueError: there is no such file, it is damaged, names classes that are not trusted, or
                lies outside of the log folder.
        """
        return self._open(Path(path)).task

    def _open(self, path: Path) -> _Opened:
        if not path.resolve().is_relative_to(self.log_dir.resolve()):
            raise ValueError(f"{path} lies outside of {self.log_dir}; choose another log folder to listen to it")
        with self._lock:
            modified_ns = path.stat().st_mtime_ns if path.is_file() else 0
            opened = self._opened
            if opened is None or (opened.path, opened.modified_ns) != (path, modified_ns):
                self.close()
                trained, checkpoint = open_checkpoint(self.cfg, path)
                task = restore_task(trained, checkpoint, path).to(self.device)
                opened = self._opened = _Opened(path, modified_ns, trained, task, listening_of(task))
            return opened

    def close(self) -> None:
        """Frees the network, its corpora and what listening opened."""
        with self._lock:
            if self._opened is not None:
                self._opened.listening.close()
            self._opened = None
            self._corpora.clear()
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def problems(self, path: str | Path, name: str = AS_TRAINED, root: str | None = None) -> list[str]:
        """The problems of a corpus that fit the network; empty for a corpus that poses one alone."""
        with self._lock:
            corpus = self.corpus(path, name, root)
            return self._open(Path(path)).listening.problems(corpus.datamodule)

    def corpus(
        self, path: str | Path, name: str = AS_TRAINED, root: str | None = None, problem: str | None = None
    ) -> Corpus:
        """The test items of a corpus for a checkpoint.

        Args:
            path: the checkpoint.
            name: `AS_TRAINED` for the corpus that the checkpoint was trained with, or an option of ``configs/data``.
            root: another folder in the same format; None or empty takes the configured one.
            problem: None takes the one of the training where the corpus has it; nothing where the corpus poses none.

        Raises:
            ValueError, FileNotFoundError: the corpus is gone or faulty, or does not fit the network.
        """
        with self._lock:
            opened = self._open(Path(path))
            if problem and not self.problems(path, name, root):
                problem = None
            key = (name, root or None, problem or None)
            if key not in self._corpora:
                self._corpora[key] = Corpus(self._datamodule(opened, *key))
            return self._corpora[key]

    def _datamodule(self, opened: _Opened, name: str, root: str | None, problem: str | None) -> LightningDataModule:
        """Data that fits the network; without a given problem, the corpus's own or one that fits."""
        offered = self.corpora(opened.path)
        if name not in offered:
            raise ValueError(f"there is no corpus {name!r}; choose from {', '.join(offered)}")
        trained = copy.deepcopy(opened.trained)
        if name != AS_TRAINED:
            chosen = [f"task={opened.task.spec.name}", f"data={name}"]
            data: Any = OmegaConf.to_container(
                compose_run(chosen, self.log_dir, primary="train.yaml").data, resolve=True
            )
            trained.data = {**data, **opened.listening.corpus_settings(data)}
        datamodule = self._restored(opened, trained, root, problem)
        fitting = opened.listening.problems(datamodule)
        if not problem and fitting and getattr(datamodule, "problem", None) not in fitting:
            datamodule = self._restored(opened, trained, root, fitting[0])
        opened.task.check_data(datamodule)
        return datamodule

    def _restored(
        self, opened: _Opened, trained: DictConfig, root: str | None, problem: str | None
    ) -> LightningDataModule:
        given = {"num_workers": 0, "root": root, "problem": problem}
        cfg = copy.deepcopy(self.cfg)
        cfg.data = OmegaConf.merge(cfg.data, {name: value for name, value in given.items() if value is not None})
        return restore_data(cfg, copy.deepcopy(trained), opened.path)

    def hear_item(self, path: str | Path, corpus: Corpus, number: int) -> Heard:
        """What the network makes of an item of a corpus, with its scores."""
        with self._lock:
            opened = self._open(Path(path))
            batch = corpus.batch(number)
            on_device = {key: v.to(self.device) if isinstance(v, Tensor) else v for key, v in batch.items()}
            begin = time.perf_counter()
            with torch.inference_mode():
                result = opened.task.evaluate_batch(on_device)
            seconds = time.perf_counter() - begin
            table, notes = opened.listening.scores(batch, result)
            item_id, group = corpus.items[number]
            details = [group, corpus.problem or "", *opened.listening.details(batch)]
            notes += opened.listening.notes(batch)
            return _heard(opened.listening, item_id, details, batch, result, seconds, notes, table)

    def hear_file(
        self, path: str | Path, file: str | Path, on_progress: Callable[[float], None] | None = None
    ) -> Heard:
        """What the network makes of a recording of any sample rate; its channels are mixed down to one.

        Args:
            path: the checkpoint.
            file: in any format that libsndfile reads, at most `MAX_RECORDING_S` long.
            on_progress: told the fraction that is done.

        Raises:
            ValueError, FileNotFoundError: the file is missing, unreadable, empty, too long or holds NaN.
        """
        file = Path(file)
        with self._lock:
            opened = self._open(Path(path))
            _require_short(file)
            channels, file_rate = read_audio_channels(file)
            waveform, notes = _fit_recording(file, channels, file_rate, opened.task.sample_rate)
            example = torch.from_numpy(waveform)[None]
            begin = time.perf_counter()
            with torch.inference_mode():
                result = opened.listening.process(example, on_progress)
            seconds = time.perf_counter() - begin
            given = {opened.listening.recorded: example}
            return _heard(opened.listening, file.name, ["recording"], given, result, seconds, notes)


def _heard(
    listening: Listening,
    title: str,
    details: Sequence[str],
    given: Mapping[str, Any],
    result: Mapping[str, Tensor],
    seconds: float,
    notes: Sequence[str],
    scores: TableData | None = None,
) -> Heard:
    """Waveforms and numbers of one item or recording."""
    check_finite(result, list(listening.spec.outputs))
    sounds, playback = listening.sounds_of(given, result)
    rate = listening.task.sample_rate
    length = [f"{len(sounds[0].waveform) / rate:.2f} s at {rate} Hz"] if sounds else []
    return Heard(
        title=title,
        details=(*filter(None, details), *length),
        sample_rate=rate,
        sounds=sounds,
        numbers=listening.numbers_of(given, result),
        scores=scores,
        notes=tuple(notes),
        playback=playback,
        seconds=seconds,
    )


def _require_short(file: Path) -> None:
    """Refuse a recording that is too long, by its header, before it is decoded."""
    n_samples, file_rate = read_info(file)
    if n_samples > MAX_RECORDING_S * file_rate:
        raise ValueError(
            f"{file.name}: {n_samples / file_rate / 60:.0f} minutes are more than a page can show "
            f"({MAX_RECORDING_S / 60:.0f}); use src/predict.py, which takes any length"
        )


def _fit_recording(file: Path, channels: np.ndarray, file_rate: int, rate: int) -> tuple[np.ndarray, list[str]]:
    """(channels, time) -> (time,) at the network's rate, and what was done to it."""
    notes = []
    if len(channels) > 1:
        notes.append(f"{len(channels)} channels were mixed down to one.")
    waveform = channels.mean(axis=0, dtype=np.float32)
    if file_rate != rate:
        notes.append(f"Resampled from {file_rate} Hz to the network's {rate} Hz.")
        waveform = resample(waveform, file_rate, rate)
    if len(waveform) == 0:
        raise ValueError(f"{file.name}: {channels.shape[1]} samples at {file_rate} Hz are less than one at {rate} Hz")
    return np.ascontiguousarray(waveform), notes
