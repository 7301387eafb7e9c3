"""Weights between SpeechBrain's separation recipes and Hydraudio.

    python scripts/separation/convert_checkpoint.py from-speechbrain --model conv_tasnet FOLDER weights.pt \\
        --norm gLN [--causal]
    python scripts/separation/convert_checkpoint.py from-speechbrain --model dprnn FOLDER weights.pt \\
        --chunk-size 250 --norm gLN
    python scripts/separation/convert_checkpoint.py from-speechbrain --model sepformer FOLDER weights.pt \\
        --n-heads 8 --chunk-size 250
    python scripts/separation/convert_checkpoint.py from-speechbrain --model resepformer FOLDER weights.pt \\
        --n-heads 8 --segment-frames 150
    python scripts/separation/convert_checkpoint.py to-speechbrain weights.pt|last.ckpt FOLDER [--causal]

FOLDER holds SpeechBrain's encoder.ckpt, masknet.ckpt and decoder.ckpt. weights.pt holds `target` (the network's class),
`arguments` (of its constructor) and `state_dict`. A Hydraudio training checkpoint is read as well. The options say what
SpeechBrain's network was given and no shape tells; its norm "ln" is "gLN" here.
"""

import argparse
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from hydra_preflight.foreign import read_text
from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet
from hydraudio.tasks.separation.networks.converters import conv_tasnet, dprnn, resepformer, sepformer
from hydraudio.tasks.separation.networks.converters.conv_tasnet import (
    conv_tasnet_from_speechbrain,
    conv_tasnet_to_speechbrain,
)
from hydraudio.tasks.separation.networks.converters.dprnn import dprnn_from_speechbrain, dprnn_to_speechbrain
from hydraudio.tasks.separation.networks.converters.files import (
    StateDict,
    read_speechbrain_folder,
    write_speechbrain_folder,
)
from hydraudio.tasks.separation.networks.converters.resepformer import (
    resepformer_from_speechbrain,
    resepformer_to_speechbrain,
)
from hydraudio.tasks.separation.networks.converters.sepformer import (
    sepformer_from_speechbrain,
    sepformer_to_speechbrain,
)
from hydraudio.tasks.separation.networks.dprnn import DPRNN
from hydraudio.tasks.separation.networks.resepformer import RESepFormer
from hydraudio.tasks.separation.networks.sepformer import SepFormer


class Converter(NamedTuple):
    net: type[nn.Module]
    arguments: Callable[..., dict[str, Any]]
    read: Callable[..., Any]
    write: Callable[..., dict[str, StateDict]]


CONVERTERS = {
    "conv_tasnet": Converter(
        ConvTasNet, conv_tasnet.arguments, conv_tasnet_from_speechbrain, conv_tasnet_to_speechbrain
    ),
    "dprnn": Converter(DPRNN, dprnn.arguments, dprnn_from_speechbrain, dprnn_to_speechbrain),
    "sepformer": Converter(SepFormer, sepformer.arguments, sepformer_from_speechbrain, sepformer_to_speechbrain),
    "resepformer": Converter(
        RESepFormer, resepformer.arguments, resepformer_from_speechbrain, resepformer_to_speechbrain
    ),
}


def target(net: type[nn.Module]) -> str:
    return f"{net.__module__}.{net.__name__}"


def from_speechbrain(model: str, folder: Path, output: Path, **options: Any) -> None:
    converter, parts = CONVERTERS[model], read_speechbrain_folder(folder)
    options = matching_options(converter.read, model, options)
    net, arguments = converter.read(parts, **options), converter.arguments(parts, **options)
    output.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"target": target(type(net)), "arguments": arguments, "state_dict": net.state_dict()}, output)
    print(f"wrote {output}; in configs/model set net to:")
    print("\n".join(f"  {name}: {value}" for name, value in arguments.items()))


def to_speechbrain(file: Path, folder: Path, **options: Any) -> None:
    model, net = read_net(file)
    convert = CONVERTERS[model].write
    write_speechbrain_folder(convert(net, **matching_options(convert, model, options)), folder)
    print(f"wrote {folder}")


def matching_options(convert: Callable[..., Any], model: str, options: dict[str, Any]) -> dict[str, Any]:
    """The given ones (neither None nor False), and False for flags; refuses a missing one and one without effect."""
    parameters = dict(list(inspect.signature(convert).parameters.items())[1:])  # all but the weights
    given = {name: value for name, value in options.items() if value is not None and value is not False}
    flags = {name: False for name, value in options.items() if value is False and name in parameters}
    unknown = sorted(given.keys() - parameters.keys())
    needed = {name for name, parameter in parameters.items() if parameter.default is parameter.empty}
    missing = sorted(needed - given.keys() - flags.keys())
    for problem, names in (("has no", unknown), ("needs", missing)):
        if names:
            raise SystemExit(f"{model} {problem} {', '.join('--' + name.replace('_', '-') for name in names)}")
    return flags | given


def read_net(file: Path) -> tuple[str, Any]:
    """Name of the converter and net, from `weights.pt` as written above or from a training checkpoint."""
    content = torch.load(file, map_location="cpu", weights_only=True)
    prefix = ""
    if "hydraudio_config" in content:
        node: Any = read_text(content["hydraudio_config"], str(file))["model"]["net"]
        prefix, arguments = "net.", {name: value for name, value in node.items() if not name.startswith("_")}
        content |= {"target": node["_target_"], "arguments": arguments}
    models = {target(converter.net): model for model, converter in CONVERTERS.items()}
    if content["target"] not in models:
        choices = ", ".join(CONVERTERS)
        raise ValueError(f"{file} holds a {content['target']}; those that convert to SpeechBrain are {choices}")
    model = models[content["target"]]
    net = CONVERTERS[model].net(**content["arguments"])
    state = {k.removeprefix(prefix): v for k, v in content["state_dict"].items() if k.startswith(prefix)}
    net.load_state_dict(state)
    return model, net


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    reader = commands.add_parser("from-speechbrain")
    reader.add_argument("--model", choices=CONVERTERS, required=True)
    reader.add_argument("folder", type=Path)
    reader.add_argument("output", type=Path)
    reader.add_argument("--norm", choices=("gLN", "cLN"))
    reader.add_argument("--chunk-size", type=int)
    reader.add_argument("--n-heads", type=int)
    reader.add_argument("--segment-frames", type=int)
    reader.add_argument("--mask-activation", choices=("relu", "sigmoid"))
    reader.add_argument("--causal", action="store_true", help="conv_tasnet")
    writer = commands.add_parser("to-speechbrain")
    writer.add_argument("file", type=Path)
    writer.add_argument("folder", type=Path)
    writer.add_argument("--causal", action="store_true", help="conv_tasnet: as SpeechBrain's MaskNet will get it")
    options = vars(parser.parse_args(argv))
    {"from-speechbrain": from_speechbrain, "to-speechbrain": to_speechbrain}[options.pop("command")](**options)


if __name__ == "__main__":
    main()
