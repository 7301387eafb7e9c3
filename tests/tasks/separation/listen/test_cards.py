"""What a browser gets to see and hear."""

import base64
import io
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from hydraudio.report.listen.cards import facts_card, mixture_gains, problem_card, separation_card, standalone
from hydraudio.report.listen.scores import Scores
from hydraudio.report.listen.session import Separation

RATE = 8000


def separation(mixture, targets, estimates, **changes):
    n_sources = len(estimates)
    scores = None
    if targets is not None:
        before = {"si_sdr": np.full(n_sources, -2.5), "stoi": np.full(n_sources, 0.5)}
        after = {"si_sdr": np.full(n_sources, 8.25), "stoi": np.full(n_sources, np.nan)}
        scores = Scores(np.arange(n_sources)[::-1], after, before)
    values = {"title": "x.wav", "details": ("SER",), "notes": ("a <b>note</b>",), "seconds": 0.1} | changes
    return Separation(sample_rate=RATE, mixture=mixture, targets=targets, estimates=estimates, scores=scores, **values)


def signals(n, n_samples=RATE, seed=0):
    return (0.05 * np.random.default_rng(seed).standard_normal((n, n_samples))).astype(np.float32)


def sounds(card):
    found = re.findall(r'<audio[^>]*src="data:audio/wav;base64,([^"]+)"', card)
    return [soundfile.read(io.BytesIO(base64.b64decode(text)))[0] for text in found]


def names(card):
    return re.findall(r"<h4>([^<]+)</h4>", card)


def brightest(card):
    found = re.findall(r'src="data:image/png;base64,([^"]+)"', card)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).max() for text in found]


def test_players_share_one_gain_and_estimates_have_their_targets_level():
    mixture, *targets = signals(3)
    targets = np.stack(targets)
    card = separation_card(separation(mixture, targets, -20 * targets))
    assert names(card) == ["Mixture", "Target 1", "Estimate 1", "Target 2", "Estimate 2"]
    heard = sounds(card)
    gain = np.abs(heard[0]).max() / np.abs(mixture).max()
    for sound, signal in zip(heard, [mixture, targets[0], -targets[0], targets[1], -targets[1]], strict=True):
        np.testing.assert_allclose(sound, gain * signal, atol=2e-4)
    assert max(np.abs(sound).max() for sound in heard) == pytest.approx(0.98, abs=1e-3)


def test_spectrograms_share_one_scale():
    mixture = signals(1)[0]
    card = separation_card(separation(mixture, np.stack([0.1 * mixture]), np.stack([mixture])))
    loud, target, estimate = brightest(card)
    assert loud == 255
    assert target == estimate == pytest.approx(255 - 255 * 20 / 70, abs=1.5)  # 20 dB less, on a scale of 70 dB


def test_recording_has_no_target_and_no_scores():
    parts = signals(2)
    card = separation_card(separation(parts.sum(0), None, 7 * parts))
    assert names(card) == ["Mixture", "Estimate 1", "Estimate 2"]
    assert "<table" not in card
    mixture, first, second = sounds(card)
    np.testing.assert_allclose(mixture, first + second, atol=2e-3)


def test_scores_and_order():
    mixture, *targets = signals(3)
    card = separation_card(separation(mixture, np.stack(targets), np.stack(targets)))
    text = re.sub(r"<[^>]+>", " ", re.search(r"<table.*?</table>", card).group())
    assert text.split()[:4] == ["network", "output", "SI-SDRi", "SI-SDR"]
    assert re.search(r"Target 1\s+2\s+\+10\.75 dB\s+\N{MINUS SIGN}2\.50 →\s+8\.25 dB\s+0\.500 →\s+\N{EN DASH}", text)


def test_mixture_gains():
    parts = signals(3)
    parts[2] = 0
    mixture = 0.5 * parts[0] + 2.0 * parts[1]
    gains = mixture_gains(mixture, np.stack([parts[0], -parts[1], parts[2]]))
    assert gains == pytest.approx([0.5, 2.0, 1.0], rel=1e-4)  # levels, not polarity


@pytest.mark.parametrize("n_samples", [1, 5, 79, 8001, 700_000])
def test_any_length(n_samples):
    mixture = signals(1, n_samples)
    card = separation_card(separation(mixture[0], mixture, mixture))
    assert len(sounds(card)[0]) == n_samples
    assert re.search(r'class="ls-ticks"><span style="left:0.000%">0 s</span>', card)


def test_silence():
    card = separation_card(separation(np.zeros(800, np.float32), None, np.zeros((2, 800), np.float32)))
    assert card.count(">silent<") == 3
    assert not np.any(sounds(card))


def test_text_is_escaped():
    mixture = signals(1)
    title = '<img src=x onerror="alert(1)">'
    card = separation_card(separation(mixture[0], None, mixture, title=title))
    assert title not in card
    assert "a &lt;b&gt;note" in card
    assert "<i>" not in problem_card("<i>no</i>") + facts_card([("a", "<i>b</i>")])


def test_notebook_form_is_complete():
    text = standalone("CARD")
    assert text.startswith("<style>")
    assert text.index("CARD") < text.index("<script>")
