"""Weights of the public AudioMAE++ for `init_from`.

    python scripts/pretraining/convert_checkpoint.py checkpoint-99.pth base.ckpt --size base
    python src/train.py experiment=pretraining/finetune_esc50 model/pretraining/encoder=audiomaepp_base \\
        model.net.encoder.compat=released model.standardize.kind=clip init_from=base.ckpt "init_only=[net.encoder]"

The file is read as data: nothing that it names is imported or called.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

import torch  # noqa: E402
import yaml  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from omegaconf import OmegaConf  # noqa: E402

from hydraudio.tasks.pretraining.networks.converters.audiomaepp import from_audiomaepp, read_checkpoint  # noqa: E402
from hydraudio.testing import compose  # noqa: E402

SIZES = ("tiny", "small", "medium", "base", "large")


def convert(checkpoint: Path, output: Path, size: str) -> None:
    """Write the weights, with the part of the configuration that describes their network.

    Raises:
        ValueError: the checkpoint is not of AudioMAE++.
        RuntimeError: it is of another size.
    """
    chosen = ["task=pretraining", f"model=pretraining/audiomaepp_{size}", "model.net.encoder.compat=released"]
    net_config = compose(chosen, tempfile.gettempdir()).model
    net = instantiate(net_config.net)
    net.load_state_dict(from_audiomaepp(read_checkpoint(checkpoint)))
    described = {"model": {"net": OmegaConf.to_container(net_config.net, resolve=True), "class_names": []}}
    state = {f"net.{name}": value for name, value in net.state_dict().items()}
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": state, "hydraudio_config": yaml.safe_dump(described)}, output)
    print(f"wrote {output}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("--size", choices=SIZES, required=True)
    args = parser.parse_args(argv)
    convert(args.checkpoint, args.output, args.size)


if __name__ == "__main__":
    main()
