"""Ambient scenes: textures that fill a whole clip, by class, indoors and outdoors.

A texture is a coloured noise floor plus what moves in it (passing cars, gusts, clatter, drops, murmur). The
caller sets the scene's level against the speech.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hydraudio.sounds.textures import add_at, band, burst, coloured_noise, envelope_db, harmonics, ring

Texture = Callable[[int, int, np.random.Generator], np.ndarray]


def make_scene(scene_class: str, n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Make a scene of the class: (n_samples,) float32 with RMS 0.05.

    >>> scene = make_scene("restaurant", 8000, 8000, np.random.default_rng(0))
    >>> round(float(np.sqrt(np.mean(scene**2))), 3)
    0.05
    """
    try:
        texture = {**INDOOR_SCENES, **OUTDOOR_SCENES}[scene_class]
    except KeyError:
        known = ", ".join([*INDOOR_SCENES, *OUTDOOR_SCENES])
        raise ValueError(f"unknown scene class '{scene_class}'; choose from {known}") from None
    scene = texture(n_samples, sample_rate, rng)
    return (0.05 * scene / np.sqrt(np.mean(np.square(scene)))).astype(np.float32)


def _murmur(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A crowd without words: noise bands with speech's spectrum that fluctuate at the rate of syllables."""
    crowd = np.zeros(n_samples, np.float32)
    for centre_hz, level_db in ((180, -3), (420, 0), (800, -3), (1400, -8), (2300, -13), (3400, -19)):
        noise = coloured_noise(n_samples, sample_rate, _bell(centre_hz), rng)
        crowd += 10.0 ** (level_db / 20) * noise * envelope_db(n_samples, sample_rate, 5.0, 3.0, rng)
    return crowd


def _bell(centre_hz: float) -> list[tuple[float, float]]:
    return [(centre_hz / 4, -40.0), (centre_hz / 1.4, 0.0), (centre_hz * 1.4, 0.0), (centre_hz * 4, -40.0)]


def _hum(n_samples: int, sample_rate: int, base_hz: float, rng: np.random.Generator) -> np.ndarray:
    gains = rng.uniform(0.1, 1.0, size=14) * 0.8 ** np.arange(14)
    drift = 1.0 + 0.003 * np.sin(2 * np.pi * rng.uniform(0.1, 0.5) * np.arange(n_samples) / sample_rate)
    return harmonics(base_hz * drift, sample_rate, gains)


def _clinks(n_samples: int, sample_rate: int, rate_hz: float, centre_hz: float, rng: np.random.Generator) -> np.ndarray:
    """Short metallic or glassy hits at random times."""
    hits = np.zeros(n_samples, np.float32)
    for start in rng.integers(0, n_samples, size=rng.poisson(rate_hz * n_samples / sample_rate) + 1):
        partials = centre_hz * rng.uniform(0.6, 1.7, size=4)
        sound = ring(0.15, sample_rate, partials, rng.uniform(0.01, 0.05, size=4), rng.uniform(0.2, 1.0, size=4))
        add_at(hits, sound * 10.0 ** (rng.uniform(-14.0, 0.0) / 20), int(start))
    return hits


def _thuds(times_s: np.ndarray, n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    hits = np.zeros(n_samples, np.float32)
    for time_s in times_s:
        sound = band(burst(0.12, sample_rate, 0.003, rng), sample_rate, rng.uniform(150.0, 400.0), 0.8)
        add_at(hits, sound, int(time_s * sample_rate))
    return hits


def _restaurant(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    clatter = _clinks(n_samples, sample_rate, rng.uniform(1.5, 5.0), rng.uniform(1800, 2800), rng)
    return _murmur(n_samples, sample_rate, rng) + 4.0 * clatter


def _station_hall(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    rumble = coloured_noise(n_samples, sample_rate, [(40, 0), (200, -6), (1000, -20), (4000, -38)], rng)
    steps = np.arange(rng.uniform(0, 0.5), n_samples / sample_rate, rng.uniform(0.4, 0.6))
    return _murmur(n_samples, sample_rate, rng) + rumble + 3.0 * _thuds(steps, n_samples, sample_rate, rng)


def _machine_room(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    noise = coloured_noise(n_samples, sample_rate, [(60, 0), (300, -4), (1500, -12), (4000, -20)], rng)
    beat_hz = rng.uniform(4.0, 12.0)
    beat = 1.0 + 0.5 * np.sin(2 * np.pi * beat_hz * np.arange(n_samples) / sample_rate)
    return noise * beat.astype(np.float32) + rng.uniform(0.3, 0.9) * _hum(
        n_samples, sample_rate, rng.uniform(48, 120), rng
    )


def _ventilation(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    cutoff_hz = rng.uniform(300, 900)
    noise = coloured_noise(n_samples, sample_rate, [(50, 0), (cutoff_hz, -6), (4000, -30)], rng)
    return noise + 0.15 * _hum(n_samples, sample_rate, 50.0, rng)


def _kitchen(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    water = coloured_noise(n_samples, sample_rate, [(100, -20), (800, -6), (2500, 0), (4000, -3)], rng)
    water *= envelope_db(n_samples, sample_rate, 2.0, 3.0, rng)
    return water + 5.0 * _clinks(n_samples, sample_rate, rng.uniform(1.0, 3.0), rng.uniform(1200, 3000), rng)


def _train_cabin(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    rumble = coloured_noise(n_samples, sample_rate, [(30, 0), (120, 0), (600, -14), (4000, -34)], rng)
    gap_s = rng.uniform(0.7, 1.3)
    joints = np.arange(rng.uniform(0, gap_s), n_samples / sample_rate, gap_s)
    clacks = _thuds(np.concatenate([joints, joints + 0.16]), n_samples, sample_rate, rng)
    return rumble * envelope_db(n_samples, sample_rate, 1.0, 1.5, rng) + 5.0 * clacks


def _traffic(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    road = coloured_noise(n_samples, sample_rate, [(30, 0), (120, -2), (900, -10), (4000, -26)], rng)
    time_s = np.arange(n_samples) / sample_rate
    for _ in range(int(rng.integers(1, 4))):
        tyres = coloured_noise(n_samples, sample_rate, [(80, -10), (700, 0), (1500, -3), (4000, -14)], rng)
        closest_s = rng.uniform(-0.5, n_samples / sample_rate + 0.5)
        passing = 1.0 / (1.0 + ((time_s - closest_s) / rng.uniform(0.3, 0.9)) ** 2)
        road += (rng.uniform(1.0, 3.0) * passing).astype(np.float32) * tyres
    return road


def _wind(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    low = coloured_noise(n_samples, sample_rate, [(20, 0), (150, -3), (600, -20), (4000, -48)], rng)
    whistle = coloured_noise(n_samples, sample_rate, _bell(rng.uniform(350, 900)), rng)
    gusts = envelope_db(n_samples, sample_rate, 1.2, 5.0, rng)
    return gusts * (low + 0.4 * gusts * whistle)


def _rain(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    hiss = coloured_noise(n_samples, sample_rate, [(100, -18), (700, -6), (2500, 0), (4000, 0)], rng)
    drops = _clinks(n_samples, sample_rate, rng.uniform(8.0, 20.0), rng.uniform(1500, 3000), rng)
    return hiss * envelope_db(n_samples, sample_rate, 0.7, 1.5, rng) + 2.5 * drops


def _sea_shore(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    deep = coloured_noise(n_samples, sample_rate, [(40, 0), (400, -6), (4000, -24)], rng)
    foam = coloured_noise(n_samples, sample_rate, [(200, -20), (1500, 0), (4000, -4)], rng)
    wave = envelope_db(n_samples, sample_rate, 0.5, 5.0, rng)
    return deep + wave * foam


def _park(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    leaves = coloured_noise(n_samples, sample_rate, [(100, -6), (600, -8), (2000, 0), (4000, -6)], rng)
    park = 0.6 * leaves * envelope_db(n_samples, sample_rate, 1.0, 3.0, rng)
    for start in rng.integers(0, n_samples, size=int(rng.integers(6, 24))):
        n_chirp = int(rng.uniform(0.05, 0.15) * sample_rate)
        sweep = np.linspace(rng.uniform(1800, 3600), rng.uniform(1800, 3600), n_chirp)
        chirp = harmonics(sweep, sample_rate, np.ones(1)) * np.hanning(n_chirp)
        add_at(park, (rng.uniform(0.5, 3.0) * chirp).astype(np.float32), int(start))
    return park


def _crowd(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    open_air = coloured_noise(n_samples, sample_rate, [(50, 0), (500, -8), (4000, -24)], rng)
    return _murmur(n_samples, sample_rate, rng) + 0.5 * open_air


def _construction(n_samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    engine = _hum(n_samples, sample_rate, rng.uniform(25, 60), rng)
    gap_s = rng.uniform(0.08, 0.5)
    knocks = np.arange(rng.uniform(0, gap_s), n_samples / sample_rate, gap_s)
    hammer = _thuds(knocks, n_samples, sample_rate, rng)
    noise = coloured_noise(n_samples, sample_rate, [(50, 0), (800, -8), (4000, -18)], rng)
    return 0.7 * engine + noise + 4.0 * hammer


INDOOR_SCENES: dict[str, Texture] = {
    "restaurant": _restaurant,
    "station_hall": _station_hall,
    "machine_room": _machine_room,
    "ventilation": _ventilation,
    "kitchen": _kitchen,
    "train_cabin": _train_cabin,
}

OUTDOOR_SCENES: dict[str, Texture] = {
    "traffic": _traffic,
    "wind": _wind,
    "rain": _rain,
    "sea_shore": _sea_shore,
    "park": _park,
    "crowd": _crowd,
    "construction": _construction,
}
