"""Write a trained network as ONNX and check the file with onnxruntime at three lengths and many levels.

    python scripts/share/export_onnx.py logs/NAME/latest/checkpoints/best.ckpt network.onnx

Instead of a checkpoint, a run folder or the folder of a shared model will do, as for `hydraudio.load`.
The graph takes the waveform (1, time) float32 of any length and gives the outputs of the task's specification, with one
item along the axis of the batch. Needs the packages of the extra `export`. A checkpoint with classes of another package
needs --trusted-target PACKAGE.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import rootutils

rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path, help="file to write")
    parser.add_argument("--trusted-target", action="append", default=[], help="as extras.trusted_targets")
    arguments = parser.parse_args(argv)

    import hydraudio
    from hydraudio.share.onnx import export_onnx

    try:
        network = hydraudio.load(arguments.checkpoint, arguments.trusted_target).export_module()
        difference = export_onnx(network, arguments.output)
    except (ValueError, FileNotFoundError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    size_mb = arguments.output.stat().st_size / 1e6
    print(f"wrote {arguments.output} ({size_mb:.1f} MB), which differs by {difference:.1e} of the peak at most")
    print(f"{', '.join(network.inputs)} -> {', '.join(network.output_names)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
