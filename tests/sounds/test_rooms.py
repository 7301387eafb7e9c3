"""Reverberation: decay, pre-delay, absence of the direct path, and agreement with a full simulation."""

from __future__ import annotations

import numpy as np
import pytest

from hydraudio.sounds.rooms import Room, draw_room, impulse_response, reverberate, wet_signals


def _rng(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def _rt60_s(response: np.ndarray, sample_rate: int) -> float:
    """Schroeder's backward integration; slope between -5 and -25 dB."""
    energy_db = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1] / np.sum(response**2))
    falling = np.flatnonzero((energy_db < -5) & (energy_db > -25))
    return float(-60 / np.polyfit(falling / sample_rate, energy_db[falling], 1)[0])


@pytest.mark.parametrize("rt60_s", [0.25, 0.5, 0.8])
def test_the_tail_decays_as_asked(rt60_s):
    room = Room(rt60_s, -6.0, 0.5, 0.3, 3000.0, (0.01, 0.01, 0.02))
    measured = np.mean([_rt60_s(impulse_response(room, 0.01, 8000, _rng(seed)), 8000) for seed in range(5)])
    assert measured == pytest.approx(rt60_s, rel=0.25)


def test_nothing_arrives_before_the_pre_delay():
    response = impulse_response(draw_room(8000, _rng()), 0.02, 8000, _rng())
    assert np.abs(response[:160]).max() == 0.0
    assert np.sum(response**2) == pytest.approx(1.0)


def test_reverberation_is_a_convolution():
    dry = _rng(1).standard_normal(1000)
    response = _rng(2).standard_normal(300)
    np.testing.assert_allclose(reverberate(dry, response), np.convolve(dry, response)[:1000], atol=1e-3)


def test_wet_level_is_the_rooms():
    room = draw_room(8000, _rng(3))
    dry = _rng(1).standard_normal((3, 40_000))
    for signal, wet in zip(dry, wet_signals(room, tuple(dry), 8000, _rng(2)), strict=True):
        assert 20 * np.log10(np.linalg.norm(wet) / np.linalg.norm(signal)) == pytest.approx(room.reverb_db, abs=2.0)


@pytest.fixture
def shoebox():
    pytest.importorskip("pyroomacoustics")
    from hydraudio.sounds.shoebox import draw_shoebox

    return draw_shoebox((0.2, 0.25), (0.4, 1.6), 8000, _rng(4))


def test_dry_plus_wet_is_the_whole_room_response(shoebox, monkeypatch):
    pra = pytest.importorskip("pyroomacoustics")
    # the simulator's 10 Hz high-pass also smears the direct impulse by 0.3 %
    monkeypatch.setitem(pra.parameters._constants, "rir_hpf_enable", False)
    absorption, max_order = pra.inverse_sabine(shoebox.rt60_s, shoebox.size_m)
    room = pra.ShoeBox(shoebox.size_m, fs=8000, materials=pra.Material(absorption), max_order=max_order)
    for source_m in shoebox.sources_m:
        room.add_source(source_m)
    room.add_microphone(shoebox.microphone_m)
    room.compute_rir()
    dry = tuple(_rng(1).standard_normal((3, 4000)))
    for signal, wet, whole, source_m in zip(dry, shoebox.wet(dry), room.rir[0], shoebox.sources_m, strict=True):
        distance_m = np.linalg.norm(source_m - shoebox.microphone_m)
        n_delay = pra.constants.get("frac_delay_length") // 2 + round(distance_m / pra.constants.get("c") * 8000)
        received = np.convolve(signal, whole)[n_delay : n_delay + 4000] * distance_m
        residual = received - (signal + wet)
        assert 20 * np.log10(np.linalg.norm(residual) / np.linalg.norm(received)) < -50


def test_pre_delay_is_the_first_reflection(shoebox):
    for response, pre_delay_s in zip(shoebox.responses(), shoebox.as_room().pre_delays_s, strict=True):
        first = int(np.argmax(np.abs(response) > 0.3 * np.abs(response).max()))
        assert first == pytest.approx(pre_delay_s * 8000, abs=2)


def test_shoebox_decays_about_as_asked(shoebox):
    measured = np.mean([_rt60_s(response, 8000) for response in shoebox.responses()])
    assert measured == pytest.approx(shoebox.rt60_s, rel=0.35)
