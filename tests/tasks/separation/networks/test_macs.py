"""MACs of networks against counts by hand and against published ones."""

import pytest

from hydraudio.nn.complexity import count_macs
from hydraudio.tasks.separation.networks.conv_tasnet import ConvTasNet
from hydraudio.tasks.separation.networks.dprnn import DPRNN
from hydraudio.tasks.separation.networks.tf_gridnet import TFGridNet


def macs_of_conv_tasnet(frames, n, kernel, b, h, p, blocks, sources):
    block = b * h + h * p + h * b
    return frames * (n * kernel + n * b + blocks * block + b * n * sources + sources * n * kernel)


def test_conv_tasnet_by_hand():
    net = ConvTasNet(
        n_sources=2, n_filters=64, kernel_size=16, bottleneck_channels=24, hidden_channels=48, n_blocks=3, n_repeats=2
    )
    expected = macs_of_conv_tasnet(999, 64, 16, 24, 48, 3, 6, 2)
    counted = count_macs(net, 8000)  # 999 frames and what pads to whole ones
    assert expected <= counted <= expected * 1002 / 999


def test_published_count_of_tf_gridnet():
    """445.56 G/s at 16 kHz (Li et al., "SPMamba", 2024, table 2)."""
    assert count_macs(TFGridNet(n_sources=2, n_fft=256, n_channels=64, kernel_size=4), 16000) == pytest.approx(
        445.56e9, rel=0.05
    )


def test_published_count_of_dprnn():
    """85.3 G/s at 16 kHz with filters of two samples (the same table)."""
    assert count_macs(DPRNN(n_sources=2, n_filters=64, kernel_size=2, chunk_size=250), 16000) == pytest.approx(
        85.3e9, rel=0.05
    )
