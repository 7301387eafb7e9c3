"""What a network makes of an item or a recording, by the axes of its task's specification.

Waveforms become players, numbers along one axis a table with names, both beside what they should be. What a floor alone
knows (how long recordings are processed, further scores, which problem of a corpus fits) it adds in a subclass, which
`TaskSpec.listening` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from hydraudio.core.spec import Axes, TaskSpec, find
from hydraudio.core.task import Task
from hydraudio.report.tables import Cell, TableData, TableRow, number

Signals = Mapping[str, np.ndarray]
"""Name -> (rows, time) float32: a tensor of one item, with the axes before time as rows."""
OnProgress = Callable[[float], None]
"""Told the fraction that is done."""


@dataclass(frozen=True)
class Sound:
    """A waveform (time,) float32 as it came, and the gain with which it is played."""

    name: str
    kind: Literal["input", "reference", "output"]
    waveform: np.ndarray
    gain: float = 1.0


@dataclass(frozen=True)
class Numbers:
    """Numbers (n,) along an axis with names, and what they should be, if that is known."""

    title: str
    names: tuple[str, ...]
    output: np.ndarray
    reference: np.ndarray | None = None


@dataclass(frozen=True)
class Heard:
    """What a listener gets.

    Attributes:
        title: id of the item or name of the file.
        details: group, length and the like.
        sample_rate: of all sounds, in Hz.
        sounds: inputs, then every output after what it should be.
        numbers: of the outputs that are no waveforms.
        scores: None for a recording.
        notes: what the listener should know.
        playback: what was done to the level of outputs; empty where nothing was.
        seconds: computing time of the network.
    """

    title: str
    details: tuple[str, ...]
    sample_rate: int
    sounds: tuple[Sound, ...]
    numbers: tuple[Numbers, ...]
    scores: TableData | None
    notes: tuple[str, ...]
    playback: str
    seconds: float


class Listening:
    """One network; the methods that a floor may override say what everything in the specification gives by itself.

    Args:
        task: in evaluation mode, on its device.
    """

    def __init__(self, task: Task) -> None:
        self.task, self.spec = task, task.spec

    def problems(self, datamodule: LightningDataModule) -> list[str]:
        """The problems of a corpus that fit the network; empty for a corpus that poses one alone."""
        return []

    def corpus_settings(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Settings with which another corpus fits the network, as far as they are settings of `data`."""
        rate = self.task.sample_rate
        return {"sample_rate": rate} if "sample_rate" in data else {}

    def process(self, waveform: Tensor, on_progress: OnProgress | None = None) -> Mapping[str, Tensor]:
        """What `Task.predict` gives for a recording.

        Args:
            waveform: (1, time), on the CPU.
            on_progress: told now and then.

        Raises:
            ValueError: the task needs more than a waveform.
        """
        example = {"lengths": torch.tensor([waveform.shape[-1]])} if "lengths" in self.spec.inputs else {}
        missing = [name for name in self.spec.inputs if name not in (*example, self.recorded)]
        if missing:
            raise ValueError(f"a recording is not enough for this network: it also reads {', '.join(missing)}")
        example[self.recorded] = waveform
        return self.task.predict({name: value.to(self.task.device) for name, value in example.items()})

    def scores(self, batch: Mapping[str, Any], result: Mapping[str, Tensor]) -> tuple[TableData | None, list[str]]:
        """A table, and notes on what it cannot say.

        Args:
            batch: of one item.
            result: what `Task.evaluate_batch` gave for it.
        """
        found = {m.label: (m, result[m.name].flatten().tolist()) for m in self.spec.metrics if m.name in result}
        if not found:
            return None, []
        n_rows = max(len(values) for _, values in found.values())
        rows = []
        for row in range(n_rows):
            cells = [
                Cell(f"{number(values[row], metric.digits)} {metric.unit}".strip() if row < len(values) else "")
                for metric, values in found.values()
            ]
            rows.append(TableRow((Cell(str(row + 1) if n_rows > 1 else ""), *cells)))
        return TableData(("", *found), tuple(rows)), []

    def details(self, batch: Mapping[str, Any]) -> list[str]:
        """What is known about the one item of a batch, in a few words each."""
        return []

    def notes(self, batch: Mapping[str, Any]) -> list[str]:
        """What a listener should know about the one item of a batch."""
        return []

    def gains(
        self, inputs: Signals, outputs: Signals, references: Signals
    ) -> tuple[Mapping[str, Sequence[float]], str]:
        """Gains of the rows of outputs for playback, and words for them; an output without gains is played as it is."""
        return {}, ""

    def numbers(self, name: str, names: tuple[str, ...], output: np.ndarray, reference: np.ndarray | None) -> Numbers:
        """An output that is no waveform, (n,), beside its reference."""
        unit = self.spec.outputs[name].unit
        return Numbers(f"{_title(name)} / {unit}" if unit else _title(name), names, output, reference)

    def close(self) -> None:
        """Free what was opened for listening."""

    @property
    def recorded(self) -> str:
        """Name of the waveform that a recording stands for."""
        waveforms = [name for name in self.spec.inputs if self.spec.batch[name].is_waveform]
        if len(waveforms) != 1:
            raise ValueError(f"a {self.spec.name} network takes no recording: it reads {', '.join(self.spec.inputs)}")
        return waveforms[0]

    def sounds_of(self, given: Mapping[str, Any], result: Mapping[str, Tensor]) -> tuple[tuple[Sound, ...], str]:
        """The waveforms of inputs, references and outputs, in the order in which they are shown, and the words of
        `gains`.

        Args:
            given: a batch of one item, or only the inputs.
            result: of it.
        """
        waveforms = [name for name, axes in self.spec.outputs.items() if axes.is_waveform and name in result]
        references = {o: r for o in waveforms if (r := self.spec.reference(o)) is not None and r in given}
        inputs = {n: _rows(given[n]) for n in self.spec.inputs if self.spec.batch[n].is_waveform}
        outputs = {name: _rows(result[name]) for name in waveforms}
        truth = {name: _rows(given[name]) for name in references.values()}
        gains, words = self.gains(inputs, outputs, truth)
        shown = [s for n, rows in inputs.items() for s in self._sounds(n, "input", self.spec.batch[n], rows)]
        for name, rows in outputs.items():
            axes = self.spec.outputs[name]
            own = list(self._sounds(name, "output", axes, rows, gains.get(name)))
            if name in references:
                true = self._sounds(references[name], "reference", axes, truth[references[name]])
                own = [sound for pair in zip(true, own, strict=True) for sound in pair]
            shown += own
        return tuple(shown), words

    def numbers_of(self, given: Mapping[str, Any], result: Mapping[str, Tensor]) -> tuple[Numbers, ...]:
        """The outputs along one axis that are no waveforms."""
        found = []
        for name, axes in self.spec.outputs.items():
            if name not in result or axes.is_waveform or len(axes.axes.split()) != 2:
                continue
            output, reference = result[name][0].cpu().numpy(), self.spec.reference(name)
            true = None if reference is None or reference not in given else given[reference][0].cpu().numpy()
            found.append(self.numbers(name, tuple(self._names(axes, len(output))), output, true))
        return tuple(found)

    def _sounds(
        self,
        name: str,
        kind: Literal["input", "reference", "output"],
        axes: Axes,
        rows: np.ndarray,
        gains: Sequence[float] | None = None,
    ) -> Iterator[Sound]:
        names = self._names(axes, len(rows))
        for k, row in enumerate(rows):
            title = _title(name) + (f" {names[k]}" if len(rows) > 1 else "")
            yield Sound(title, kind, row, 1.0 if gains is None else gains[k])

    def _names(self, axes: Axes, n: int) -> list[str]:
        """Of what lies along the axis behind the batch."""
        attribute = self.spec.names.get(axes.axes.split()[1])
        names = [str(name) for name in getattr(self.task, attribute)] if attribute else []
        return names if len(names) == n else [str(k + 1) for k in range(n)]


def listening_of(task: Task) -> Listening:
    """The listening of the task's floor."""
    spec: TaskSpec = task.spec
    return find(spec.listening)(task) if spec.listening else Listening(task)


def check_finite(result: Mapping[str, Tensor], names: Sequence[str]) -> None:
    """Refuse a network whose outputs are no numbers.

    Raises:
        ValueError: naming the output.
    """
    for name in names:
        if name in result and not bool(torch.isfinite(result[name]).all()):
            raise ValueError(f"the network gave NaN or infinite samples ({name}); choose another checkpoint")


def _rows(tensor: Tensor) -> np.ndarray:
    """(1, ..., time) -> (rows, time) float32."""
    return tensor[0].reshape(-1, tensor.shape[-1]).float().cpu().numpy()


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
