"""Patches of a spectrogram and their places."""

import pytest
import torch

from hydraudio.tasks.pretraining.networks.grid import Grid

GRID = Grid(n_frames=12, n_bins=10, patch=[3, 5], channels=2)


def test_unpatchify_undoes_patchify():
    spectrogram = torch.randn(3, 2, 12, 10)
    assert torch.equal(GRID.unpatchify(GRID.patchify(spectrogram)), spectrogram)


def test_tokens_run_along_frequency_first_and_values_in_order_frame_bin_channel():
    spectrogram = torch.arange(2 * 12 * 10.0).view(1, 2, 12, 10)
    patches = GRID.patchify(spectrogram)
    for token, (row, col) in enumerate(GRID.coordinates().tolist()):
        assert token == row * GRID.n_cols + col
        piece = spectrogram[0, :, 3 * row : 3 * row + 3, 5 * col : 5 * col + 5]
        assert torch.equal(patches[0, token].view(3, 5, 2), piece.permute(1, 2, 0))


def test_refuses_another_spectrogram():
    with pytest.raises(ValueError, match=r"\(2, 12, 10\), the spectrogram is \(2, 15, 10\)"):
        GRID.patchify(torch.zeros(1, 2, 15, 10))


@pytest.mark.parametrize("sizes", [{"n_frames": 13}, {"n_bins": 0}, {"patch": [3]}, {"channels": 0}])
def test_refuses_what_is_no_grid(sizes):
    with pytest.raises(ValueError):
        Grid(**{"n_frames": 12, "n_bins": 10, "patch": [3, 5], **sizes})
