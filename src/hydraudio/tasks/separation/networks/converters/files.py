"""Checkpoint folders of SpeechBrain's separation recipes.

They hold `encoder.ckpt`, `masknet.ckpt` and `decoder.ckpt`: state dicts of
`speechbrain.lobes.models.dual_path.Encoder`, of the mask net, and of `...dual_path.Decoder`.
"""

from pathlib import Path

import torch
from torch import Tensor

StateDict = dict[str, Tensor]
SPEECHBRAIN_FILES = {"encoder": "encoder.ckpt", "masknet": "masknet.ckpt", "decoder": "decoder.ckpt"}
FRAME_KEYS = {  # ours: (SpeechBrain's part, key), of every network
    "encoder.conv.weight": ("encoder", "conv1d.weight"),
    "decoder.conv.weight": ("decoder", "weight"),
}


def read_speechbrain_folder(folder: str | Path) -> dict[str, StateDict]:
    """Return the three state dicts of a recipe's checkpoint folder."""
    paths = {part: Path(folder) / name for part, name in SPEECHBRAIN_FILES.items()}
    missing = [str(path) for path in paths.values() if not path.is_file()]
    if missing:
        raise FileNotFoundError(f"SpeechBrain's checkpoint folder lacks {', '.join(missing)}")
    return {part: torch.load(path, map_location="cpu", weights_only=True) for part, path in paths.items()}


def write_speechbrain_folder(parts: dict[str, StateDict], folder: str | Path) -> None:
    """`parts` as the three files of a recipe's checkpoint folder."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    for part, name in SPEECHBRAIN_FILES.items():
        torch.save(parts[part], Path(folder) / name)


def check_all_used(parts: dict[str, StateDict], used: set[tuple[str, str]], network: str) -> None:
    """Refuse a checkpoint with tensors that the network does not have. used: (part, key) of those that it has."""
    given = {(part, key) for part, state in parts.items() for key in state}
    if given != used:
        first = ", ".join(sorted(f"{part}.ckpt: {key}" for part, key in given ^ used)[:3])
        raise ValueError(f"not a {network} of SpeechBrain: {len(given ^ used)} tensors too many or too few ({first})")
