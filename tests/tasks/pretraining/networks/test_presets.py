"""Every autoencoder of configs/model/pretraining: its size as documented, and its promises at a small size."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig

from hydraudio.tasks.pretraining.networks.autoencoder import MaskedAutoencoder
from hydraudio.testing import compose

ROOT = Path(__file__).parents[4]
CONFIGS = ROOT / "configs" / "model" / "pretraining"
SMALL = (
    "model.net.encoder.width=48",
    "model.net.encoder.n_heads=3",
    "model.net.encoder.depth=2",
    "model.net.decoder.width=32",
    "model.net.decoder.n_heads=2",
    "model.net.decoder.depth=1",
)
PAGE = ROOT / "docs" / "pretraining" / "networks.md"


def autoencoders() -> list[str]:
    """Options whose YAML, or one that it inherits from, names the autoencoder."""

    def names_it(path: Path) -> bool:
        content = yaml.safe_load(path.read_text())
        above = [entry.rpartition("/")[2] for entry in content.get("defaults", ()) if isinstance(entry, str)]
        parents = [CONFIGS / f"{name}.yaml" for name in above if name != "_self_"]
        target = str((content.get("net") or {}).get("_target_"))
        return target.endswith(".MaskedAutoencoder") or any(names_it(parent) for parent in parents)

    return sorted(path.stem for path in CONFIGS.glob("[!_]*.yaml") if names_it(path))


each = pytest.mark.parametrize("option", autoencoders())


@pytest.fixture
def composed(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    return lambda option, *more: compose(["task=pretraining", f"model=pretraining/{option}", *more], tmp_path)


def build(cfg: DictConfig) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return instantiate(cfg.model.net)


def spectrogram(net: MaskedAutoencoder, n_items: int = 2) -> torch.Tensor:
    shape = (n_items, net.grid.channels, net.grid.n_frames, net.grid.n_bins)
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@each
def test_has_the_documented_number_of_parameters(composed, option):
    cfg = composed(option)
    with torch.device("meta"):
        net = build(cfg)
    n_all, n_encoder = (sum(p.numel() for p in part.parameters()) for part in (net, net.encoder))
    row = re.search(rf"^\| `{option}` \| ([\d,]+) \|", PAGE.read_text(), re.MULTILINE)
    assert row, f"{PAGE} has no row for {option}"
    assert row[1] == f"{n_all:,}"
    text = (CONFIGS / f"{option}.yaml").read_text()
    for written in re.findall(r"([\d.]+) million", text.splitlines()[1]):
        assert float(written) in (round(n_all / 1e6, 1), round(n_encoder / 1e6, 1))


@each
def test_learns_under_bfloat16_with_its_masks(composed, option):
    net = build(composed(option, *SMALL))
    x = spectrogram(net)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = net(x, generator=torch.Generator().manual_seed(0))
    output.loss.backward()
    assert output.loss.isfinite()
    n_masked = net.grid.n_tokens - int(net.grid.n_tokens * (1 - net.masker.ratio) + 1e-6)
    assert (output.masked.sum(1) == n_masked).all()
    idle = [n for n, p in net.named_parameters() if p.requires_grad and (p.grad is None or p.grad.abs().sum() == 0)]
    assert idle == []


@each
def test_does_not_leak_and_embeds_without_chance(composed, option):
    net = build(composed(option, *SMALL)).eval()
    x = spectrogram(net)
    drawn = net.draw(2, "cpu", torch.Generator().manual_seed(0))
    hidden = net.grid.unpatchify(drawn.masked.unsqueeze(-1).expand(-1, -1, net.grid.patch_values))
    with torch.no_grad():
        prediction = net(x, drawn).prediction
        assert torch.equal(net(torch.where(hidden, 0.0, x), drawn).prediction, prediction)
        for pooling in ("cls", "mean", "cls+mean", "frequency"):
            embedded = net.embed(x, pooling)
            assert embedded.shape == (2, net.embedding_dim(pooling))
            assert torch.equal(net.embed(x, pooling), embedded)


@pytest.mark.parametrize("mask", sorted(path.stem for path in (CONFIGS / "mask").glob("*.yaml")))
def test_takes_every_kind_of_mask(composed, mask):
    net = build(composed("audiomaepp_tiny", *SMALL, f"model/pretraining/mask={mask}"))
    share = net.draw(20, "cpu").masked.float().mean().item()
    assert share == pytest.approx(net.masker.ratio, abs=0.05)  # rounded to whole bands


def test_released_block_is_one_key(composed):
    net = build(composed("audiomaepp_tiny", *SMALL, "model.net.encoder.compat=released"))
    assert net.encoder.released
    assert all(block.released for block in (*net.encoder.blocks, *net.decoder.blocks))
