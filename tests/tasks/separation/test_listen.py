"""What the floor adds to the listening page: scores of one item, levels, problems that fit."""

import re

import numpy as np
import pytest
import soundfile
import torch
from pystoi import stoi
from torch import nn

from hydraudio.losses.permutation import PermutationInvariant
from hydraudio.losses.sdr import SISDRLoss
from hydraudio.report.listen.cards import heard_card
from hydraudio.report.listen.listening import Heard
from hydraudio.tasks.separation.listen import (
    Scores,
    SeparationListening,
    open_scorer,
    score_item,
    score_table,
)
from hydraudio.tasks.separation.predict import SeparationPredictor
from hydraudio.tasks.separation.task import SeparationTask


class Fixed(nn.Module):
    """Gives what it was told."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs, self.n_sources = torch.from_numpy(outputs)[None], len(outputs)

    def forward(self, mixture):
        return self.outputs


def evaluated(mixture, targets, outputs):
    """A batch of one item, and what the task makes of it."""
    task = SeparationTask(Fixed(outputs), PermutationInvariant(SISDRLoss()), optimizer=torch.optim.Adam)
    batch = {"mixture": torch.from_numpy(mixture)[None], "target": torch.from_numpy(targets)[None]}
    batch |= {"lengths": torch.tensor([len(mixture)]), "padded": False, "degenerate": torch.tensor([False])}
    return batch, task.evaluate_batch(batch)


def si_sdr_reference(estimate, target):
    """Le Roux et al. 2019, equation 3, in float64."""
    estimate, target = estimate.astype(np.float64), target.astype(np.float64)
    scaled = estimate @ target / (target @ target) * target
    return 10 * np.log10(scaled @ scaled / ((estimate - scaled) @ (estimate - scaled)))


def test_order_and_values():
    rng = np.random.default_rng(0)
    envelope = 0.6 + 0.4 * np.sin(np.arange(16000) / 700)
    targets = (0.1 * envelope * rng.standard_normal((2, 16000))).astype(np.float32)
    noise = (0.02 * rng.standard_normal((2, 16000))).astype(np.float32)
    outputs = 3 * (targets + noise)[::-1].copy()  # exchanged, at another level
    mixture = targets.sum(0)
    with open_scorer(8000) as scorer:
        scores = score_item(scorer, *evaluated(mixture, targets, outputs))
    assert scores.permutation.tolist() == [1, 0]
    for k in range(2):
        assert scores.estimate["si_sdr"][k] == pytest.approx(si_sdr_reference(outputs[1 - k], targets[k]), abs=1e-3)
        assert scores.mixture["si_sdr"][k] == pytest.approx(si_sdr_reference(mixture, targets[k]), abs=1e-3)
        assert scores.si_sdri[k] == pytest.approx(scores.estimate["si_sdr"][k] - scores.mixture["si_sdr"][k])
        assert scores.estimate["stoi"][k] == pytest.approx(stoi(targets[k], outputs[1 - k], 8000), abs=1e-6)
        assert scores.mixture["stoi"][k] == pytest.approx(stoi(targets[k], mixture, 8000), abs=1e-6)
    assert set(scores.estimate) == {"si_sdr", "pesq", "stoi"}
    assert scores.errors == ()


def test_what_cannot_be_scored_is_said():
    targets = np.zeros((1, 800), dtype=np.float32)
    noise = np.random.default_rng(0).standard_normal((1, 800)).astype(np.float32)
    with open_scorer(8000) as scorer:
        scores = score_item(scorer, *evaluated(noise[0], targets, noise))
    assert np.isnan(scores.estimate["stoi"]).all()
    assert any("stoi" in error for error in scores.errors)


def test_pesq_exists_at_two_sample_rates_only():
    with open_scorer(16000) as scorer:
        assert "pesq" in scorer.metrics
    with open_scorer(44100) as scorer:
        assert scorer.metrics == ("stoi",)


def test_the_table_has_every_metric_before_and_after_in_the_order_of_the_targets():
    before = {"si_sdr": np.full(2, -2.5), "stoi": np.full(2, 0.5)}
    after = {"si_sdr": np.full(2, 8.25), "stoi": np.full(2, np.nan)}
    table = score_table(Scores(np.array([1, 0]), after, before))
    assert table.columns == ("", "SI-SDRi", "SI-SDR", "STOI")
    text = re.sub(r"<[^>]+>", " ", heard_card(Heard("x", (), 8000, (), (), table, (), "", 0.1)))
    row = r"Target 1 from network output 2\s+\+10\.75 dB\s+\N{MINUS SIGN}2\.50 →\s+8\.25 dB\s+0\.500 →\s+\N{EN DASH}"
    assert re.search(row, text)


def test_estimates_are_played_at_the_level_of_their_targets_or_as_in_the_recording(tmp_path):
    parts = (0.05 * np.random.default_rng(0).standard_normal((2, 8000))).astype(np.float32)
    task = SeparationTask(Fixed(parts), PermutationInvariant(SISDRLoss()), optimizer=torch.optim.Adam)
    listening = SeparationListening(task)
    batch, result = evaluated(parts.sum(0), parts, -20 * parts)
    sounds, words = listening.sounds_of(batch, result)
    assert [sound.name for sound in sounds] == ["Mixture", "Target 1", "Estimate 1", "Target 2", "Estimate 2"]
    assert [sound.gain for sound in sounds] == pytest.approx([1, 1, 0.05, 1, 0.05], rel=1e-4)
    assert "target's level" in words
    sounds, words = listening.sounds_of({"mixture": batch["mixture"]}, result)
    assert [sound.name for sound in sounds] == ["Mixture", "Estimate 1", "Estimate 2"]
    mixture = parts.sum(0)
    expected = [-part @ mixture / (20 * part @ part) for part in parts]
    assert [sound.gain for sound in sounds] == pytest.approx([1, *expected], rel=1e-4)
    assert "as loud as they are in the recording" in words
    listening.close()


def test_a_recording_is_played_as_prediction_writes_it(tmp_path):
    parts = (0.05 * np.random.default_rng(0).standard_normal((2, 8000))).astype(np.float32)
    mixture = parts[0] + 0.3 * parts[1] + 0.02
    soundfile.write(tmp_path / "x.wav", mixture, 8000, subtype="FLOAT")
    task = SeparationTask(Fixed(-20 * parts), PermutationInvariant(SISDRLoss()), optimizer=torch.optim.Adam)
    task.sample_rate = 8000
    predictor = SeparationPredictor(chunk_s=4.0, overlap_s=1.0)
    assert not predictor.run(task, tmp_path / "x.wav", tmp_path / "out")
    listening = SeparationListening(task)
    given = torch.from_numpy(mixture)[None]
    sounds, _ = listening.sounds_of({"mixture": given}, listening.process(given))
    for k, sound in enumerate(sounds[1:]):
        written, _ = soundfile.read(tmp_path / "out" / f"x_s{k + 1}.wav")
        np.testing.assert_allclose(sound.gain * sound.waveform, written, atol=1e-6)
    listening.close()


def test_problems_with_as_many_sources_as_the_network_fit():
    class Data:
        problems = {"one": 1, "two": 2, "both": 2}

    task = SeparationTask(
        Fixed(np.zeros((2, 8), np.float32)), PermutationInvariant(SISDRLoss()), optimizer=torch.optim.Adam
    )
    listening = SeparationListening(task)
    assert listening.problems(Data()) == ["two", "both"]
    listening.close()
