"""What the reports of all tasks share: collecting a test, gathering it from all processes, writing, printing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.types import STEP_OUTPUT
from numpy.typing import NDArray
from rich import get_console

from hydra_preflight.errors import ConfigError
from hydraudio.core.corpus import corpus_of
from hydraudio.core.distributed import gather
from hydraudio.core.environment import git_revision
from hydraudio.core.task import Task, as_task
from hydraudio.report.curves import curves_of_runs
from hydraudio.report.examples import ExamplePool, Kept
from hydraudio.report.results import Results, Written, print_written, write_report
from hydraudio.report.run_scores import RunScores, write_run_scores
from hydraudio.report.tables import count
from hydraudio.stats.bootstrap import Bootstrap
from hydraudio.stats.intervals import Interval

_NO_CHECKPOINT = "none: the weights as they were in memory"

Part = TypeVar("Part")
"""What one process has collected of a test."""


class Report(Callback, Generic[Part, Kept]):
    """Collect what a task gives in a test and write the report of its floor at the end.

    A floor's report implements :meth:`begin`, :meth:`collect`, :meth:`collected` and :meth:`write`. The scores go into
    ``metrics.json`` of the run folder, the page (sections as the task's specification lists them) into `output_dir`.

    Args:
        output_dir: folder of the report, in the run folder; made when the test starts.
        monitor: the headline of the run, ``stage/name``.
        n_examples: how many best, worst and typical items of each group one can listen to.
        n_bootstrap: resamples of each 95 % interval.
        seed: of the bootstrap and of the candidates for typical items.
        checkpoint: file that the weights came from, where the trainer was not the one who loaded it.
        max_page_mb: size of index.html, in 10^6 bytes, up to which examples are added.
        max_example_s: longer examples are cut to this length, in seconds.
    """

    charts: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Title of each chart of learning curves -> the metrics in it."""

    def __init__(
        self,
        output_dir: str | Path,
        monitor: str = "",
        n_examples: int = 2,
        n_bootstrap: int = 2000,
        seed: int = 0,
        checkpoint: str | None = None,
        max_page_mb: float = 8.0,
        max_example_s: float = 10.0,
    ) -> None:
        if n_bootstrap < 1:
            raise ValueError(f"n_bootstrap={n_bootstrap} must be at least 1")
        self.output_dir, self.monitor, self.n_examples = Path(output_dir), monitor, n_examples
        self.bootstrap = Bootstrap(n_bootstrap, seed)
        self.checkpoint, self.max_page_mb, self.max_example_s = checkpoint, max_page_mb, max_example_s
        self._written: Written | None = None

    @staticmethod
    def compare(reports: Mapping[str, Path], output_dir: Path, seed: int) -> Path:
        """Compare the reports of several checkpoints, by name; return the page."""
        raise ConfigError(
            f"ckpt_path: the report of these checkpoints offers no comparison ({', '.join(reports)}); evaluate each "
            "by itself: ckpt_path=FILE"
        )

    def begin(self, trainer: Trainer, task: Task) -> None:
        """Forget an earlier test."""
        raise NotImplementedError

    def collect(self, trainer: Trainer, task: Task, outputs: Mapping[str, Any], batch: Mapping[str, Any]) -> None:
        """Keep what the task gave for a batch; offer examples to ``self.pool``."""
        raise NotImplementedError

    def collected(self) -> Part:
        """All that this process has collected."""
        raise NotImplementedError

    def write(self, trainer: Trainer, task: Task, parts: Sequence[Part], pool: ExamplePool[Kept]) -> Written:
        """Write the files from what all processes have collected."""
        raise NotImplementedError

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._written = None
        self.pool: ExamplePool[Kept] = ExamplePool(self.n_examples, self.bootstrap.seed)
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.begin(trainer, as_task(pl_module))

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: STEP_OUTPUT,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(outputs, Mapping), "a test step gives the results of its batch by name"
        self.collect(trainer, as_task(pl_module), outputs, batch)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gathered = gather((self.collected(), self.pool.examples()), trainer)
        if not trainer.is_global_zero:
            return
        pool: ExamplePool[Kept] = ExamplePool(self.n_examples, self.bootstrap.seed)
        for _, kept in gathered:
            pool.add(kept)
        task = as_task(pl_module)
        self._written = self.write(trainer, task, [part for part, _ in gathered], pool)
        self._write_scores(trainer, task, self._written)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Print the tables below Lightning's own, through the console that the rich progress bar uses too."""
        if stage == "test" and self._written is not None:
            print_written(get_console(), self._written)
            self._written = None

    def common(
        self, trainer: Trainer, task: Task, pool: ExamplePool[Kept], asked: Mapping[str, str], n_items: str
    ) -> dict[str, Any]:
        """The arguments that the :class:`Results` of every floor take.

        Args:
            trainer: of the test.
            task: that was tested.
            pool: of examples.
            asked: names and values of what the task was asked; the last value stands below the heading.
            n_items: how many items there were, in words.
        """
        checkpoint = str(trainer.ckpt_path or self.checkpoint or _NO_CHECKPOINT)
        networks, corpus = task.networks(), corpus_of(trainer)
        network = f"{' and '.join(type(net).__name__ for net in networks.values())}, {parameters(task)}"
        run = self.output_dir.parent
        return {
            "title": f"{run.parent.name}: {task.spec.name} test",
            "subtitle": f"Run {run.name} · {network} · {next(iter(asked.values()))}",
            "information": {
                "Checkpoint": checkpoint,
                "Network": network,
                **asked,
                "Sample rate": f"{task.sample_rate} Hz",
                "Corpus": str(getattr(corpus, "root", "unknown")),
                "Corpus fingerprint": str(getattr(corpus, "fingerprint", "unknown")),
                "Git revision": git_revision(),
                "Precision": str(trainer.precision),
                "Items": n_items,
                "Intervals": f"95 %, {self.bootstrap.text(task.spec.resampled)}",
            },
            "curves": curves_of_runs((run, Path(checkpoint).parent.parent), self.charts),
            "examples": pool,
            "sample_rate": task.sample_rate,
            "max_page_mb": self.max_page_mb,
            "max_example_s": self.max_example_s,
        }

    def write_page(self, task: Task, results: Results[Kept]) -> Path:
        """Write index.html with the sections of the task."""
        return write_report(self.output_dir / "index.html", results, task.spec.blocks)

    def _write_scores(self, trainer: Trainer, task: Task, written: Written) -> None:
        """What the report scored with intervals, and what the task logged beside it without."""
        logged = {
            name.partition("/")[2]: Interval(float(value), float("nan"), float("nan"), 0)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("test/")
        }
        found = RunScores(task.spec.name, self.monitor, {**logged, **written.scores}, written.information)
        write_run_scores(self.output_dir.parent, found)


def parameters(task: Task) -> str:
    """How many parameters the networks have, in words."""
    sizes = [(p.numel(), p.requires_grad) for network in task.networks().values() for p in network.parameters()]
    total, trained = sum(n for n, _ in sizes), sum(n for n, is_trained in sizes if is_trained)
    return f"{count(total)} parameters" + (f" ({count(trained)} trained)" if trained < total else "")


def to_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """The tensor on the CPU in fp32."""
    return tensor.detach().to(device="cpu", dtype=torch.float32).numpy()
