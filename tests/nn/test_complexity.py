"""MACs against counts by hand."""

import pytest
import torch
from torch import nn

from hydraudio.nn.complexity import count_macs, real_time_factor
from hydraudio.nn.layers.scan import selective_scan


class Recurrent(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, mixture):
        return self.layer(mixture[..., None])[0]


@pytest.mark.parametrize(
    ("layer", "per_step"),
    [
        (nn.LSTM(1, 5, batch_first=True), 4 * (1 * 5 + 5 * 5)),
        (nn.LSTM(1, 5, 2, batch_first=True, bidirectional=True), 2 * 4 * 5 * (1 + 5) + 2 * 4 * 5 * (10 + 5)),
        (nn.LSTM(1, 5, batch_first=True, proj_size=3), 4 * 5 * (1 + 3) + 5 * 3),
        (nn.GRU(1, 5, batch_first=True), 3 * (1 * 5 + 5 * 5)),
        (nn.RNN(1, 5), 1 * 5 + 5 * 5),
    ],
)
def test_recurrent_layers(layer, per_step):
    net = Recurrent(layer)
    assert count_macs(net, 10, batch_size=3) == 3 * 10 * per_step
    assert net(torch.zeros(3, 10)).shape[:2] == (3, 10)  # the layer works as before


class Attention(nn.Module):
    def forward(self, mixture):
        x = mixture.reshape(len(mixture), 2, -1, 4)
        return nn.functional.scaled_dot_product_attention(x, x, x)


def test_attention():
    assert count_macs(Attention(), 80, batch_size=3) == 3 * 2 * (10 * 10 * 4) * 2


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)

    def forward(self, mixture):
        return self.layer(mixture.reshape(len(mixture), -1, 4))


def test_transformer_layer_on_the_fast_path_too():
    projections, attention, feed_forward = 10 * 4 * 4 * 4, 2 * 10 * 10 * 4, 2 * 10 * 4 * 8
    assert count_macs(Encoder().eval(), 40) == projections + attention + feed_forward


class Scan(nn.Module):
    def forward(self, mixture):
        u = mixture[None, :, :, None].expand(-1, -1, -1, 6)
        states = mixture[None, :, :, None].expand(-1, -1, -1, 8)
        ones = mixture.new_ones(1, 6)
        return selective_scan(u, u, -mixture.new_ones(1, 6, 8), states, states, ones, ones)


def test_selective_scan():
    assert count_macs(Scan(), 10, batch_size=3) == 9 * 3 * 10 * 6 * 8 // 2  # 9 operations, 2 per MAC


def test_count_is_proportional_to_the_batch_and_leaves_the_network_alone():
    net = Recurrent(nn.GRU(1, 5, batch_first=True)).train()
    before = net(torch.ones(1, 800))
    assert count_macs(net, 800, batch_size=4) == 4 * count_macs(net, 800)
    assert net.training
    torch.testing.assert_close(net(torch.ones(1, 800)), before)


def test_wrong_sizes_are_refused():
    with pytest.raises(ValueError, match="n_samples and batch_size must be at least 1"):
        count_macs(Attention(), 0)


def test_real_time_factor_is_positive():
    assert real_time_factor(nn.Conv1d(1, 1, 1), 8, 1.0, n_passes=1) > 0
