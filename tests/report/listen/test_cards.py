"""What a browser gets to see and hear."""

import base64
import io
import math
import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from hydraudio.report.listen.cards import facts_card, heard_card, level_dbfs, problem_card, standalone
from hydraudio.report.listen.listening import Heard, Numbers, Sound
from hydraudio.report.tables import Cell, TableData, TableRow

RATE = 8000
SCORES = TableData(("", "Gain", "Hits"), (TableRow((Cell("Voice 1"), Cell("+10.75 dB"), Cell("0.8", "0.5 →"))),))


def heard(inputs, pairs, **changes):
    """Pairs of references (None: unknown) and outputs with their gains."""
    sounds = [Sound("Noisy", "input", signal) for signal in inputs]
    for k, (reference, output, gain) in enumerate(pairs, 1):
        sounds += [] if reference is None else [Sound(f"Clean {k}", "reference", reference)]
        sounds.append(Sound(f"Cleaned {k}", "output", output, gain))
    values = {"title": "x.wav", "details": ("wet",), "notes": ("a <b>note</b>",), "seconds": 0.1, "playback": ""}
    values |= {"numbers": (), "scores": None, "sounds": tuple(sounds)} | changes
    return Heard(sample_rate=RATE, **values)


def signals(n, n_samples=RATE, seed=0):
    return (0.05 * np.random.default_rng(seed).standard_normal((n, n_samples))).astype(np.float32)


def sounds(card):
    found = re.findall(r'<audio[^>]*src="data:audio/wav;base64,([^"]+)"', card)
    return [soundfile.read(io.BytesIO(base64.b64decode(text)))[0] for text in found]


def names(card):
    return re.findall(r"<h4>([^<]+)</h4>", card)


def brightest(card):
    found = re.findall(r'class="spectrogram" [^>]*src="data:image/png;base64,([^"]+)"', card)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(text)))).max() for text in found]


def test_players_share_one_gain_after_their_own():
    noisy, *clean = signals(3)
    card = heard_card(heard([noisy], [(clean[0], -20 * clean[0], 0.05), (clean[1], -20 * clean[1], 0.05)]))
    assert names(card) == ["Noisy", "Clean 1", "Cleaned 1", "Clean 2", "Cleaned 2"]
    found = sounds(card)
    gain = np.abs(found[0]).max() / np.abs(noisy).max()
    for sound, signal in zip(found, [noisy, clean[0], -clean[0], clean[1], -clean[1]], strict=True):
        np.testing.assert_allclose(sound, gain * signal, atol=2e-4)
    assert max(np.abs(sound).max() for sound in found) == pytest.approx(0.98, abs=1e-3)


def test_spectrograms_share_one_scale():
    noisy = signals(1)[0]
    card = heard_card(heard([noisy], [(0.1 * noisy, noisy, 0.1)]))
    loud, reference, output = brightest(card)
    assert loud == 255
    assert reference == output == pytest.approx(255 - 255 * 20 / 70, abs=1.5)  # 20 dB less, on a scale of 70 dB


def test_a_recording_has_no_reference_and_no_scores():
    parts = signals(2)
    card = heard_card(heard([parts.sum(0)], [(None, part, 1.0) for part in parts], playback="voices as they add up"))
    assert names(card) == ["Noisy", "Cleaned 1", "Cleaned 2"]
    assert "<table" not in card
    assert "Playback: voices as they add up; then" in card
    noisy, first, second = sounds(card)
    np.testing.assert_allclose(noisy, first + second, atol=2e-3)


def test_a_score_stands_behind_its_note_and_the_first_one_is_the_key():
    card = heard_card(heard(signals(1), [], scores=SCORES))
    table = re.search(r"<table.*?</table>", card, re.DOTALL).group()
    assert re.sub(r"<[^>]+>", " ", table).split() == ["Gain", "Hits", "Voice", "1", "+10.75", "dB", "0.5", "→", "0.8"]


def test_numbers_have_names_and_what_they_should_be():
    numbers = Numbers("Kinds", ("low", "<high>"), np.array([0.25, 0.75]), np.array([1.0, np.nan]))
    card = heard_card(heard([], [], numbers=(numbers,)))
    rows = re.findall(r'class="bar plain"><span>([^<]+)</span>.*</div><span>([^<]+)</span></div>', card)
    assert rows == [("low", "0.250 (1.000)"), ("&lt;high&gt;", "0.750")]
    assert re.findall(r"width:([\d.]+)%", card) == ["25.0", "75.0"]
    assert re.findall(r"left:([\d.]+)%", card) == ["100.0"]


def test_of_many_numbers_the_largest_are_shown():
    values = np.random.default_rng(0).permutation(500) / 500
    numbers = Numbers("Kinds", tuple(f"k{k}" for k in range(500)), values)
    shown = re.findall(r"<span>k(\d+)</span>", heard_card(heard([], [], numbers=(numbers,))))
    assert sorted(map(int, shown)) == sorted(np.argsort(values)[-24:])


def test_level():
    sine = np.sin(2 * np.pi * np.arange(8000) / 80)
    assert level_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert level_dbfs(np.zeros(10)) == -math.inf


@pytest.mark.parametrize("n_samples", [1, 5, 79, 8001, 700_000])
def test_any_length(n_samples):
    (noisy,) = signals(1, n_samples)
    card = heard_card(heard([noisy], [(noisy, noisy, 1.0)]))
    assert len(sounds(card)[0]) == n_samples
    assert re.search(r'class="ticks">\s*<span style="left:0.000%">0 s</span>', card)


def test_silence():
    silence = np.zeros(800, np.float32)
    card = heard_card(heard([silence], [(None, silence, 1.0)] * 2))
    assert card.count(">silent<") == 3
    assert not np.any(sounds(card))


def test_text_is_escaped():
    title = '<img src=x onerror="alert(1)">'
    card = heard_card(heard(signals(1), [], title=title))
    assert title not in card
    assert "a &lt;b&gt;note" in card
    assert "<i>" not in problem_card("<i>no</i>") + facts_card([("a", "<i>b</i>")])


def test_notebook_form_is_complete():
    text = standalone("CARD")
    assert text.startswith("<style>")
    assert text.index("<script>") < text.index("CARD")
