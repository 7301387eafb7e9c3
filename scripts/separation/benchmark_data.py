"""Items per second of the PolSESS datamodule, in one process: python scripts/separation/benchmark_data.py [--rows 64]

Compares, in one run and on a corpus of random components written for the purpose: all files of a row read with
soundfile and mixed (what a plain loader does), the datamodule on WAV files in both constructions, and the datamodule
on a pack. Every figure includes mixing, augmentation draws and collating into a batch; files are in the page cache.
Also prints how many files the cheaper construction reads.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rootutils
import soundfile
import torch

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

from rich.console import Console  # noqa: E402
from rich.progress import track  # noqa: E402
from rich.table import Table  # noqa: E402

from hydraudio.tasks.separation.corpora.mixtures import collate  # noqa: E402
from hydraudio.tasks.separation.corpora.polsess import layout as polsess_format  # noqa: E402
from hydraudio.tasks.separation.corpora.polsess import mm_ipc  # noqa: E402
from hydraudio.tasks.separation.corpora.polsess.datamodule import PolSESSDataModule  # noqa: E402
from hydraudio.tasks.separation.corpora.polsess.dataset import PolSESSDataset  # noqa: E402
from hydraudio.tasks.separation.corpora.polsess.pack import pack_corpus  # noqa: E402

SAMPLE_RATE = 8000
CLIP_SAMPLES = 4 * SAMPLE_RATE
BATCH_SIZE = 16

Step = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=64, help="half of them indoors (64)")
    parser.add_argument("--repeats", type=int, default=7, help="passes over the corpus per figure (7)")
    parser.add_argument("--problem", choices=mm_ipc.PROBLEMS, default=None, help="default: all three")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=110)
    problems = [arguments.problem] if arguments.problem else list(mm_ipc.PROBLEMS)
    with tempfile.TemporaryDirectory() as folder:
        root = _write_corpus(Path(folder) / "corpus", arguments.rows)
        pack_corpus(root, Path(folder) / "packed", SAMPLE_RATE)
        for problem in problems:
            console.print(_speed_table(problem, root, Path(folder) / "packed", arguments.repeats))
    console.print(_files_table())


def _speed_table(problem: str, root: Path, packed: Path, repeats: int) -> Table:
    """Interleaves the candidates, so that a slow moment of the machine meets all of them."""
    whole = {
        "all files, soundfile": _plain_loader(_dataset(problem, root)),
        "WAV, subtract": _epochs(_dataset(problem, root, construction="subtract")),
        "WAV, auto": _epochs(_dataset(problem, root)),
        "packed, subtract": _epochs(_dataset(problem, packed, construction="subtract")),
        "packed, auto": _epochs(_dataset(problem, packed)),
        "packed, auto, gain, flip, swap": _epochs(
            _dataset(problem, packed, gain_db=[-6, 3], flip_polarity=0.5, swap_talkers=0.5)
        ),
        "packed, auto, 1 s crops": _epochs(_dataset(problem, packed, segment_s=1.0)),
        "packed, dynamic mixing": _epochs(_dataset(problem, packed, dynamic_mixing={})),
        "packed, dynamic mixing, new rooms": _epochs(_dataset(problem, packed, dynamic_mixing={"reverb": "new"})),
        "packed, speed of the talkers": _epochs(_dataset(problem, packed, speed=[0.9, 1.1], segment_s=3.6)),
    }
    n_items = len(_dataset(problem, root))
    seconds = {name: [] for name in whole}
    for repeat in range(repeats + 1):
        for name, step in whole.items():
            begin = time.perf_counter()
            step()
            if repeat:  # the first pass fills the page cache
                seconds[name].append(time.perf_counter() - begin)
    table = Table("", "items/s", "slowest", "fastest", "ratio", title=f"{problem}: items per second and core")
    baseline = statistics.median(seconds["all files, soundfile"])
    for name, times in seconds.items():
        median = statistics.median(times)
        figures = [n_items / median, n_items / max(times), n_items / min(times)]
        table.add_row(name, *(f"{figure:.0f}" for figure in figures), f"{baseline / median:.2f}x")
    return table


def _dataset(problem: str, root: Path, **options: Any) -> PolSESSDataset:
    data = PolSESSDataModule(root=str(root), problem=problem, sample_rate=SAMPLE_RATE, **options)
    data.setup("fit")
    return data.datasets["train"]


def _epochs(dataset: PolSESSDataset) -> Step:
    """Makes all batches of an epoch, another epoch with every call."""
    epochs = iter(range(10**9))

    def step() -> None:
        epoch = next(epochs)
        for first in range(0, len(dataset), BATCH_SIZE):
            indices = range(first, min(first + BATCH_SIZE, len(dataset)))
            collate(dataset.__getitems__([(epoch, index) for index in indices]))

    return step


def _plain_loader(dataset: PolSESSDataset) -> Step:
    """Reads every file of a row with soundfile, subtracts what the variant leaves out, and stacks."""
    epochs = iter(range(10**9))

    def step() -> None:
        epoch = next(epochs)
        for first in range(0, len(dataset), BATCH_SIZE):
            indices = range(first, min(first + BATCH_SIZE, len(dataset)))
            items = [_plain_item(dataset, epoch, index) for index in indices]
            for signals in zip(*items, strict=True):
                torch.stack(signals)

    return step


def _plain_item(dataset: PolSESSDataset, epoch: int, index: int) -> tuple[torch.Tensor, torch.Tensor]:
    plan = dataset.plans(epoch, index)
    indoor = bool(dataset.index.indoor[plan.row])
    parts = {
        name: torch.from_numpy(soundfile.read(dataset.index.path(plan.row, name), dtype="float32")[0])
        for name in ("mix", *mm_ipc.parts_of(indoor))
    }
    recipe = mm_ipc.recipe(dataset.problem, plan.variant, indoor, "subtract")
    mixture = sum(sign * parts[name] for name, sign in recipe.mixture)
    targets = [sum(parts[name] for name in names) for names in recipe.targets]
    return torch.as_tensor(mixture), torch.stack([torch.as_tensor(target) for target in targets])


def _files_table() -> Table:
    """Files read per item, averaged over the variants of a room (uniform sampling).

    In testing the variants of a row come together, and a batch reads each of their files once.
    """
    columns = ("problem", "rows", "subtract", "add", "auto", "auto / subtract", "auto / all files")
    table = Table(*columns, "testing", "testing / subtract", title="files read per item")
    for problem in mm_ipc.PROBLEMS:
        for indoor in (True, False):
            variants = mm_ipc.compatible_variants(indoor)
            means = [
                np.mean([len(mm_ipc.recipe(problem, variant, indoor, name).files) for variant in variants])
                for name in ("subtract", "add", "auto")
            ]
            shares = [means[2] / means[0], means[2] / (1 + len(mm_ipc.parts_of(indoor)))]
            needed = mm_ipc.needed_components(problem, variants, indoor) | {"event", "sp1", "sp2"}  # metadata
            together = len(needed) / len(variants)
            figures = [f"{mean:.2f}" for mean in means] + [f"{share:.1%}" for share in shares]
            figures += [f"{together:.2f}", f"{together / means[0]:.1%}"]
            table.add_row(problem, "indoor" if indoor else "outdoor", *figures)
    return table


def _write_corpus(root: Path, n_rows: int) -> Path:
    rng = np.random.default_rng(0)
    for subset, count in (("train", n_rows), ("val", 1)):
        polsess_format.make_folders(root, subset)
        rows = []
        for number in track(range(count), f"writing {subset}", transient=True):
            indoor = number % 2 == 0
            names = polsess_format.draw_file_names(rng, indoor=indoor)
            signals = rng.uniform(-0.05, 0.05, (7 if indoor else 4, CLIP_SAMPLES))
            polsess_format.write_row(root, subset, names, polsess_format.name_parts(*signals), SAMPLE_RATE)
            speech = {f"speech{k}OryginalPath": f"/speech/talker{2 * number + k}/a.wav" for k in (1, 2)}
            rows.append(dict.fromkeys(polsess_format.COLUMNS, 1) | names | speech)
        polsess_format.write_csv(polsess_format.csv_path(root, subset), rows)
    return root


if __name__ == "__main__":
    main()
