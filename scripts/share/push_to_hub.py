"""Write a checkpoint as a folder that stands alone, and publish it on the Hugging Face hub.

    python scripts/share/push_to_hub.py logs/NAME/latest/checkpoints/best.ckpt --dry-run --output shared/NAME
    python scripts/share/push_to_hub.py logs/NAME/latest/checkpoints/best.ckpt --repo USER/NAME [--public] [--update]

The folder holds model.safetensors (float32, adapters folded in), config.json, preprocessor_config.json, README.md (the
model card, with the metrics of the run's report) and metrics.json. --dry-run needs no network. A repository is private
unless --public is given; one that holds a model is only replaced with --update. The token is taken from
HUGGINGFACE_TOKEN, HF_TOKEN or the stored login (`hf auth login`). Needs the extra `ssl`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.repo is None and not arguments.dry_run:
        parser.error("give --repo USER/NAME, or --dry-run to write the folder only")
    if arguments.dry_run and arguments.output is None:
        parser.error("--dry-run writes the folder --output")
    try:
        if arguments.output is not None:
            _run(arguments, arguments.output)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                _run(arguments, Path(temporary) / "model")
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=lambda text: Path(text.removeprefix("ckpt_path=")))
    parser.add_argument("--repo", help="USER/NAME on the hub")
    parser.add_argument(
        "--public", action="store_true", help="a repository that everybody sees; default: a private one"
    )
    parser.add_argument("--update", action="store_true", help="replace the model of a repository that holds one")
    parser.add_argument("--dry-run", action="store_true", help="write and check the folder only")
    parser.add_argument("--output", type=Path, help="keep the folder here")
    parser.add_argument(
        "--report", type=Path, help="folder of a report, beside metrics.json; default: that of the checkpoint's run"
    )
    parser.add_argument("--license", default="other", help="identifier of the hub; default: other, with a note")
    parser.add_argument("--language", default="en")
    parser.add_argument("--title", help="of the model card")
    parser.add_argument("--base-model", help="OWNER/NAME that the training started from; default: as recorded")
    parser.add_argument("--endpoint", help="address of the hub; default: HF_ENDPOINT or the public one")
    parser.add_argument("--trusted-target", action="append", default=[], help="as extras.trusted_targets")
    return parser


def _run(arguments: argparse.Namespace, folder: Path) -> None:
    from hydra_preflight.compose import compose_run
    from hydraudio.share.card import CardOptions
    from hydraudio.share.model_folder import open_trained, write_model_folder
    from hydraudio.share.upload import check_folder, publish

    trusted = f"extras.trusted_targets=[{','.join(arguments.trusted_target)}]"
    cfg = compose_run(["ckpt_path=.", trusted], ROOT / "logs", "eval.yaml")
    options = CardOptions(arguments.license, arguments.language, arguments.title, arguments.base_model)
    write_model_folder(folder, open_trained(cfg, arguments.checkpoint), options, arguments.report)
    check_folder(folder)
    for file in sorted(folder.iterdir()):
        print(f"{file.stat().st_size:>12,}  {file.name}")
    if not (folder / "metrics.json").is_file():
        print("There are no metrics: the run has no report about this checkpoint (python src/eval.py, then --report)")
    if arguments.dry_run:
        print(f"wrote {folder}; nothing was published")
        return
    result = publish(
        folder, arguments.repo, private=not arguments.public, update=arguments.update, endpoint=arguments.endpoint
    )
    done = "published" if result.changed else "unchanged:"
    print(f"{done} {result.repo} at revision {result.revision}")


if __name__ == "__main__":
    sys.exit(main())
