"""Kill runs at random moments, continue them, and count what differs from runs that nobody touched.

    python scripts/kills.py                        # 60 kills: every experiment with every setting
    python scripts/kills.py --kills 12 --settings plateau ema

Each experiment is run with each setting: once in peace, then with kills by SIGKILL, SIGTERM and SIGINT (the latter two
to the whole process group, as a terminal or a job scheduler sends them) at random moments after its first checkpoint,
continued each time with the same command and ckpt_path=last. Every last.ckpt that was ever written is kept, and
continued by itself. Printed are the numbers of final weights that differ (0) and of checkpoints that do not continue to
the same weights (0), and of stops that did not say how to continue (0). Exit status 1 if any is not 0.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMON = (
    "name=kills",
    "trainer=cpu",
    "trainer.max_epochs=4",
    "trainer.log_every_n_steps=1",
    "data.num_workers=0",
    "callbacks.last_checkpoint.every_n_steps=2",
    "callbacks.progress=null",
    "callbacks.model_summary=null",
    "logger=csv",
    "test=false",
)
EXPERIMENTS: dict[str, Sequence[str]] = {
    # task: separation
    "separation/polsess_quick": (
        "data.max_train_samples=24",
        "data.max_val_samples=8",
        "callbacks=[default,ema]",
        "callbacks.media_logger=null",
    ),
    # end task
    # task: emotion
    "emotion/msp_wavlm_category": (
        "data.max_train_samples=48",
        "data.max_val_samples=24",
        "data.batch_size=8",
        "data.batch_s=null",
        "callbacks=[emotion/default,ema]",
        "callbacks.media_logger=null",
    ),
    # end task
    # task: pretraining
    "pretraining/esc50_quick": (
        "data.max_train_samples=48",
        "data.max_val_samples=8",
        "data.batch_size=8",
        "callbacks=[pretraining/default,ema]",
        "callbacks.reconstructions=null",
    ),
    # end task
}
SETTINGS: dict[str, Sequence[str]] = {
    "plain": ("callbacks.ema=null",),
    "workers": ("callbacks.ema=null", "data.num_workers=2"),
    "ema": (),
    "accumulation": ("callbacks.ema=null", "trainer.accumulate_grad_batches=2"),
    "plateau": (
        "callbacks.ema=null",
        "model/scheduler=plateau",
        "model.scheduler.patience=0",
        "trainer.val_check_interval=2",
    ),
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@dataclass
class Count:
    """What has been seen.

    Attributes:
        problems: one line per run that ended otherwise, checkpoint that does not continue, stop without a sentence.
    """

    kills: int = 0
    checkpoints: int = 0
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Run the series; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=60, help="altogether")
    parser.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--experiments", nargs="+", default=list(EXPERIMENTS), choices=list(EXPERIMENTS))
    parser.add_argument("--checkpoints", type=int, help="continue at most so many per experiment and setting")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would hand on that it is ignored
    cases = [(experiment, setting) for experiment in arguments.experiments for setting in arguments.settings]
    rng = random.Random(arguments.seed)
    count = Count()
    with tempfile.TemporaryDirectory() as scratch:
        for number, (experiment, setting) in enumerate(cases):
            n_kills = (number + 1) * arguments.kills // len(cases) - number * arguments.kills // len(cases)
            series = Series(Path(scratch), experiment, setting, rng, count)
            series.run(n_kills, arguments.checkpoints)
    print(f"{count.kills} kills, {count.checkpoints} checkpoints continued, {len(count.problems)} problems")
    for problem in count.problems:
        print(f"  {problem}")
    return 1 if count.problems else 0


class Series:
    """One experiment with one setting.

    Args:
        scratch: gets the runs; the generated corpus there is shared by all.
        rng: draws moments and signals.
        count: is added to.
    """

    def __init__(self, scratch: Path, experiment: str, setting: str, rng: random.Random, count: Count) -> None:
        self.scratch, self.rng, self.count = scratch, rng, count
        self.name = f"{experiment} {setting}"
        self.folder = scratch / self.name.replace("/", "_").replace(" ", "_")
        self.folder.mkdir()
        self.arguments = [f"experiment={experiment}", *COMMON, *EXPERIMENTS[experiment], *SETTINGS[setting]]

    def run(self, n_kills: int, n_checkpoints: int | None) -> None:
        """Kill, continue, compare, print a line."""
        whole = self.folder / "whole"
        self.finish(whole)
        reference = weights(last_checkpoint(whole))
        duration_s = training_time_s(whole)
        cut, kept = self.folder / "cut", self.folder / "kept"
        kept.mkdir()
        for number in range(n_kills):
            self.kill(cut, kept, SIGNALS[number % len(SIGNALS)], self.rng.uniform(0, duration_s / 2))
        self.finish(cut, resume=True)
        if weights(last_checkpoint(cut)) != reference:
            self.count.problems.append(f"{self.name}: the final weights differ after {n_kills} kills")
        files = sorted(kept.iterdir())
        for file in self.rng.sample(files, min(n_checkpoints or len(files), len(files))):
            self.continue_by_itself(file, reference)
        print(f"{self.name}: {n_kills} kills, {len(files)} checkpoints written", flush=True)

    def kill(self, folder: Path, kept: Path, signum: signal.Signals, delay_s: float) -> None:
        """Start or continue the run, and stop it some time after its first new checkpoint."""
        file = last_checkpoint(folder)
        before = file.stat().st_mtime_ns if file.is_file() else 0
        with (self.folder / "output.txt").open("w+", encoding="utf-8") as output:
            process = self.start(folder, output, resume=file.is_file())
            end_s = None
            while process.poll() is None and (end_s is None or time.monotonic() < end_s):
                keep(last_checkpoint(folder), kept)
                if end_s is None and file.is_file() and file.stat().st_mtime_ns != before:
                    end_s = time.monotonic() + delay_s
                time.sleep(0.005)
            ended_before = process.poll() is not None
            if not ended_before:
                os.killpg(process.pid, signum) if signum != signal.SIGKILL else process.kill()
            status = process.wait(timeout=300)
            keep(last_checkpoint(folder), kept)
            output.seek(0)
            text = output.read()
        self.count.kills += not ended_before
        expected = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[signum]
        if status not in ((0,) if ended_before else (expected, 0)):
            self.count.problems.append(f"{self.name}: {signum.name} gave status {status}: {text[-2000:]}")
        elif status == expected and signum != signal.SIGKILL and ("ckpt_path=last" not in text or "Traceback" in text):
            self.count.problems.append(f"{self.name}: {signum.name} was not put in words: {text[-2000:]}")

    def continue_by_itself(self, file: Path, reference: str) -> None:
        """Continue one checkpoint in a run folder of its own."""
        self.count.checkpoints += 1
        folder = self.folder / file.stem
        copy = folder / "logs" / "kills" / "run" / "checkpoints" / "last.ckpt"
        copy.parent.mkdir(parents=True)
        os.link(file, copy)
        (folder / "logs" / "kills" / "latest").symlink_to("run")
        try:
            self.finish(folder, resume=True)
        except RuntimeError as error:
            self.count.problems.append(f"{self.name}: {file.stem} does not continue: {error}")
            return
        if weights(copy) != reference:
            self.count.problems.append(f"{self.name}: {file.stem} continues to other weights")

    def finish(self, folder: Path, resume: bool = False) -> None:
        """Let the run come to its end.

        Raises:
            RuntimeError: it failed.
        """
        with (self.folder / "output.txt").open("w+", encoding="utf-8") as output:
            status = self.start(folder, output, resume).wait()
            if status:
                output.seek(0)
                raise RuntimeError(f"status {status}: {output.read()[-2000:]}")

    def start(self, folder: Path, output: object, resume: bool) -> subprocess.Popen:
        """The run as a process group of its own."""
        folder.mkdir(parents=True, exist_ok=True)
        folders = {"HYDRAUDIO_LOG_DIR": str(folder / "logs"), "HYDRAUDIO_DATA_DIR": str(self.scratch / "data")}
        command = [sys.executable, str(ROOT / "src" / "train.py"), *self.arguments]
        return subprocess.Popen(
            [*command, "ckpt_path=last"] if resume else command,
            cwd=folder,
            env={**os.environ, **folders, "OMP_NUM_THREADS": "1"},
            stdout=output,  # type: ignore[arg-type]
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def last_checkpoint(folder: Path) -> Path:
    """Where the only run of a folder has it."""
    return folder / "logs" / "kills" / "latest" / "checkpoints" / "last.ckpt"


def keep(file: Path, kept: Path) -> None:
    """Give a checkpoint a second name, once; the next one is written to another file."""
    try:
        name = kept / f"{file.stat().st_mtime_ns}.ckpt"
        if not name.exists():
            os.link(file.resolve(), name)
    except FileNotFoundError:
        pass  # none yet


def training_time_s(folder: Path) -> float:
    """From the first sign of a run to its last checkpoint."""
    run = last_checkpoint(folder).parent.parent
    return last_checkpoint(folder).stat().st_mtime - (run / "environment.txt").stat().st_mtime


def weights(checkpoint: Path) -> str:
    """A hash of all weights of a checkpoint."""
    import torch

    digest = hashlib.sha256()
    for name, tensor in sorted(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"].items()):
        digest.update(name.encode() + tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


if __name__ == "__main__":
    sys.exit(main())
