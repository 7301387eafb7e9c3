"""Fetch a pretrained speech encoder from the Hugging Face hub, at a fixed revision and with checksums.

    python scripts/share/download_model.py microsoft/wavlm-base-plus
    python scripts/share/download_model.py microsoft/wavlm-base-plus --offline      # only verify what is there
    python scripts/share/download_model.py OWNER/NAME --revision COMMIT --sha256 HEX --output data/models/NAME

The folder, data/models/NAME by default, holds config.json, preprocessor_config.json, the weights and source.json
(name, commit, SHA-256 of every file), and is what model.net.upstream.source takes. Repeating the command verifies the
files; after an interruption it goes on where it stopped. A machine without a network gets a copy of the folder. The
encoders of configs/model/upstream are pinned here; of others the newest revision is taken and recorded. Gated or
private models need `hf auth login` or HF_TOKEN; HF_ENDPOINT names another address of the hub. Needs the extra `ssl`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="OWNER/NAME on the hub")
    parser.add_argument("--revision", help="commit, tag or branch")
    parser.add_argument("--output", type=Path, help="folder to write")
    parser.add_argument("--sha256", help="of the weights")
    parser.add_argument("--offline", action="store_true", help="fetch nothing, only verify")
    arguments = parser.parse_args(argv)

    from hydraudio.share.download import download_model

    output = arguments.output or ROOT / "data" / "models" / arguments.model.rpartition("/")[2]
    try:
        result = download_model(
            arguments.model,
            output,
            revision=arguments.revision,
            sha256=arguments.sha256,
            offline=arguments.offline,
        )
    except (ValueError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(f"{'fetched' if result.fetched else 'complete already:'} {result.folder} (revision {result.revision})")
    if not result.pinned:
        print(f"The revision was not fixed: {result.revision} is recorded in source.json; give it with --revision")
    print(f"Use it with model.net.upstream.source={result.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
