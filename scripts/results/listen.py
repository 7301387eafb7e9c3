"""Listen to checkpoints in a local web page: scripts/results/listen.py [--port N] [--logs FOLDER] [key=value ...]

Choose a checkpoint of any task below logs/, a corpus, an item, or bring a recording. The page is served on
127.0.0.1 only and works without a network. The overrides are those of src/eval.py, such as
extras.trusted_targets=[my_package.] or trainer.accelerator=gpu.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

import rootutils

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main() -> int:
    arguments = _parse_arguments()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)  # which devices there are
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: nothing is left behind
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # nothing leaves this machine
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        from hydraudio.report.listen.page import serve
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        print("The page needs gradio: pip install -c constraints.txt -e '.[demo,metrics]'", file=sys.stderr)
        return 1
    from hydra_preflight.errors import ConfigError
    from hydraudio.report.listen.session import Session

    try:
        session = Session(arguments.overrides, arguments.logs)
        serve(session, _announce, arguments.port, arguments.open)
    except ConfigError as error:
        print(f"Configuration error:\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _announce(address: str) -> None:
    print(f"Listen at {address} (Ctrl-C ends)", flush=True)


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*", help="as for src/eval.py")
    parser.add_argument("--port", type=int, default=None, help="default: the first free one from 7860")
    parser.add_argument("--logs", type=Path, default=None, help="where checkpoints are looked for; default: logs/")
    parser.add_argument("--open", action="store_true", help="open the page in a browser")
    return parser.parse_intermixed_args()


if __name__ == "__main__":
    sys.exit(main())
