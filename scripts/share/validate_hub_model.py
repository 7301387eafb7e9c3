"""Check a published model, or a folder, against the checkpoint that it should be.

    python scripts/share/validate_hub_model.py USER/NAME --ckpt logs/NAME/latest/checkpoints/best.ckpt
    python scripts/share/validate_hub_model.py shared/NAME --ckpt FILE [--data-root FOLDER] [--n-items 64] [--json FILE]

Nine checks run on that very copy, downloaded at one fixed commit: it is reachable and as visible as asked; the files
are complete, without pickles and tokens; their checksums; the model card; loading in a process without network; names
and types of the tensors; the results of three clips, alone and in a batch; what the numbers mean (sample rate, labels,
preprocessing ...); what the task logs of validation items. Exit status 1 if one fails. Needs the extra `ssl`.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import rootutils

from hydraudio.core.files import write_json

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="USER/NAME on the hub, or a folder")
    parser.add_argument("--ckpt", type=Path, required=True, help="the checkpoint")
    parser.add_argument("--revision", help="commit, tag or branch; default: the newest commit")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument("--private", action="store_true", help="fail if the repository is public")
    visibility.add_argument("--public", action="store_true", help="fail if it is private")
    parser.add_argument("--data-root", type=Path, help="folder of the corpus; default: as trained")
    parser.add_argument("--n-items", type=int, default=64, help="validation items for the scores")
    parser.add_argument("--json", type=Path, help="write the report here")
    parser.add_argument("--endpoint", help="address of the hub; default: HF_ENDPOINT or the public one")
    parser.add_argument("--trusted-target", action="append", default=[], help="as extras.trusted_targets")
    arguments = parser.parse_args(argv)
    if arguments.n_items < 1:
        parser.error(f"--n-items {arguments.n_items} must be at least 1")
    try:
        with tempfile.TemporaryDirectory() as temporary:
            passed = _run(arguments, Path(temporary))
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    return 0 if passed else 1


def _run(arguments: argparse.Namespace, temporary: Path) -> bool:
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)  # which devices there are
    from hydra_preflight.compose import compose_run
    from hydraudio.share.model_folder import open_trained, write_model_folder
    from hydraudio.share.validate import Validation, fetch_copy, report, validate
    from hydraudio.trained import restore_data

    trusted = f"extras.trusted_targets=[{','.join(arguments.trusted_target)}]"
    root = [f"data.root={arguments.data_root.resolve()}"] if arguments.data_root else []
    cfg = compose_run(["ckpt_path=.", trusted, "+data.num_workers=0", *root], ROOT / "logs", "eval.yaml")
    trained = open_trained(cfg, arguments.ckpt)
    validation = Validation(
        copy=fetch_copy(arguments.model, temporary / "copy", arguments.revision, arguments.endpoint),
        reference=write_model_folder(temporary / "reference", trained),
        trained=trained,
        datamodule=restore_data(cfg, trained.config, arguments.ckpt),
        n_items=arguments.n_items,
        private=True if arguments.private else False if arguments.public else None,
        trusted_prefixes=tuple(arguments.trusted_target),
    )
    outcomes = validate(validation)
    for outcome in outcomes:
        print(f"{'ok  ' if outcome.passed else 'FAIL'}  {outcome.name:<12} {outcome.finding}")
    content = report(validation, outcomes)
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        write_json(arguments.json, content)
    return bool(content["passed"])


if __name__ == "__main__":
    sys.exit(main())
