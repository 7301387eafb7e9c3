"""Conv-TasNet weights between SpeechBrain's recipes and Hydraudio.

    python scripts/convert_checkpoint.py from-speechbrain FOLDER weights.pt --norm gLN [--causal]
    python scripts/convert_checkpoint.py to-speechbrain weights.pt|last.ckpt FOLDER [--causal]

FOLDER holds SpeechBrain's encoder.ckpt, masknet.ckpt and decoder.ckpt. weights.pt holds `arguments` (of
`hydraudio.models.conv_tasnet.ConvTasNet`) and `state_dict`. A Hydraudio training checkpoint is read as well.
--causal and --norm are what SpeechBrain's MaskNet is given.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from hydraudio.models.conv_tasnet import ConvTasNet
from hydraudio.models.converters import (
    conv_tasnet_from_speechbrain,
    conv_tasnet_to_speechbrain,
    read_speechbrain_folder,
    write_speechbrain_folder,
)


def from_speechbrain(folder: Path, output: Path, norm: str, causal: bool) -> None:
    net = conv_tasnet_from_speechbrain(read_speechbrain_folder(folder), norm, causal)
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"arguments": net.arguments, "state_dict": net.state_dict()}, output)
    print(f"wrote {output}; in configs/model set net to:")
    print("\n".join(f"  {name}: {value}" for name, value in net.arguments.items()))


def to_speechbrain(file: Path, folder: Path, causal: bool) -> None:
    write_speechbrain_folder(conv_tasnet_to_speechbrain(read_net(file), causal), folder)
    print(f"wrote {folder}")


def read_net(file: Path) -> ConvTasNet:
    """From `weights.pt` as written above, or from a training checkpoint."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    if "hydraudio_config" in content:
        arguments = net_arguments(content["hydraudio_config"], file)
        prefix = "net."
    else:
        arguments, prefix = content["arguments"], ""
    net = ConvTasNet(**arguments)
    state = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    net.load_state_dict(state)
    return net


def net_arguments(config: str, file: Path) -> dict[str, Any]:
    node: Any = OmegaConf.to_container(OmegaConf.create(config).model.net)
    target = node.pop("_target_")
    if target != f"{ConvTasNet.__module__}.{ConvTasNet.__name__}":
        raise ValueError(f"{file} holds a {target}; only ConvTasNet converts to SpeechBrain")
    return {name: value for name, value in node.items() if not name.startswith("_")}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    reader = commands.add_parser("from-speechbrain")
    reader.add_argument("folder", type=Path)
    reader.add_argument("output", type=Path)
    reader.add_argument("--norm", choices=("gLN", "cLN"), required=True)
    reader.add_argument("--causal", action="store_true")
    writer = commands.add_parser("to-speechbrain")
    writer.add_argument("file", type=Path)
    writer.add_argument("folder", type=Path)
    writer.add_argument("--causal", action="store_true")
    options = vars(parser.parse_args(argv))
    {"from-speechbrain": from_speechbrain, "to-speechbrain": to_speechbrain}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
