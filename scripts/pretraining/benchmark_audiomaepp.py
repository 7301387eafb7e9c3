"""Training steps of AudioMAE++ against the public implementation, side by side in one process.

Equal weights (through our converter), masks, spectrograms and optimizer; the two take turns, and the fastest steps are
printed, because whatever else runs on the machine only makes steps slower. Memory is what autograd keeps for the
backward pass, without parameters.

    python scripts/pretraining/benchmark_audiomaepp.py --sizes tiny base --batch-size 8 --steps 4
    python scripts/pretraining/benchmark_audiomaepp.py --public FOLDER      (a clone that you have)

Without --public the repository is cloned (2 MB) into a temporary folder.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rootutils

ROOT = rootutils.setup_root(__file__, indicator="pyproject.toml", project_root_env_var=True, dotenv=True)

import torch  # noqa: E402
from hydra.utils import instantiate  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from hydraudio.core.cpu_memory import keep_freed_memory  # noqa: E402
from hydraudio.core.products import use_products  # noqa: E402
from hydraudio.tasks.pretraining.networks.autoencoder import MaskedAutoencoder  # noqa: E402
from hydraudio.tasks.pretraining.networks.converters.audiomaepp import from_audiomaepp  # noqa: E402
from hydraudio.tasks.pretraining.networks.masks import Mask  # noqa: E402
from hydraudio.testing import compose  # noqa: E402

URL, REVISION = "https://github.com/SarthakYadav/audiomae-plusplus-official", "72fbe3d"
ARGUMENTS = {
    "decoder_num_heads": 8,
    "use_cls_token": True,
    "encoder_plusplus_block": True,
    "decoder_plusplus_block": True,
    "encoder_use_swiglu_final_ffn": True,
    "decoder_use_swiglu_final_ffn": True,
}
UNUSED = {  # what the public code imports, and does not use as it is called here
    "timm.models.vision_transformer": ("LayerScale", "DropPath"),
    "rotary_embedding_torch": ("RotaryEmbedding",),
    "einops": ("rearrange",),
}
MODES = {  # name -> route of float32 products of the public code, and of ours; bfloat16 autocast for both
    "fp32, each as it is": ("reference", "auto", False),
    "fp32, oneDNN's products": ("onednn", "onednn", False),
    "bf16 autocast": ("reference", "reference", True),
}
Loss = Callable[[], Tensor]


def import_public(folder: Path) -> types.ModuleType:
    """Import the models of the public code, without packages that it imports in vain."""
    for name, attributes in UNUSED.items():
        parts = name.split(".")
        for i in range(len(parts)):
            sys.modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(parts[i]))
        for attribute in attributes:
            setattr(sys.modules[name], attribute, nn.Identity)
    sys.path.insert(0, str(folder))
    return importlib.import_module("src.models")


def clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", URL, str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", REVISION], cwd=folder, check=True)
    return folder


def make_nets(models: types.ModuleType, size: str) -> tuple[Any, MaskedAutoencoder]:
    """The public network and ours with its weights."""
    with contextlib.redirect_stdout(io.StringIO()):
        public = getattr(models, f"mae_plusplus_{size}")(**ARGUMENTS)
    chosen = ["task=pretraining", f"model=pretraining/audiomaepp_{size}", "model.net.encoder.compat=released"]
    ours = instantiate(compose(chosen, tempfile.gettempdir()).model.net)
    ours.load_state_dict(from_audiomaepp(public.state_dict()))
    return public, ours


def public_loss(net: Any, spectrogram: Tensor, mask: Mask) -> Tensor:
    masked = mask.masked.float()
    tokens, *_ = net.forward_encoder(net.patch_embed(spectrogram), 0.8, masked, mask.restore, mask.keep)
    return net.compute_loss(net.forward_decoder(tokens, mask.restore), net.patchify(spectrogram), masked)


def kept_mib(loss: Loss, net: nn.Module) -> float:
    """What autograd keeps, without the parameters and tables of the net."""
    own = {x.untyped_storage().data_ptr() for x in (*net.parameters(), *net.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        value = loss()
    del value
    return sum(kept.values()) / 2**20


def step_s(loss: Loss, optimizer: torch.optim.Optimizer, bf16: bool) -> float:
    """Time of a step; of a single thread without the time that others had the processor."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        value = loss()
    value.backward()
    optimizer.step()
    optimizer.zero_grad()
    return clock() - start


def compare(models: types.ModuleType, size: str, batch_size: int, n_steps: int) -> None:
    torch.manual_seed(0)
    public, ours = make_nets(models, size)
    spectrogram = torch.randn(batch_size, 1, 200, 80)
    mask = ours.draw(batch_size, "cpu")
    losses: list[Loss] = [lambda: public_loss(public, spectrogram, mask), lambda: ours(spectrogram, mask).loss]
    optimizers = [torch.optim.AdamW(net.parameters(), lr=1e-6) for net in (public, ours)]
    kept = [kept_mib(loss, net) for loss, net in zip(losses, (public, ours), strict=True)]
    with torch.no_grad():
        difference = abs(losses[0]().item() - losses[1]().item())
    print(f"{size}, batch {batch_size}, {torch.get_num_threads()} threads; losses differ by {difference:.1e}")
    print(f"  kept for backward: public {kept[0]:.0f} MiB, ours {kept[1]:.0f} MiB ({kept[1] / kept[0]:.0%})")
    for name, (*routes, bf16) in MODES.items():
        times: list[list[float]] = [[], []]
        for step in range(n_steps + 1):
            for side, route in enumerate(routes):
                taken = use_products(route)
                seconds = step_s(losses[side], optimizers[side], bf16)
                if step:  # the first is a warm-up
                    times[side].append(seconds)
        best = [min(of_side) for of_side in times]
        found = f"public {best[0]:.2f} s, ours {best[1]:.2f} s: {best[0] / best[1]:.2f}x (ours takes {taken})"
        print(f"  {name}: {found}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["tiny", "base"], choices=["tiny", "small", "medium", "base"])
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--steps", type=int, default=4, help="timed steps of each kind after one warm-up")
    parser.add_argument("--public", type=Path, help="folder of a clone of the public repository")
    args = parser.parse_args()
    keep_freed_memory()  # as in every training of ours
    with tempfile.TemporaryDirectory() as scratch:
        models = import_public(args.public or clone(Path(scratch) / "public"))
        for size in args.sizes:
            compare(models, size, args.batch_size, args.steps)


if __name__ == "__main__":
    main()
