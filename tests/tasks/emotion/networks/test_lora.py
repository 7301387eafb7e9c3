"""Adapters that have an effect, and the refusal of those that have none."""

from __future__ import annotations

import pytest
import torch

from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream
from hydraudio.tasks.emotion.networks.upstream.trainable import ATTENTION_TARGETS, FEED_FORWARD_TARGETS

ALL = [*ATTENTION_TARGETS, *FEED_FORWARD_TARGETS]


def adapted(folder, targets, **options) -> Upstream:
    lora = {"rank": 2, "alpha": 4, "targets": targets}
    return Upstream(str(folder), trainable_blocks=0, lora=lora, **options)


def open_up(upstream: Upstream) -> None:
    """Move the second factors, which start at zero, so that the adapters change the states."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in upstream.named_parameters():
            if "lora_B" in name:
                parameter += torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize(("family", "attention"), [("wavlm", "sdpa"), ("hubert", "sdpa"), ("wav2vec2", "eager")])
def test_adapters_train_alone_and_have_an_effect(encoder_folders, family, attention):
    folder = encoder_folders[f"{family}_base"]
    waveform, lengths = torch.randn(2, 6000), torch.tensor([6000, 3000])
    upstream = adapted(folder, ALL, attention=attention).eval()
    plain = Upstream(str(folder), trainable_blocks=0, attention=attention).eval()
    torch.testing.assert_close(upstream(waveform, lengths)[0], plain(waveform, lengths)[0])
    trained = {name for name, p in upstream.named_parameters() if p.requires_grad}
    assert len(trained) == 2 * 2 * len(ALL)
    assert all("lora_" in name for name in trained)
    open_up(upstream)
    upstream.train()(waveform, lengths)[0][0, 0].square().mean().backward()
    for name, parameter in upstream.named_parameters():
        assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == (name in trained), name


@pytest.mark.parametrize("target", ALL)
def test_each_target_changes_the_states(encoder_folders, target):
    waveform = torch.randn(1, 6000, generator=torch.Generator().manual_seed(0))
    upstream = adapted(encoder_folders["wavlm_base"], [target]).eval()
    with torch.no_grad():
        before = upstream(waveform)[0]
        open_up(upstream)
        assert (upstream(waveform)[0] - before).abs().max() > 1e-4


def test_merged_weights_compute_the_same(encoder_folders):
    waveform = torch.randn(1, 6000)
    upstream = adapted(encoder_folders["wavlm_large"], ALL).eval()
    open_up(upstream)
    with torch.no_grad():
        expected = upstream(waveform)[0]
        upstream.merge_lora()
        torch.testing.assert_close(upstream(waveform)[0], expected, atol=1e-4, rtol=1e-4)
    plain = Upstream(str(encoder_folders["wavlm_large"]), trainable_blocks=0)
    assert upstream.state_dict().keys() == plain.state_dict().keys()
    assert upstream.frozen
    training = adapted(encoder_folders["wavlm_large"], ALL).train()
    training.merge_lora()
    assert not any(block.training for block in training.model.encoder.layers)


def test_attention_targets_of_eager_wavlm_are_refused(encoder_folders):
    with pytest.raises(ValueError, match=r"q_proj, v_proj would have no effect.*attention=sdpa"):
        adapted(encoder_folders["wavlm_base"], ["q_proj", "v_proj", "output_dense"], attention="eager")
    assert not adapted(encoder_folders["wavlm_base"], ["output_dense"], attention="eager").frozen


def test_why_they_are_refused(encoder_folders):
    """transformers' eager attention never calls the projections: with adapters around them, nothing gets a gradient."""
    from peft import LoraConfig, inject_adapter_in_model

    upstream = Upstream(str(encoder_folders["wavlm_base"]), trainable_blocks=0, attention="eager")
    inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"]), upstream.model)
    assert not upstream.frozen
    assert not upstream(torch.randn(1, 6000))[0].requires_grad


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        ({"rank": 2, "alpha": 4}, "targets"),
        ({"rank": 2, "alpha": 4, "targets": ["q_proj"], "dropout": 0.1}, "dropout"),
        ({"rank": 0, "alpha": 4, "targets": ["q_proj"]}, "rank=0"),
        ({"rank": 2, "alpha": 4, "targets": ["query"]}, "query"),
        ({"rank": 2, "alpha": 4, "targets": []}, "empty"),
    ],
)
def test_wrong_options(lora, message):
    with pytest.raises(ValueError, match=message):
        Upstream(lora=lora, trainable_blocks=0)


def test_trained_blocks_beside_adapters_are_refused():
    with pytest.raises(ValueError, match="trainable_blocks=0"):
        Upstream(lora={"rank": 2, "alpha": 4, "targets": ["q_proj"]}, trainable_blocks=1)
