"""Weights of the public AudioMAE++: its numbers with the same weights, its checkpoints, and refusals.

The expected numbers were computed by the public code (audiomae-plusplus-official, revision 72fbe3d) with the weights of
`public_weights`, the input and the mask below, in float32 on one thread.
"""

import argparse
import importlib.util
import math
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor

from hydraudio.core.initial_weights import load_initial_weights
from hydraudio.tasks.pretraining.networks.autoencoder import MaskedAutoencoder
from hydraudio.tasks.pretraining.networks.blocks import FeedForward, MacaronBlock, SwiGLU
from hydraudio.tasks.pretraining.networks.converters.audiomaepp import from_audiomaepp, read_checkpoint
from hydraudio.tasks.pretraining.networks.decoder import TransformerDecoder
from hydraudio.tasks.pretraining.networks.encoder import Encoder
from hydraudio.tasks.pretraining.networks.grid import Grid
from hydraudio.tasks.pretraining.networks.masks import Mask, RandomMasker
from hydraudio.tasks.pretraining.networks.positions import RasterSinCos, SinCos
from hydraudio.testing import compose, make_task

ROOT = Path(__file__).parents[4]
GRID = Grid(n_frames=24, n_bins=32, patch=(4, 16))  # 6 x 2 patches of 64 values
WIDTH, DEPTH, N_HEADS = 24, 2, 3
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 16, 1, 2


def block_shapes(width: int) -> dict[str, tuple[int, ...]]:
    hidden = 8 * width // 3
    shapes: dict[str, tuple[int, ...]] = {f"norm{i}": (width,) for i in (1, 2, 3)}
    shapes |= {"ffn1.layer1": (4 * width, width), "ffn1.layer2": (width, 4 * width)}
    shapes |= {"attn.qkv_layer": (3 * width, width), "attn.proj_layer": (width, width)}
    shapes |= {"ffn2.linear1": (hidden, width), "ffn2.linear2": (hidden, width), "ffn2.ln": (hidden,)}
    return shapes | {"ffn2.project": (width, hidden)}


def public_shapes(
    width: int = WIDTH,
    depth: int = DEPTH,
    decoder_width: int = DECODER_WIDTH,
    decoder_depth: int = DECODER_DEPTH,
    n_tokens: int = GRID.n_tokens,
) -> dict[str, tuple[int, ...]]:
    """Name in the public code -> shape, of all that its state dict holds."""
    shapes: dict[str, tuple[int, ...]] = {"patch_embed.proj": (width, 1, 4, 16), "encoder.encoder_norm": (width,)}
    for i in range(depth):
        shapes |= {f"encoder.blocks.{i}.{name}": shape for name, shape in block_shapes(width).items()}
    for i in range(decoder_depth):
        shapes |= {f"decoder.decoder_blocks.{i}.{name}": shape for name, shape in block_shapes(decoder_width).items()}
    shapes |= {"decoder.decoder_embed": (decoder_width, width), "decoder.decoder_norm": (decoder_width,)}
    shapes |= {"decoder.decoder_pred": (64, decoder_width)}
    with_bias = {f"{name}.weight": shape for name, shape in shapes.items()}
    with_bias |= {f"{name}.bias": shape[:1] for name, shape in shapes.items()}
    with_bias |= {"cls_token": (1, 1, width), "decoder.mask_token": (1, 1, decoder_width)}
    tables = {"encoder.pos_embed": width, "decoder.decoder_pos_embed": decoder_width}
    return with_bias | {name: (1, n_tokens + 1, channels) for name, channels in tables.items()}


def public_weights() -> dict[str, Tensor]:
    """Numbers from -0.3 to 0.3 that a formula scatters; gains of norms about 1."""
    state = {}
    for name, shape in public_shapes().items():
        values = 0.6 * (scattered(math.prod(shape), len(name)).view(shape) - 0.5)
        is_gain = len(shape) == 1 and name.endswith("weight")
        state[name] = values + 1 if is_gain else values
    return state


def scattered(n: int, seed: int) -> Tensor:
    """n numbers from 0 to 1, float32."""
    return ((12.9898 * torch.arange(n, dtype=torch.float64) + seed).sin() * 43758.5453).remainder(1).float()


def spectrogram() -> Tensor:
    return (0.3 * torch.arange(2 * 24 * 32, dtype=torch.float64)).cos().float().view(2, 1, 24, 32)


def mask() -> Mask:
    masked = torch.ones(2, 12, dtype=torch.bool)
    masked[0, [1, 6, 10]] = False
    masked[1, [0, 3, 4]] = False
    return Mask.of(masked, 3)


def network(compat: str | None = "released") -> MaskedAutoencoder:
    ffns = {"ffn1": partial(FeedForward, activation="silu"), "ffn2": SwiGLU}
    block = partial(MacaronBlock, **ffns, compat=compat)
    encoder = Encoder(GRID, WIDTH, DEPTH, N_HEADS, block=block, positions=SinCos, compat=compat)
    sizes = {"width": DECODER_WIDTH, "depth": DECODER_DEPTH, "n_heads": DECODER_HEADS}
    decoder = partial(TransformerDecoder, **sizes, block=block, positions=RasterSinCos)
    return MaskedAutoencoder(encoder, decoder, RandomMasker(0.75))


def converted(compat: str | None = "released") -> MaskedAutoencoder:
    net = network(compat)
    net.load_state_dict(from_audiomaepp(public_weights()))
    return net


LOSS = 1.0406871
PREDICTION = [-0.411008, 0.518009, -0.669287, -0.652190]  # of item 1, patch 7: the first four values
STEP = [-0.493573, -0.515409, -0.538779, -0.581858]  # of item 0, step 1: values 0, 1, 24 and 25
SCENE = [0.723904, 0.461227]  # of item 1: values 0 and 30
GRADIENTS = {  # sum of the gradient times `scattered(n, 1) - 0.5`
    "cls_token": -0.00416002,
    "patch_embed.proj.weight": 0.03884153,
    "encoder.blocks.0.ffn1.layer1.weight": -0.0003621881,
    "encoder.blocks.0.norm2.weight": -0.003437728,
    "encoder.blocks.0.attn.qkv_layer.weight": -0.02146182,
    "encoder.blocks.0.ffn2.linear1.weight": -0.00398376,
    "encoder.blocks.0.ffn2.linear2.bias": 0.001208579,
    "encoder.blocks.0.ffn2.ln.weight": 0.0009645784,
    "encoder.encoder_norm.bias": 0.005414221,
    "decoder.mask_token": 0.004322595,
    "decoder.decoder_embed.weight": 0.009527833,
    "decoder.decoder_blocks.0.norm1.weight": -0.007451216,
    "decoder.decoder_blocks.0.ffn2.project.weight": 0.0520761,
    "decoder.decoder_pred.bias": 0.02360975,
}


def test_equals_the_public_code():
    net = converted()
    output = net(spectrogram(), mask())
    assert output.loss.item() == pytest.approx(LOSS, rel=1e-5)
    assert output.prediction[1, 7, :4].tolist() == pytest.approx(PREDICTION, abs=1e-5)
    output.loss.backward()
    found = from_ours({name: p.grad for name, p in net.named_parameters() if p.grad is not None})
    for name, expected in GRADIENTS.items():
        weights = scattered(found[name].numel(), 1).view(found[name].shape) - 0.5
        assert (found[name] * weights).sum().item() == pytest.approx(expected, rel=1e-4, abs=2e-6), name


def test_embeddings_equal_those_of_the_public_code():
    net = converted().eval()
    with torch.no_grad():
        assert net.embed_steps(spectrogram())[0, 1, [0, 1, 24, 25]].tolist() == pytest.approx(STEP, abs=1e-5)
        assert net.embed(spectrogram(), "frequency")[1, [0, 30]].tolist() == pytest.approx(SCENE, abs=1e-5)


def test_without_compat_the_third_norm_counts_and_the_network_is_another():
    net = converted(compat=None)
    output = net(spectrogram(), mask())
    assert abs(output.loss.item() - LOSS) > 1e-3
    output.loss.backward()
    assert net.encoder.blocks[0].norm3.weight.grad.abs().max() > 0
    assert not converted().encoder.blocks[0].norm3.weight.requires_grad


def from_ours(gradients: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our gradients under the public names, of those in `GRADIENTS`."""
    block = "encoder.blocks.0"
    value = gradients[f"{block}.ffn2.gate_value.weight"].chunk(2)[1]
    return {
        "cls_token": gradients["encoder.cls_token"],
        "patch_embed.proj.weight": gradients["encoder.patch_embedding.weight"].view(WIDTH, 1, 4, 16),
        f"{block}.norm2.weight": gradients[f"{block}.norm2.weight"],
        f"{block}.ffn1.layer1.weight": gradients[f"{block}.ffn1.expand.weight"],
        f"{block}.attn.qkv_layer.weight": gradients[f"{block}.attention.qkv.weight"],
        f"{block}.ffn2.linear1.weight": value,
        f"{block}.ffn2.linear2.bias": gradients[f"{block}.ffn2.gate_value.bias"].chunk(2)[0],
        f"{block}.ffn2.ln.weight": gradients[f"{block}.ffn2.inner_norm.weight"],
        "encoder.encoder_norm.bias": gradients["encoder.norm.bias"],
        "decoder.mask_token": gradients["decoder.mask_token"],
        "decoder.decoder_embed.weight": gradients["decoder.embedding.weight"],
        "decoder.decoder_blocks.0.norm1.weight": gradients["decoder.blocks.0.norm1.weight"],
        "decoder.decoder_blocks.0.ffn2.project.weight": gradients["decoder.blocks.0.ffn2.project.weight"],
        "decoder.decoder_pred.bias": gradients["decoder.prediction.bias"],
    }


class Foreign:
    """A class that only the writer of a checkpoint has; it would tell if it were made again."""

    made: list[str] = []

    def __init__(self) -> None:
        self.depth = 12

    def __setstate__(self, state: dict) -> None:
        self.made.append("made")


def test_reads_a_checkpoint_and_makes_none_of_its_objects(tmp_path):
    arguments = argparse.Namespace(config=Foreign(), epochs=100, workdir=tmp_path)
    content = {"model": public_weights(), "optimizer": {"state": {}}, "epoch": 99, "args": arguments}
    torch.save(content, tmp_path / "checkpoint-99.pth")
    read = read_checkpoint(tmp_path / "checkpoint-99.pth")
    assert Foreign.made == []
    assert read.keys() == public_weights().keys()
    assert all(torch.equal(read[name], value) for name, value in public_weights().items())


class Spy:
    def __reduce__(self) -> tuple:
        return (exec, ("raise SystemExit('run')",))


def test_runs_nothing_that_a_checkpoint_names(tmp_path):
    torch.save({"model": public_weights(), "args": Spy()}, tmp_path / "checkpoint-1.pth")
    assert read_checkpoint(tmp_path / "checkpoint-1.pth").keys() == public_weights().keys()
    with pytest.raises(Exception, match="weights_only"):  # and the names are trusted no longer
        torch.load(tmp_path / "checkpoint-1.pth", weights_only=True)


def test_refuses_other_files_and_other_networks(tmp_path):
    torch.save({"state_dict": {}}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="no weights under `model`"):
        read_checkpoint(tmp_path / "other.pth")
    with pytest.raises(FileNotFoundError):
        read_checkpoint(tmp_path / "none.pth")
    weights = public_weights()
    with pytest.raises(ValueError, match=r"1 tensors too many \(encoder.blocks.0.rope.freqs\)"):
        from_audiomaepp({**weights, "encoder.blocks.0.rope.freqs": torch.zeros(4)})
    del weights["encoder.blocks.1.ffn2.ln.bias"]
    with pytest.raises(ValueError, match=r"there is no encoder.blocks.1.ffn2.ln.bias"):
        from_audiomaepp(weights)


@pytest.mark.slow
def test_a_converted_checkpoint_begins_a_fine_tuning(esc50_root, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    spec = importlib.util.spec_from_file_location("convert", ROOT / "scripts" / "pretraining" / "convert_checkpoint.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    shapes = public_shapes(192, 12, 384, 4, n_tokens=250)
    weights = {name: scattered(math.prod(shape), len(name)).view(shape) for name, shape in shapes.items()}
    torch.save({"model": weights, "args": argparse.Namespace(epochs=100)}, tmp_path / "checkpoint-99.pth")
    script.main([str(tmp_path / "checkpoint-99.pth"), str(tmp_path / "tiny.ckpt"), "--size", "tiny"])
    released = ["model.net.encoder.compat=released", "model.standardize.kind=clip", "data.num_workers=0"]
    begins = [f"init_from={tmp_path / 'tiny.ckpt'}", "init_only=[net.encoder]", f"data.root={esc50_root}"]
    chosen = ["experiment=pretraining/finetune_quick", "model/pretraining/encoder=audiomaepp_tiny"]
    cfg = compose([*chosen, *released, *begins], tmp_path)
    task = make_task(cfg)
    load_initial_weights(cfg, task)
    layer = task.net.encoder.blocks[11].attention.qkv
    assert torch.equal(layer.weight, weights["encoder.blocks.11.attn.qkv_layer.weight"])
    assert torch.equal(task.net.encoder.norm.bias, weights["encoder.encoder_norm.bias"])
