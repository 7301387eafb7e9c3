"""What frozen features know of the classes: python scripts/pretraining/probe.py ckpt_path=FILE [data.root=FOLDER].

    python scripts/pretraining/probe.py ckpt_path=logs/esc50_quick/latest/checkpoints/best.ckpt
    python scripts/pretraining/probe.py ckpt_path=FILE data=pretraining/esc50 data.root=/data/ESC-50-master \\
        --probe all --features mean random_mean log_mel_statistics

One pass of the encoder over the corpus gives the features of all folds, which are kept in the feature cache; probes of
all folds are trained in this process. A fold is tested by what was chosen on the next one. Features: a pooling of the
tokens (mean, cls, cls+mean, frequency), each also with random_ before it (the same encoder with random weights), and
log_mel_statistics (mean and deviation of each bin), which an encoder must beat. The attentive probe takes the time
steps of the same encoder instead of the pooling. The overrides are those of src/eval.py.

Prints mean, Student's 95 % interval and deviation of the accuracy over the folds, and writes probes.csv.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

if TYPE_CHECKING:
    from hydraudio.report.tables import Row

POOLINGS = ("mean", "cls", "cls+mean", "frequency")
RANDOM, STATISTICS = "random_", "log_mel_statistics"
PROBES = ("knn", "linear", "mlp", "attentive")


def main(argv: Sequence[str] | None = None) -> int:
    """Probe; 1 if the checkpoint or the corpus does not do."""
    arguments = _parse_arguments(argv)
    from hydra_preflight.errors import ConfigError

    try:
        _run(arguments)
    except ConfigError as error:
        sys.stderr.write(f"Configuration error:\n{error}\n")
        return 1
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"probe.py: {error}\n")
        return 1
    return 0


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*POOLINGS, *(RANDOM + pooling for pooling in POOLINGS), STATISTICS]
    parser.add_argument("overrides", nargs="+", help="as for src/eval.py: ckpt_path=FILE data.root=FOLDER")
    parser.add_argument("--probe", nargs="+", default=["linear"], choices=(*PROBES, "all"), help="which probes")
    parser.add_argument("--features", nargs="+", default=["mean"], choices=known, metavar="KIND", help="of which")
    parser.add_argument("--folds", nargs="+", default=[], metavar="FOLD", help="tested parts of the corpus; all")
    parser.add_argument("--output", type=Path, help="folder; default: logs/probe/<date>_<time>")
    arguments = parser.parse_intermixed_args(argv)
    arguments.probe = list(PROBES) if "all" in arguments.probe else list(dict.fromkeys(arguments.probe))
    return arguments


def _run(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from hydra_preflight.compose import compose_run
    from hydra_preflight.resolvers import run_dir
    from hydraudio.report.tables import rich_table, write_csv
    from hydraudio.tasks.pretraining.probing import probe_rows, probe_table, probed_features

    logs = os.environ.get("HYDRAUDIO_LOG_DIR", f"{ROOT}/logs")
    folder = Path(arguments.output or run_dir(logs, "probe", claim=True)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    cfg = compose_run(arguments.overrides, folder, "eval.yaml")
    source = _opened(cfg)
    rows: list[Row] = []
    for kind in arguments.features:
        vector = [name for name in arguments.probe if name != "attentive"]
        steps = ["attentive"] if "attentive" in arguments.probe and kind != STATISTICS else []
        for names, what in ((vector, kind), (steps, f"{RANDOM}steps" if kind.startswith(RANDOM) else "steps")):
            done = any(row["features"] == what for row in rows)
            if names and not done:
                rows += probe_rows(probed_features(*source, what), what, names, arguments.folds)
    Console().print(rich_table("Accuracy over the folds", probe_table(rows)))
    path = write_csv(folder / "probes.csv", rows)
    print(f"Table: {path}")


def _opened(cfg: Any) -> Any:
    """The checkpoint's task, the same with random weights, its configuration, the corpus, and the caches' folder."""
    from omegaconf import OmegaConf

    from hydra_preflight.errors import ConfigError
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin
    from hydraudio.tasks.pretraining.encoding import EncoderTask
    from hydraudio.trained import build_task, open_checkpoint, restore_data, restore_task

    install_torchaudio_standin()
    if not isinstance(cfg.ckpt_path, str):
        raise ConfigError(f"ckpt_path: the features are those of one checkpoint, not of {cfg.ckpt_path}")
    import torch

    trained, checkpoint = open_checkpoint(cfg, cfg.ckpt_path)
    data = restore_data(cfg, trained, cfg.ckpt_path)
    task = restore_task(trained, checkpoint, cfg.ckpt_path)
    torch.manual_seed(cfg.seed)
    untrained = build_task(trained).eval()
    if not (isinstance(task, EncoderTask) and isinstance(untrained, EncoderTask)):
        raise ConfigError(f"ckpt_path: {cfg.ckpt_path} is of {type(task).__name__}, which has no encoder of this floor")
    untrained.spectrogram.load_state_dict(task.spectrogram.state_dict())
    device = "cuda" if torch.cuda.is_available() and cfg.trainer.accelerator != "cpu" else "cpu"
    config = OmegaConf.to_container(trained.model)
    return task.to(device), untrained.to(device), config, data, Path(cfg.paths.cache_dir)


if __name__ == "__main__":
    sys.exit(main())
