"""WavLM's fused attention against transformers' eager one: outputs, gradients of all parameters, the position table."""

from __future__ import annotations

import pytest
import torch

from hydraudio.tasks.emotion.networks.upstream.attention import distance_buckets, position_table
from hydraudio.tasks.emotion.networks.upstream.encoder import Upstream
from hydraudio.tasks.emotion.networks.upstream.loading import MINIATURE

LENGTHS = {"equal": [5000, 5000], "padded": [9000, 4321, 500], "long": [40000, 700]}


def pair(folder, **options):
    """The same encoder with both attentions, all of it trained; its dropouts are 0."""
    every = {"trainable_blocks": "all", "trainable_extras": ["all"], **options}
    return [Upstream(str(folder), attention=attention, **every).train() for attention in ("sdpa", "eager")]


@pytest.mark.parametrize(
    ("layout", "case"), [("base", "equal"), ("base", "padded"), ("large", "padded"), ("large", "long")]
)
def test_same_states_and_gradients(encoder_folders, layout, case):
    lengths = torch.tensor(LENGTHS[case])
    waveform = 0.1 * torch.randn(len(lengths), int(lengths.max()), generator=torch.Generator().manual_seed(2))
    given = None if case == "equal" else lengths
    results = []
    for upstream in pair(encoder_folders[f"wavlm_{layout}"]):
        states, n_frames = upstream(waveform, given)
        valid = torch.arange(states.shape[2]) < n_frames[:, None]
        kept = states[:, 0][valid]
        (kept * torch.linspace(-1, 1, kept.numel()).view_as(kept)).mean().backward()
        results.append((kept.detach(), {name: p.grad for name, p in upstream.named_parameters()}))
    (fused, fused_gradients), (eager, eager_gradients) = results
    torch.testing.assert_close(fused, eager, atol=1e-5, rtol=0)
    assert set(fused_gradients) == set(eager_gradients)
    for name, gradient in eager_gradients.items():
        assert gradient is not None, name
        torch.testing.assert_close(fused_gradients[name], gradient, atol=1e-5, rtol=1e-3, msg=name)


def test_every_parameter_of_the_attention_matters(encoder_folders):
    """The gate and the table reach the output: their gradients are not zero."""
    upstream, _ = pair(encoder_folders["wavlm_base"])
    upstream(0.1 * torch.randn(1, 9000))[0][0, 0, 3].sum().backward()
    gradients = {name: p.grad for name, p in upstream.named_parameters() if "layers.0.attention" in name}
    assert len(gradients) == 12
    without = [name for name, gradient in gradients.items() if gradient.abs().sum() < 1e-7]
    assert [name.split(".")[-2:] for name in without] in ([], [["k_proj", "bias"]])  # softmax does not see that bias


@pytest.mark.parametrize("n_frames", [1, 49, 400])
def test_table_is_that_of_transformers(references, encoder_folders, n_frames):
    original = references["wavlm_base"].encoder.layers[0].attention
    upstream, _ = pair(encoder_folders["wavlm_base"])
    ours = position_table(upstream.model.encoder.layers[0].attention, n_frames)
    assert torch.equal(ours[0], original.compute_bias(n_frames, n_frames))


def test_buckets_by_hand():
    distances = torch.tensor([0, -1, 1, -79, 79, -80, 80, 799, -5000])
    # 320 buckets, 160 per sign, 80 of them exact, the rest logarithmic up to 800
    assert distance_buckets(distances, 320, 800).tolist() == [0, 1, 161, 79, 239, 80, 240, 319, 159]


def test_dropout_of_attention_is_active_in_trained_blocks_only():
    upstream = Upstream(architecture={**MINIATURE, "attention_dropout": 0.5}, trainable_blocks=1, layers="all").train()
    waveform = torch.randn(1, 9000)
    first, second = upstream(waveform)[0], upstream(waveform)[0]
    assert torch.equal(first[:, :4], second[:, :4])
    assert not torch.equal(first[:, 4], second[:, 4])


def test_unknown_attention_is_refused():
    with pytest.raises(ValueError, match="flash"):
        Upstream(attention="flash")
