"""What is trained, by name; modes, graphs, learning rates."""

from __future__ import annotations

import pytest
import torch

from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream
from hydraudio.tasks.emotion.networks.upstream.loading import MINIATURE

PREFIXES = {
    "convolutions": ("model.feature_extractor.",),
    "feature_projection": ("model.feature_projection.", "model.masked_spec_embed"),
    "positional": ("model.encoder.pos_conv_embed.",),
    "final_norm": ("model.encoder.layer_norm.",),
}
MASKED = {**MINIATURE, "mask_time_prob": 0.05}
POST_NORM = {**MASKED, "do_stable_layer_norm": False, "feat_extract_norm": "group", "conv_bias": False}


def trained(upstream: Upstream) -> set[str]:
    return {name for name, parameter in upstream.named_parameters() if parameter.requires_grad}


def named(upstream: Upstream, *prefixes: str) -> set[str]:
    return {name for name, _ in upstream.named_parameters() if name.startswith(prefixes)}


@pytest.mark.parametrize("n_blocks", [0, 3, "all"])
@pytest.mark.parametrize("extras", [[], ["convolutions", "final_norm"], ["all"]])
def test_trained_names(n_blocks, extras):
    upstream = Upstream(architecture=MASKED, trainable_blocks=n_blocks, trainable_extras=extras)
    n = 4 if n_blocks == "all" else n_blocks
    prefixes = [f"model.encoder.layers.{i}." for i in range(4 - n, 4)]
    for extra in PREFIXES if extras == ["all"] else extras:
        prefixes += PREFIXES[extra]
    assert trained(upstream) == named(upstream, *prefixes)
    assert upstream.frozen == (not prefixes)
    if n_blocks == "all" and extras == ["all"]:
        assert len(trained(upstream)) == len(list(upstream.parameters()))


def test_norm_before_the_blocks_belongs_to_the_positional_part():
    upstream = Upstream(architecture=POST_NORM, trainable_blocks=0, trainable_extras=["positional"])
    assert trained(upstream) == named(upstream, "model.encoder.pos_conv_embed.", "model.encoder.layer_norm.")
    with pytest.raises(ValueError, match="final_norm unknown"):
        Upstream(architecture=POST_NORM, trainable_extras=["final_norm"])


def test_parameters_without_use_are_not_trained():
    upstream = Upstream(architecture=MASKED, trainable_extras=["feature_projection"], mask_time_prob=0)
    assert "model.masked_spec_embed" not in trained(upstream)
    with pytest.raises(ValueError, match=r"layers=\[0\]"):
        Upstream(layers=[0], trainable_blocks=1)
    Upstream(layers=[0], trainable_blocks=0, trainable_extras=["all"])


@pytest.mark.parametrize("layers", ["last", [0], [1, 3]])
def test_every_trained_parameter_gets_a_gradient(layers):
    n_blocks = 0 if layers == [0] else "all"
    extras = ["convolutions", "feature_projection", "positional", *(["final_norm"] if layers == "last" else [])]
    options = {"trainable_blocks": n_blocks, "trainable_extras": extras, "layers": layers}
    upstream = Upstream(architecture={**MASKED, "mask_time_prob": 0.5}, **options).train()
    upstream(torch.randn(2, 8000), torch.tensor([8000, 5000]))[0].square().mean().backward()
    assert {name for name, p in upstream.named_parameters() if p.grad is not None} == trained(upstream)


def test_final_norm_without_part_in_the_states_is_refused():
    with pytest.raises(ValueError, match="layers=last"):
        Upstream(layers="all", trainable_extras=["final_norm"])


@pytest.mark.parametrize("n_blocks", [-1, 5, "top", 1.5])
def test_impossible_numbers_of_blocks(n_blocks):
    with pytest.raises(ValueError, match="trainable_blocks"):
        Upstream(trainable_blocks=n_blocks)


def test_frozen_parts_stay_in_evaluation_mode():
    upstream = Upstream(trainable_blocks=2, trainable_extras=["feature_projection"])
    for _ in range(2):
        upstream.train()
        modes = {name: module.training for name, module in upstream.model.named_modules() if name}
        in_training = ("feature_projection", "encoder.layers.2", "encoder.layers.3")
        holders = {"encoder", "encoder.layers"}
        assert {name for name, mode in modes.items() if mode} == holders | {
            name for name in modes if name.startswith(in_training)
        }
        upstream.eval()
        assert not any(module.training for module in upstream.modules())


def test_no_graph_below_the_first_trained_part():
    upstream = Upstream(trainable_blocks=1, layers="all").train()
    seen = {}
    for i, block in enumerate(upstream.model.encoder.layers):
        block.register_forward_hook(lambda m, args, out, i=i: seen.update({i: out[0].requires_grad}))
    states, _ = upstream(torch.randn(2, 4000))
    assert seen == {0: False, 1: False, 2: False, 3: True}
    states.sum().backward()
    assert {name for name, p in upstream.named_parameters() if p.grad is not None} == trained(upstream)


def test_gradients_pass_through_frozen_blocks_to_a_trained_part_below():
    upstream = Upstream(trainable_blocks=0, trainable_extras=["convolutions"]).train()
    upstream(torch.randn(2, 4000))[0].square().mean().backward()
    gradients = {name for name, p in upstream.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert gradients == trained(upstream)


def test_gradients_of_the_waveform_are_kept_on_request():
    waveform = torch.randn(1, 4000, requires_grad=True)
    Upstream(trainable_blocks=0)(waveform)[0].sum().backward()
    assert waveform.grad is not None
    assert waveform.grad.abs().sum() > 0


def test_parameter_groups_by_depth():
    upstream = Upstream(trainable_blocks="all", trainable_extras=["all"])
    groups = {group["name"]: group for group in upstream.parameter_groups(1e-4, 0.5)}
    rates = {name: group["lr"] / 1e-4 for name, group in groups.items()}
    assert rates == {
        "convolutions": 0.5**5,
        "feature_projection": 0.5**4,
        "positional": 0.5**4,
        "block_0": 0.5**3,
        "block_1": 0.5**2,
        "block_2": 0.5,
        "block_3": 1,
        "final_norm": 1,
    }
    collected = [id(p) for group in groups.values() for p in group["params"]]
    assert sorted(collected) == sorted(id(p) for p in upstream.parameters())
    upstream.set_trainable(1)
    assert [group["name"] for group in upstream.parameter_groups(1e-4, 0.5)] == ["block_3"]
    upstream.set_trainable(0)
    assert upstream.parameter_groups(1e-4) == []
    with pytest.raises(ValueError, match="layer_decay"):
        upstream.parameter_groups(1e-4, 1.5)


def test_norms_biases_and_gains_are_exempt_from_weight_decay():
    upstream = Upstream(architecture=MASKED)
    decayed = {n for n, p in upstream.named_parameters() if not getattr(p, "_no_weight_decay", False)}
    assert not [name for name in decayed if name.endswith(("bias", "norm.weight", "original0", "const"))]
    assert "model.masked_spec_embed" not in decayed
    assert "model.encoder.layers.0.attention.rel_attn_embed.weight" in decayed
    assert "model.encoder.layers.1.feed_forward.output_dense.weight" in decayed


@pytest.mark.parametrize("family", ["wavlm", "hubert"])
def test_checkpointed_gradients_are_equal(encoder_folders, family):
    waveform, lengths = torch.randn(2, 6000), torch.tensor([6000, 3500])
    gradients = []
    for checkpointing in (False, True):
        options = {"trainable_blocks": 2, "gradient_checkpointing": checkpointing}
        upstream = Upstream(str(encoder_folders[f"{family}_large"]), **options).train()
        calls: list[int] = []
        upstream.model.encoder.layers[0].attention.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        upstream(waveform, lengths)[0][0].square().mean().backward()
        assert len(calls) == 1 + checkpointing
        gradients.append({name: p.grad for name, p in upstream.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)
