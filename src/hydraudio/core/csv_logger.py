"""Metrics in one CSV file that outlives kills and continues after a resume."""

from __future__ import annotations

import csv
import io
import logging
from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn

from hydraudio.core.files import naming_full_disk, write_bytes

log = logging.getLogger(__name__)


class CSVMetricsLogger(Logger):
    """Writes ``<save_dir>/metrics.csv``: one row per step, columns ``step``, ``epoch``, then metrics as they
    come.

    ``step`` counts batches that stepped an optimizer, from 0, as Lightning's other loggers do; metrics that
    are logged at the same step share a row.

    Continuing. Lightning tells no logger where a run resumes, but the first step that is logged after a
    resume does: everything logged later than that is dropped, as it comes again, and the row of that step is
    completed. A fit that does not resume begins a new file and keeps the old one as ``metrics.1.csv``,
    ``metrics.2.csv`` and so on. Test and validation runs only add rows.

    Every value is on disk when `log_metrics` returns. A kill in the middle of a write costs at most the row
    that was being written. Rows that are damaged go to ``metrics.csv.bad`` when the next run begins, a file with
    another header becomes ``metrics.1.csv``; both with a warning.

    Hyperparameters are not written: the run's ``config.yaml`` holds them.

    Args:
        save_dir: folder of the file; made when the first metric arrives.
    """

    def __init__(self, save_dir: str | Path) -> None:
        super().__init__()
        self._save_dir = Path(save_dir)
        self._table: MetricsTable | None = None
        self._fit: Trainer | None = None  # the fit that began and has not logged yet
        self._fit_is_new = False

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @property
    def save_dir(self) -> str:
        return str(self._save_dir)

    @property
    def log_dir(self) -> str:
        return str(self._save_dir)

    @property
    def path(self) -> Path:
        return self._save_dir / "metrics.csv"

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do (see the class)."""

    @rank_zero_only
    def log_graph(self, model: nn.Module, input_array: Tensor | None = None) -> None:
        """Lightning shows every logger the module before a run: here the kind of run is learnt."""
        trainer = model.trainer if isinstance(model, LightningModule) else None
        self._fit = trainer if trainer is not None and trainer.state.fn == TrainerFn.FITTING else None
        self._fit_is_new = self._fit is not None and self._fit.global_step == 0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float | Tensor], step: int | None = None) -> None:
        values = {key: _number(value) for key, value in metrics.items()}
        # Asked only now: a strategy that shards the weights restores them later than log_graph is called.
        resumed = self._fit is not None and self._fit.ckpt_path is not None
        if self._fit is not None and self._fit_is_new and not resumed:
            _set_aside(self.path)
            self._table = None
        if self._table is None:
            self._save_dir.mkdir(parents=True, exist_ok=True)
            self._table = MetricsTable(self.path)
        step = self._table.last_step + 1 if step is None else step
        if resumed:
            self._table.drop_after(step)
        self._fit = None
        self._table.log(step, values)


class MetricsTable:
    """A CSV file of numbers with columns step, epoch and others, one row per step.

    The one table that is not written whole: a row is appended, or the last one replaced, at every step.

    Args:
        path: read if it exists; what is no row of it is set aside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.columns = ["step", "epoch"]
        self._last: dict[str, str] = {}
        self._last_offset = 0
        if path.exists():
            self._rewrite(self._repaired())

    @property
    def last_step(self) -> int:
        return int(self._last["step"]) if self._last else -1

    def log(self, step: int, values: Mapping[str, Any]) -> None:
        """Add values to the last row if that is of the same step, else a new row."""
        added = [key for key in values if key not in self.columns]
        if added or not self.path.exists():
            rows = self._read() if self.path.exists() else []
            self.columns += added
            self._rewrite(rows)
        text = {key: str(value) for key, value in values.items()}
        if step == self.last_step:
            self._last |= text | {"step": str(step)}
        else:
            self._last = text | {"step": str(step)}
            self._last_offset = self.path.stat().st_size
        line = self._line(self._last)
        with naming_full_disk(self.path), open(self.path, "r+b") as file:
            file.seek(self._last_offset)
            file.write(line)
            file.truncate()

    def drop_after(self, step: int) -> None:
        """Remove the rows of later steps."""
        if self.path.exists():
            self._rewrite([row for row in self._read() if int(row["step"]) <= step])

    def _line(self, row: Mapping[str, str]) -> bytes:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([row.get(column, "") for column in self.columns])
        return text.getvalue().encode()

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        lines = [self._line(row) for row in rows]
        header = self._line({column: column for column in self.columns})
        write_bytes(self.path, b"".join([header, *lines]))
        self._last = rows[-1] if rows else {}
        self._last_offset = len(header) + sum(map(len, lines[:-1]))

    def _read(self) -> list[dict[str, str]]:
        """The rows, which this object has written or repaired itself."""
        header, *rows = csv.reader(io.StringIO(self.path.read_text(encoding="utf-8")))
        return [dict(zip(header, row, strict=True)) for row in rows]

    def _repaired(self) -> list[dict[str, str]]:
        """The sound rows of a file that another process wrote, which may have been killed or lost its power."""
        lines = self.path.read_bytes().decode(errors="replace").splitlines(keepends=True)
        header, *rows = [_cells(line) for line in lines] or [self.columns]
        if header[:2] != ["step", "epoch"]:
            log.warning("%s has the columns %s, not step, epoch and metrics", self.path, header)
            _set_aside(self.path)
            return []
        self.columns = header
        sound = [len(row) == len(header) and row[0].isdecimal() for row in rows]
        bad = [line for line, is_sound in zip(lines[1:], sound, strict=True) if not is_sound]
        if lines and not lines[-1].endswith("\n") and (not sound or sound[-1]):
            bad.append(lines[-1])
            sound[-1:] = [False]
        if bad:
            aside = self.path.with_name(f"{self.path.name}.bad")
            log.warning("%s: %d damaged rows were moved to %s", self.path, len(bad), aside.name)
            with aside.open("a", encoding="utf-8") as file:
                file.writelines(bad)
        return [dict(zip(header, row, strict=True)) for row, is_sound in zip(rows, sound, strict=True) if is_sound]


def _cells(line: str) -> list[str]:
    """The cells of a line; one that is not CSV is one cell."""
    try:
        return next(csv.reader([line]), [])
    except csv.Error:
        return [line]


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _set_aside(path: Path) -> None:
    """Rename an existing file to the next free numbered name."""
    if not path.exists():
        return
    number = 1
    while (other := path.with_name(f"{path.stem}.{number}{path.suffix}")).exists():
        number += 1
    path.rename(other)
    log.info("%s belongs to an earlier run and was renamed to %s", path, other.name)
