"""Frame arithmetic against real convolutions and the closed formula."""

import pytest
import torch
from torch import nn

from hydraudio.tasks.emotion.networks.upstream.encoder import KERNELS, STRIDES, frame_lengths, receptive_field


def test_receptive_field_is_400_samples():
    assert receptive_field() == 400
    assert receptive_field([3], [2]) == 3


def test_as_many_frames_as_the_convolutions_make():
    convolutions = nn.Sequential(
        *(nn.Conv1d(1, 1, kernel, stride, bias=False) for kernel, stride in zip(KERNELS, STRIDES, strict=True))
    )
    lengths = [400, 401, 719, 720, 721, 1039, 1040, 16000, 16007, 44123]
    made = [convolutions(torch.zeros(1, 1, length)).shape[-1] for length in lengths]
    assert frame_lengths(torch.tensor(lengths)).tolist() == made
    assert [frame_lengths(length) for length in lengths] == made


def test_closed_formula_holds_for_every_length():
    lengths = torch.arange(400, 40000)
    assert torch.equal(frame_lengths(lengths), (lengths - 400) // 320 + 1)


@pytest.mark.parametrize(("seconds", "frames"), [(1, 49), (5, 249), (12, 599)])
def test_known_counts(seconds, frames):
    assert frame_lengths(16000 * seconds) == frames


def test_short_waveforms_count_as_padded():
    assert frame_lengths(torch.tensor([0, 1, 399, 400])).tolist() == [1, 1, 1, 1]
    assert frame_lengths(7) == 1


def test_lengths_of_floats_are_refused():
    with pytest.raises(ValueError, match="bfloat16"):
        frame_lengths(torch.tensor([16000.0], dtype=torch.bfloat16))
