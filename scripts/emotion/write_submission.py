"""Challenge files of an emotion checkpoint: python scripts/emotion/write_submission.py ckpt_path=FILE data.root=FOLDER.

    python scripts/emotion/write_submission.py data.root=/data/MSP \\
        ckpt_path=logs/msp_wavlm_joint/latest/checkpoints/best.ckpt
    python scripts/emotion/write_submission.py --check submission_task1.csv --names /data/MSP/Audios

The first predicts the turns of --split, which need no labels, and writes submission_task1.csv (FileName,EmoClass) and
submission_task2.csv (FileName,EmoAct,EmoVal,EmoDom on the scale from 1 to 7), as far as the model has the heads, beside
the other files of a report. The overrides are those of src/eval.py. Both look for wrong columns, letters and ranges,
and for files that are missing, unknown or there twice; the exit status is 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

AUDIO_SUFFIXES = (".wav", ".flac")


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check; 1 if something is wrong."""
    arguments = _parse_arguments(argv)
    from hydra_preflight.errors import ConfigError

    try:
        if arguments.check:
            return _report(arguments.check, _names(arguments))
        return _write(arguments)
    except ConfigError as error:
        sys.stderr.write(f"Configuration error:\n{error}\n")
    except (FileNotFoundError, ValueError) as error:
        sys.stderr.write(f"write_submission.py: {error}\n")
    return 1


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for src/eval.py: ckpt_path=FILE data.root=FOLDER")
    parser.add_argument("--split", nargs="+", default=["Test3"], help="splits of the corpus to predict")
    parser.add_argument("--output", type=Path, help="folder; default: logs/submission/<date>_<time>")
    parser.add_argument("--check", type=Path, nargs="+", help="only check these files")
    parser.add_argument(
        "--names", type=Path, help="folder of audio, or text file with a name per line, to compare with"
    )
    arguments = parser.parse_args(argv)
    if bool(arguments.check) == bool(arguments.overrides):
        parser.error("give ckpt_path=FILE to write a submission, or --check FILE to check one")
    return arguments


def _write(arguments: argparse.Namespace) -> int:
    from hydra_preflight.compose import compose_run
    from hydra_preflight.errors import ConfigError
    from hydra_preflight.resolvers import run_dir
    from hydraudio.report.classification.callback import PREDICTIONS_FILE
    from hydraudio.run import evaluate_checkpoint
    from hydraudio.tasks.emotion.report.predictions import EmotionTable
    from hydraudio.tasks.emotion.report.submission import ATTRIBUTE_FILE, CATEGORY_FILE

    logs = os.environ.get("HYDRAUDIO_LOG_DIR", f"{ROOT}/logs")
    folder = Path(arguments.output or run_dir(logs, "submission", claim=True)).resolve()
    splits = ", ".join(arguments.split)
    data = [f"++data.splits={{test: [{splits}]}}", "++data.unlabelled=keep"]
    cfg = compose_run([*arguments.overrides, *data], folder, "eval.yaml")
    if not isinstance(cfg.ckpt_path, str):
        raise ConfigError(f"ckpt_path: a submission is made by one checkpoint, not by {cfg.ckpt_path}")
    evaluate_checkpoint(cfg, cfg.ckpt_path, folder)
    report = folder / "report"
    files = [report / name for name in (CATEGORY_FILE, ATTRIBUTE_FILE) if (report / name).is_file()]
    if not files:
        raise ValueError(f"{cfg.ckpt_path}: no submission was written; {report}/index.html says why")
    names = _names(arguments) or EmotionTable.load(report / PREDICTIONS_FILE).ids.tolist()
    return _report(files, names)


def _names(arguments: argparse.Namespace) -> list[str] | None:
    """Names that a submission must hold, or None."""
    path: Path | None = arguments.names
    if path is None:
        return None
    if path.is_dir():
        return sorted(file.name for file in path.iterdir() if file.suffix.lower() in AUDIO_SUFFIXES)
    if not path.is_file():
        raise FileNotFoundError(f"--names {path}: no such file or folder that can be read")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _report(files: Sequence[Path], names: list[str] | None) -> int:
    from hydraudio.tasks.emotion.report.submission import submission_defects

    defective = 0
    for file in files:
        defects = submission_defects(file, names)
        defective += bool(defects)
        print(f"{file}: {'ready to submit' if not defects else f'{len(defects)} defects'}")
        for line in defects:
            print(f"  {line}")
    return 1 if defective else 0


if __name__ == "__main__":
    sys.exit(main())
