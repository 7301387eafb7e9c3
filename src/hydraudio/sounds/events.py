"""Sound events: short sounds of several classes, each placed somewhere in a clip."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hydraudio.sounds.textures import add_at, band, burst, coloured_noise, harmonics, ring

Event = Callable[[int, np.random.Generator], np.ndarray]


def make_event(event_class: str, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Make an event of the class on its own: (time,) float32 of 0.05 to 5 s with peak 0.5."""
    try:
        event = EVENTS[event_class]
    except KeyError:
        raise ValueError(f"unknown event class '{event_class}'; choose from {', '.join(EVENTS)}") from None
    sound = event(sample_rate, rng)
    return (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def place_event(event: np.ndarray, n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Put an event at a random offset into silence, its end cut off if it is longer; (n_samples,)."""
    clip = np.zeros(n_samples, np.float32)
    latest = max(n_samples - len(event), 0)
    add_at(clip, event, int(rng.integers(latest + 1)))
    return clip


def _repeat(
    times_s: np.ndarray, sample_rate: int, sound: Callable[[], np.ndarray], jitter: float, rng: np.random.Generator
) -> np.ndarray:
    """One fresh sound at each time, with random levels."""
    sounds = [sound() for _ in times_s]
    out = np.zeros(int(times_s[-1] * sample_rate) + len(sounds[-1]) + 1, np.float32)
    for time_s, one in zip(times_s, sounds, strict=True):
        add_at(out, one * np.float32(rng.uniform(1.0 - jitter, 1.0)), int(time_s * sample_rate))
    return out


def _door(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    slam = band(burst(rng.uniform(0.25, 0.6), sample_rate, 0.002, rng), sample_rate, rng.uniform(120, 350), 1.0)
    latch = band(burst(0.05, sample_rate, 0.001, rng), sample_rate, rng.uniform(1500, 3000), 0.6)
    sound = 3.0 * slam
    add_at(sound, latch, int(rng.uniform(0.01, 0.08) * sample_rate))
    return sound


def _knock(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    centre_hz, gap_s = rng.uniform(250, 700), rng.uniform(0.13, 0.3)
    times_s = np.arange(int(rng.integers(2, 6))) * gap_s

    def one() -> np.ndarray:
        return band(burst(0.08, sample_rate, 0.001, rng), sample_rate, centre_hz, 0.6)

    return _repeat(times_s, sample_rate, one, 0.4, rng)


def _bell(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    # partials of a church bell (hum, prime, tierce, quint, nominal ...): Fletcher & Rossing (1998), ch. 21
    ratios = np.array([0.5, 1.0, 1.2, 1.5, 2.0, 2.5, 2.67, 3.0, 4.0])
    decay_s = rng.uniform(0.5, 1.0) / np.sqrt(ratios)
    return ring(2.5, sample_rate, rng.uniform(350, 900) * ratios, decay_s, rng.uniform(0.3, 1.0, size=9))


def _phone(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(int(rng.uniform(0.8, 2.0) * sample_rate)) / sample_rate
    low_hz, high_hz, rate_hz = rng.uniform(400, 1000), rng.uniform(1100, 2400), rng.uniform(8, 20)
    high = np.sin(2 * np.pi * rate_hz * time_s) > 0
    return harmonics(np.where(high, high_hz, low_hz), sample_rate, np.array([1.0, 0.3, 0.2]))


def _dog(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    base_hz, formant_hz = rng.uniform(280, 650), rng.uniform(700, 1500)
    times_s = np.cumsum(rng.uniform(0.25, 0.6, size=int(rng.integers(1, 5))))

    def one() -> np.ndarray:
        n = int(rng.uniform(0.12, 0.22) * sample_rate)
        shape = np.sin(np.pi * np.linspace(0, 1, n) ** 0.6) ** 2
        pitch_hz = base_hz * (0.7 + 0.6 * shape)
        tone = harmonics(pitch_hz, sample_rate, 0.85 ** np.arange(8)) + 0.8 * rng.standard_normal(n)
        return band((tone * shape).astype(np.float32), sample_rate, formant_hz, 0.8)

    return _repeat(times_s - times_s[0], sample_rate, one, 0.4, rng)


def _siren(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(int(rng.uniform(1.5, 3.0) * sample_rate)) / sample_rate
    centre_hz, sweep_hz = rng.uniform(600, 1100), rng.uniform(100, 400)
    pitch_hz = centre_hz + sweep_hz * np.sin(2 * np.pi * rng.uniform(0.3, 4.0) * time_s)
    fade = np.minimum(np.minimum(time_s, time_s[::-1]) / 0.2, 1.0)
    return harmonics(pitch_hz, sample_rate, np.array([1.0, 0.4, 0.25, 0.1])) * fade.astype(np.float32)


def _horn(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(int(rng.uniform(0.3, 1.2) * sample_rate)) / sample_rate
    fade = np.minimum(np.minimum(time_s, time_s[::-1]) / 0.03, 1.0).astype(np.float32)
    base_hz = rng.uniform(320, 480)
    gains = np.array([0.6, 1.0, 0.8, 0.6, 0.5, 0.3, 0.2])
    low = harmonics(np.full(len(time_s), base_hz), sample_rate, gains)
    return fade * (low + harmonics(np.full(len(time_s), base_hz * 1.26), sample_rate, gains))


def _clapping(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    times_s = np.cumsum(rng.uniform(0.12, 0.35, size=int(rng.integers(3, 10))))
    centre_hz = rng.uniform(900, 2000)

    def one() -> np.ndarray:
        return band(burst(0.05, sample_rate, 0.001, rng), sample_rate, centre_hz, 0.7)

    return _repeat(times_s - times_s[0], sample_rate, one, 0.5, rng)


def _footsteps(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    times_s = np.cumsum(rng.uniform(0.4, 0.6, size=int(rng.integers(3, 7))))
    centre_hz = rng.uniform(120, 500)

    def one() -> np.ndarray:
        heel = band(burst(0.1, sample_rate, 0.002, rng), sample_rate, centre_hz, 0.9)
        add_at(heel, 0.4 * band(burst(0.05, sample_rate, 0.001, rng), sample_rate, 1800.0, 0.7), sample_rate // 25)
        return heel

    return _repeat(times_s - times_s[0], sample_rate, one, 0.5, rng)


def _glass(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    sound = np.zeros(int(0.9 * sample_rate), np.float32)
    add_at(sound, band(burst(0.2, sample_rate, 0.001, rng), sample_rate, 2800.0, 0.6), 0)
    for start in rng.exponential(0.15, size=25) * sample_rate:
        partials = rng.uniform(1500, 3900, size=3)
        shard = ring(0.12, sample_rate, partials, rng.uniform(0.01, 0.04, size=3), rng.uniform(0.1, 0.6, size=3))
        add_at(sound, shard, int(start))
    return sound


def _hammer(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    times_s = np.arange(int(rng.integers(2, 7))) * rng.uniform(0.25, 0.6)
    partials = rng.uniform(500, 3500, size=5)
    decay_s, gains = rng.uniform(0.02, 0.12, size=5), rng.uniform(0.3, 1.0, size=5)

    def one() -> np.ndarray:
        sound = ring(0.35, sample_rate, partials, decay_s, gains)
        add_at(sound, burst(0.02, sample_rate, 0.0005, rng), 0)
        return sound

    return _repeat(times_s, sample_rate, one, 0.4, rng)


def _bird(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    times_s = np.cumsum(rng.uniform(0.15, 0.5, size=int(rng.integers(2, 7))))
    start_hz, stop_hz = rng.uniform(1500, 3500, size=2)

    def one() -> np.ndarray:
        n = int(rng.uniform(0.08, 0.3) * sample_rate)
        trill = 1.0 + 0.05 * np.sin(2 * np.pi * rng.uniform(15, 40) * np.arange(n) / sample_rate)
        return harmonics(np.linspace(start_hz, stop_hz, n) * trill, sample_rate, np.ones(1)) * np.hanning(n)

    return _repeat(times_s - times_s[0], sample_rate, one, 0.4, rng)


def _thunder(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    n = int(rng.uniform(1.5, 3.0) * sample_rate)
    rumble = coloured_noise(n, sample_rate, [(30, 0), (100, 0), (500, -12), (4000, -40)], rng)
    shape = np.zeros(n, np.float32)
    for start in rng.uniform(0, 0.6, size=5) * n:
        decay = np.exp(-np.arange(n) / sample_rate / rng.uniform(0.2, 0.7)).astype(np.float32)
        add_at(shape, np.float32(rng.uniform(0.3, 1.0)) * decay, int(start))
    return rumble * shape


def _rain(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    n = int(rng.uniform(3.0, 5.0) * sample_rate)
    centre_hz, per_s = rng.uniform(800, 4000), rng.uniform(30, 150)
    drops = np.zeros(n, np.float32)
    starts = rng.integers(n, size=int(per_s * n / sample_rate))
    drops[starts] = rng.exponential(1.0, size=len(starts)) * rng.choice([-1.0, 1.0], size=len(starts))
    hiss = coloured_noise(n, sample_rate, [(100, -20), (centre_hz, 0), (10000, -15)], rng)
    return band(drops, sample_rate, centre_hz, 1.0) * np.float32(40.0) + np.float32(rng.uniform(0.1, 0.5)) * hiss


def _water_drops(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    # a bubble that closes rings at a rising pitch: van den Doel, "Physically based models for liquid sounds" (2005)
    times_s = np.cumsum(rng.uniform(0.1, 0.7, size=int(rng.integers(3, 9))))
    low_hz, rise = rng.uniform(400, 1500), rng.uniform(1.2, 2.5)

    def one() -> np.ndarray:
        n = int(rng.uniform(0.04, 0.12) * sample_rate)
        pitch_hz = low_hz * rng.uniform(0.8, 1.25) * np.linspace(1.0, rise, n)
        decay = np.exp(-np.linspace(0.0, 6.0, n)).astype(np.float32)
        return harmonics(pitch_hz, sample_rate, np.ones(1)) * decay

    return _repeat(times_s - times_s[0], sample_rate, one, 0.6, rng)


def _crickets(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(int(rng.uniform(2.5, 5.0) * sample_rate)) / sample_rate
    pitch_hz, pulse_hz, chirp_hz = rng.uniform(2200, 3800), rng.uniform(25, 45), rng.uniform(1.2, 3.5)
    pulses = np.maximum(np.sin(2 * np.pi * pulse_hz * time_s), 0.0)
    chirps = np.sin(2 * np.pi * chirp_hz * time_s + rng.uniform(0, 6)) > rng.uniform(-0.3, 0.4)
    return harmonics(np.full(len(time_s), pitch_hz), sample_rate, np.array([1.0, 0.1])) * (pulses * chirps)


def _clock_tick(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    times_s = np.arange(int(rng.integers(3, 10))) * rng.uniform(0.25, 0.55)
    partials = rng.uniform(600, 3900, size=4)
    decay_s, gains = rng.uniform(0.003, 0.015, size=4), rng.uniform(0.3, 1.0, size=4)

    def one() -> np.ndarray:
        sound = ring(0.08, sample_rate, partials, decay_s, gains)
        add_at(sound, np.float32(0.3) * burst(0.01, sample_rate, 0.0003, rng), 0)
        return sound

    return _repeat(times_s, sample_rate, one, 0.15, rng)


def _helicopter(sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    time_s = np.arange(int(rng.uniform(3.0, 5.0) * sample_rate)) / sample_rate
    phase = (time_s * rng.uniform(9, 18)) % 1.0
    blade = np.exp(-phase * rng.uniform(3.0, 7.0)).astype(np.float32)
    knots = [(60, 0.0), (rng.uniform(200, 900), 0.0), (4000, -25.0)]
    engine = coloured_noise(len(time_s), sample_rate, knots, rng)
    approach = (0.4 + 0.6 * np.sin(np.pi * np.linspace(rng.uniform(0, 0.5), rng.uniform(0.5, 1), len(time_s)))) ** 2
    return engine * (0.1 + blade) * approach.astype(np.float32)


EVENTS: dict[str, Event] = {
    "door": _door,
    "knock": _knock,
    "phone": _phone,
    "clapping": _clapping,
    "glass": _glass,
    "footsteps": _footsteps,
    "bell": _bell,
    "dog": _dog,
    "hammer": _hammer,
    "siren": _siren,
    "horn": _horn,
    "bird": _bird,
    "thunder": _thunder,
    "rain": _rain,
    "water drops": _water_drops,
    "crickets": _crickets,
    "clock tick": _clock_tick,
    "helicopter": _helicopter,
}

INDOOR_EVENTS = ("door", "knock", "phone", "clapping", "glass", "footsteps", "bell", "dog", "hammer")
OUTDOOR_EVENTS = ("footsteps", "bell", "dog", "hammer", "siren", "horn", "bird", "thunder", "clapping")
