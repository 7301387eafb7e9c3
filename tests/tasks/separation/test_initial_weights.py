"""A training that begins with parts of another one's weights: one source to two, the encoder alone, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import untrained

from hydra_preflight.compose import compose_run
from hydra_preflight.errors import ConfigError
from hydraudio.prepare import build_untrained

TINY = "model=separation/conv_tasnet_tiny"
BUT_MASKS = [
    *("net.encoder", "net.decoder", "net.mask_net.norm", "net.mask_net.bottleneck"),
    "net.mask_net.blocks",
]


@pytest.fixture(autouse=True)
def project_root(repository, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(repository))


@pytest.fixture
def one_source(polsess_root, tmp_path) -> Path:
    return untrained.write_run(tmp_path / "ES", f"data.root={polsess_root}", TINY, "seed=1")


def begin(root: Path, folder: Path, *overrides: str):
    cfg = compose_run([f"data.root={root}", TINY, "data.problem=SB", *overrides], folder / "SB")
    return build_untrained(cfg).state_dict()


def equal_to(checkpoint: Path, state) -> set[str]:
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    return {name for name, value in state.items() if torch.equal(value, saved[name])}


@pytest.mark.parametrize("parts", [BUT_MASKS, ["net.encoder"], ["net.mask_net.blocks.1"]])
def test_two_sources_begin_with_parts_of_one(polsess_root, one_source, tmp_path, parts):
    before = begin(polsess_root, tmp_path)
    state = begin(polsess_root, tmp_path, f"init_from={one_source}", f"init_only=[{','.join(parts)}]")
    chosen = {name for name in state if name.startswith(tuple(f"{part}." for part in parts))}
    assert chosen
    assert chosen <= equal_to(one_source, state)
    assert all(torch.equal(state[name], before[name]) for name in state.keys() - chosen)
    assert any(not torch.equal(state[name], before[name]) for name in chosen)


def test_a_whole_that_does_not_fit_is_refused_with_the_parts_that_do(polsess_root, one_source, tmp_path):
    for given in ([], ["init_only=[net]"]):
        with pytest.raises(
            ConfigError, match=r"net\.mask_net\.mask\.weight has the shape .* there, .* here; to load"
        ) as error:
            begin(polsess_root, tmp_path, f"init_from={one_source}", *given)
        remedy = str(error.value).rpartition("fits of ")[2].partition(": ")[2]
        assert set(remedy.removeprefix("init_only=[").removesuffix("]").split(",")) == set(BUT_MASKS)
    begin(polsess_root, tmp_path, f"init_from={one_source}", remedy)


def test_a_wrong_part_is_refused(polsess_root, one_source, tmp_path):
    with pytest.raises(ConfigError, match=r"no weights in 'net\.encodr'; the nearest parts are net\.encoder"):
        begin(polsess_root, tmp_path, f"init_from={one_source}", "init_only=[net.encodr]")
