"""Test checkpoints on several corpora: scripts/results/cross_corpus.py ckpt_path=[FILE,...] --corpus NAME KEY=VALUE ...

    python scripts/results/cross_corpus.py "ckpt_path=[logs/a/latest/checkpoints/best.ckpt,logs/b/...]" \
        --corpus NAME data=TASK/CORPUS data.root=/data/CORPUS \
        --corpus ANOTHER data=TASK/ANOTHER data.root=/data/ANOTHER data.KEY=VALUE

The overrides are those of src/eval.py; those before the first --corpus hold for all. Writes matrix.csv and index.html,
and the report of every pair below them.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main() -> int:
    arguments = _parse_arguments()
    from hydra_preflight.errors import ConfigError

    try:
        _run(arguments)
    except ConfigError as error:
        sys.stderr.write(f"Configuration error:\n{error}\n")
        return 1
    return 0


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="+", help="as for src/eval.py, for all corpora: ckpt_path=[FILE,FILE]")
    parser.add_argument(
        "--corpus",
        nargs="+",
        action="append",
        required=True,
        metavar=("NAME", "KEY=VALUE"),
        help="name and overrides of a corpus; once for each",
    )
    parser.add_argument("--output", type=Path, help="folder; default: logs/cross_corpus/<date>_<time>")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> None:
    from omegaconf import ListConfig

    from hydra_preflight.compose import compose_run
    from hydra_preflight.errors import ConfigError
    from hydra_preflight.resolvers import run_dir

    corpora = {name: overrides for name, *overrides in arguments.corpus}
    bad = [name for name in corpora if not re.fullmatch(r"[\w.+-]+", name)]
    if bad or len(corpora) < len(arguments.corpus):
        raise ConfigError(f"--corpus: {bad[0] if bad else 'a name'}: names must be single words, each given once")
    output = arguments.output or run_dir(
        os.environ.get("HYDRAUDIO_LOG_DIR", f"{ROOT}/logs"), "cross_corpus", claim=True
    )
    folder = Path(output).resolve()
    configurations = {
        name: compose_run(_without_repetition([*arguments.overrides, *overrides]), folder / name, "eval.yaml")
        for name, overrides in corpora.items()
    }
    from hydraudio.run import evaluate_matrix

    cfg = next(iter(configurations.values()))
    paths = list(cfg.ckpt_path) if isinstance(cfg.ckpt_path, ListConfig) else [cfg.ckpt_path]
    evaluate_matrix(configurations, paths, folder)


def _without_repetition(overrides: list[str]) -> list[str]:
    """The last of several values of a key."""
    return list({override.partition("=")[0]: override for override in overrides}.values())


if __name__ == "__main__":
    sys.exit(main())
