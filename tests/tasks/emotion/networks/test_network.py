from functools import partial

import pytest
import torch
from torch import nn

from hydraudio.tasks.emotion.networks.heads import (
    AttributeHead,
    BranchAttributeHead,
    ClassifierHead,
    GenderAdversary,
    GenderClassifier,
    GenderCondition,
)
from hydraudio.tasks.emotion.networks.network import EmotionNetwork
from hydraudio.tasks.emotion.networks.normalization import WaveformNormalization
from hydraudio.tasks.emotion.networks.pooling import (
    AttentiveStatistics,
    Mean,
    MeanStd,
    MultiHeadAttention,
    SelfAttention,
)
from hydraudio.tasks.emotion.networks.upstream.encoder import frame_lengths

POOLINGS = {
    "attentive": AttentiveStatistics,
    "mean": Mean,
    "mean_std": MeanStd,
    "self": SelfAttention,
    "multi_head": partial(MultiHeadAttention, n_heads=2),
}


class StubUpstream(nn.Module):
    """Frames of 400 samples every 320, one linear map per state."""

    dim, frozen, do_normalize, shortest_samples = 8, True, None, 400

    def __init__(self, n_states=1):
        super().__init__()
        self.n_states = n_states
        self.maps = nn.ModuleList(nn.Linear(400, self.dim) for _ in range(n_states))

    def forward(self, waveform, lengths=None):
        if lengths is None:
            lengths = torch.full((len(waveform),), waveform.shape[1])
        waveform = nn.functional.pad(waveform, (0, max(0, 400 - waveform.shape[1])))
        frames = waveform.unfold(1, 400, 320)
        return torch.stack([m(frames).tanh() for m in self.maps], 1), frame_lengths(lengths)

    def fingerprint(self):
        return "stub"


def build(pooling=AttentiveStatistics, n_states=1, **options):
    torch.manual_seed(0)
    options.setdefault("category", partial(ClassifierHead, n_classes=8, hidden_dim=10))
    return EmotionNetwork(StubUpstream(n_states), pooling, **options).eval()


ATTRIBUTES = partial(AttributeHead, attribute_names=["arousal", "valence"], hidden_dim=7)
BRANCH = partial(BranchAttributeHead, attribute_names=["arousal", "valence", "dominance"])


@pytest.fixture
def waves():
    generator = torch.Generator().manual_seed(1)
    return [0.1 * torch.randn(n, generator=generator) for n in (4000, 1777, 250)]


def pad(waves):
    lengths = torch.tensor([len(wave) for wave in waves])
    return nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths


@pytest.mark.parametrize(
    ("pooling", "n_states", "normalization"),
    [(pooling, n_states, WaveformNormalization(0.01, 0.1)) for pooling in POOLINGS for n_states in (1, 3)]
    + [("attentive", 1, WaveformNormalization()), ("mean_std", 3, None)],
)
def test_a_padded_batch_equals_single_items(waves, pooling, n_states, normalization):
    net = build(POOLINGS[pooling], n_states, attributes=BRANCH, hierarchical=True, normalization=normalization)
    together = net(*pad(waves))
    for i, wave in enumerate(waves):
        alone = net(wave[None])
        for key in ("logits", "attributes", "embedding"):
            torch.testing.assert_close(together[key][i], alone[key][0], atol=1e-5, rtol=1e-5)


def test_gives_what_it_has_heads_for(waves):
    net = build(gender=partial(GenderClassifier, hidden_dim=4))
    assert {key: tuple(value.shape) for key, value in net(*pad(waves)).items()} == {
        "embedding": (3, 16),
        "logits": (3, 8),
        "gender_logits": (3, 2),
    }
    assert (net.n_classes, net.n_attributes, net.gender_mode) == (8, 0, "auxiliary")
    net = build(category=None, attributes=ATTRIBUTES)
    assert set(net(*pad(waves))) == {"embedding", "attributes"}
    assert (net.n_classes, net.n_attributes, net.gender_mode) == (0, 2, "none")


@pytest.mark.parametrize("pooling", ["mean", "mean_std"])
def test_cached_statistics_and_waveforms_agree(waves, pooling):
    net = build(POOLINGS[pooling], 3, attributes=ATTRIBUTES, normalize_states=True)
    with torch.no_grad():
        net.mix.weight.copy_(torch.tensor([0.3, -0.7, 1.1]))
    batch, lengths = pad(waves)
    states, n_frames = net.encode(batch, lengths)
    statistics = net.statistics(batch, lengths)
    assert statistics.shape == (3, 3, 16)
    for result in (net.classify(states, n_frames), net.classify(statistics, n_frames)):
        torch.testing.assert_close(result, net(batch, lengths))


def test_frames_are_needed_where_frames_are_pooled(waves):
    net = build()
    assert not net.takes_statistics
    with pytest.raises(ValueError, match="AttentiveStatistics pools frames"):
        net.classify(torch.randn(2, 1, 16), torch.tensor([3, 3]))


def test_gender_conditions_attributes_and_never_categories(waves):
    net = build(attributes=BRANCH, gender=GenderCondition(dim=5), hierarchical=True)
    batch = pad(waves)
    female, male = (net(*batch, gender=torch.full((3,), index)) for index in (0, 1))
    unknown, nobody = net(*batch, gender=torch.full((3,), 2)), net(*batch)
    assert not torch.allclose(female["attributes"], male["attributes"])
    assert torch.equal(female["logits"], male["logits"])
    assert torch.equal(unknown["attributes"], nobody["attributes"])
    with pytest.raises(ValueError, match="gender=condition feeds the attribute head"):
        build(gender=GenderCondition())


def test_categories_feed_attributes_where_hierarchical(waves):
    batch = pad(waves)
    for hierarchical in (True, False):
        net = build(attributes=BRANCH, hierarchical=hierarchical)
        gradients = torch.autograd.grad(
            net(*batch)["attributes"].sum(), list(net.category.trunk.parameters()), allow_unused=True
        )
        assert all((g is not None and (g != 0).any()) == hierarchical for g in gradients)
    with pytest.raises(ValueError, match="hierarchical=true needs both heads"):
        build(hierarchical=True)


@pytest.mark.parametrize("gender", [GenderCondition(dim=5), GenderClassifier, GenderAdversary])
def test_every_parameter_gets_a_gradient(waves, gender):
    net = build(n_states=2, attributes=BRANCH, gender=gender, hierarchical=True).train()
    result = net(*pad(waves * 4), gender=torch.tensor([0, 1, 2] * 4))
    sum(value.float().square().sum() for value in result.values()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not (p.grad != 0).any()] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_half_precision_is_finite(waves, dtype, level):
    net = build(n_states=2, attributes=BRANCH, gender=GenderCondition(), normalization=WaveformNormalization(0.0, 0.09))
    batch, lengths = pad(waves)
    with torch.autocast("cpu", dtype=dtype):
        result = net(level * batch / batch.abs().max(), lengths)
    sum(value.float().sum() for value in result.values()).backward()
    assert all(value.isfinite().all() for value in result.values())
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


@pytest.mark.parametrize("attributes", [BRANCH, ATTRIBUTES])
def test_a_network_in_bfloat16_runs(waves, attributes):
    net = build(n_states=2, attributes=attributes, gender=GenderCondition(), hierarchical=True).bfloat16()
    net.upstream.float()
    states, n_frames = net.encode(*pad(waves))
    result = net.classify(states.bfloat16(), n_frames)
    assert result["attributes"].dtype is torch.float32
    assert all(value.isfinite().all() for value in result.values())


def test_the_fingerprint_tells_normalisations_apart():
    normalizations = [None, WaveformNormalization(), WaveformNormalization(0.0, 0.1), WaveformNormalization(0.0, 0.2)]
    assert len({build(normalization=n).fingerprint() for n in normalizations}) == 4
    assert build().fingerprint() == build().fingerprint()


def test_normalisations(waves):
    batch, lengths = pad(waves)
    corpus = WaveformNormalization(0.02, 0.1)(batch, lengths)
    torch.testing.assert_close(corpus[1, :1777], (waves[1] - 0.02) / (0.1 + 1e-6))
    assert (corpus[1, 1777:] == 0).all()
    utterance = WaveformNormalization()(batch, lengths)
    expected = (waves[1] - waves[1].mean()) / (waves[1].var(correction=0) + 1e-7).sqrt()
    torch.testing.assert_close(utterance[1, :1777], expected, atol=1e-5, rtol=1e-5)
    assert (utterance[1, 1777:] == 0).all()
    assert WaveformNormalization()(torch.zeros(1, 500)).isfinite().all()
    with pytest.raises(ValueError, match="std=0"):
        WaveformNormalization(0.0, 0.0)


def test_a_network_needs_a_head():
    with pytest.raises(ValueError, match="no head"):
        build(category=None)


def test_lengths_are_checked(waves):
    batch, lengths = pad(waves)
    with pytest.raises(ValueError, match="lengths must be"):
        build()(batch, lengths.float())
    with pytest.raises(ValueError, match="waveform must be"):
        build()(batch[0])


def test_an_upstream_that_wants_normalised_utterances_says_so(caplog):
    upstream = StubUpstream()
    upstream.do_normalize = True
    category = partial(ClassifierHead, n_classes=3)
    EmotionNetwork(upstream, Mean, category)
    assert "model/emotion/normalization=utterance" in caplog.text
    caplog.clear()
    EmotionNetwork(upstream, Mean, category=partial(ClassifierHead, n_classes=3), normalization=WaveformNormalization())
    assert caplog.text == ""
