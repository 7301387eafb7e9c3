"""Room simulation by image sources (pyroomacoustics; extra `sim`): wet signals without the direct path."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from hydraudio.sounds.rooms import Room, reverberate

_SIZE_M = ((3.0, 9.0), (3.0, 7.0), (2.4, 3.6))
_WALL_M = 0.5  # least distance of sources and microphone from a wall


@dataclass(frozen=True)
class Shoebox:
    """A rectangular room with one absorption for all walls.

    Attributes:
        size_m: (3,) edges.
        rt60_s: reverberation time by Sabine's formula, from which the absorption follows.
        microphone_m: (3,) position.
        sources_m: (3, 3) positions of speaker 1, speaker 2 and the event.
        sample_rate: in Hz.
    """

    size_m: np.ndarray
    rt60_s: float
    microphone_m: np.ndarray
    sources_m: np.ndarray
    sample_rate: int

    def as_room(self) -> Room:
        """Describe the room in terms of the synthetic ones.

        The pre-delays are the times between the direct sound and the first reflection. An image model has
        specular walls (diffusion 0), one absorption for all frequencies (freq_damp 0) and no low-pass (high_cut_hz:
        half the sample rate).
        """
        first, second, event = (self._first_reflection_s(source) for source in self.sources_m)
        return Room(
            rt60_s=self.rt60_s,
            reverb_db=float("nan"),
            diffusion=0.0,
            freq_damp=0.0,
            high_cut_hz=self.sample_rate / 2.0,
            pre_delays_s=(first, second, event),
        )

    def _first_reflection_s(self, source_m: np.ndarray) -> float:
        images = [_mirrored(source_m, axis, wall) for axis in range(3) for wall in (0.0, self.size_m[axis])]
        direct_m = np.linalg.norm(source_m - self.microphone_m)
        reflected_m = min(np.linalg.norm(image - self.microphone_m) for image in images)
        return float((reflected_m - direct_m) / _simulator().constants.get("c"))

    def wet(self, dry: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[np.ndarray]:
        """Compute what the walls add to each of the three sources, on the dry signals' time axis and scale."""
        responses = self.responses()
        return [
            reverberate(signal, response) if signal.any() else np.zeros_like(signal)
            for signal, response in zip(dry, responses, strict=True)
        ]

    def responses(self) -> list[np.ndarray]:
        """Compute the responses without the direct path: time 0 is its arrival and 1.0 its amplitude."""
        simulator = _simulator()
        absorption, max_order = simulator.inverse_sabine(self.rt60_s, self.size_m)
        whole = self._simulate(simulator.Material(absorption), max_order)
        direct = self._simulate(simulator.Material(absorption), 0)
        return [_without_direct(full, alone) for full, alone in zip(whole, direct, strict=True)]

    def _simulate(self, material: Any, max_order: int) -> list[np.ndarray]:
        room = _simulator().ShoeBox(self.size_m, fs=self.sample_rate, materials=material, max_order=max_order)
        for source_m in self.sources_m:
            room.add_source(source_m)
        room.add_microphone(self.microphone_m)
        room.compute_rir()
        return list(room.rir[0])


def draw_shoebox(
    rt60_range_s: tuple[float, float], distance_range_m: tuple[float, float], sample_rate: int, rng: np.random.Generator
) -> Shoebox:
    """Draw a room that can have the drawn RT60, a microphone, and three sources in the range of distances to it."""
    rt60_s = rng.uniform(*rt60_range_s)
    size_m = np.array([rng.uniform(*edge) for edge in _SIZE_M])
    while _absorption(size_m, rt60_s) > 0.95:
        size_m = 0.9 * size_m
    microphone_m = size_m / 2.0 + rng.uniform(-0.25, 0.25, size=3) * (size_m - 2.0 * _WALL_M)
    sources_m = np.stack([_place(size_m, microphone_m, distance_range_m, sample_rate, rng) for _ in range(3)])
    return Shoebox(size_m, rt60_s, microphone_m, sources_m, sample_rate)


def _place(
    size_m: np.ndarray,
    microphone_m: np.ndarray,
    distance_range_m: tuple[float, float],
    sample_rate: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """A position whose distance is a whole number of samples, so that the direct path is a single impulse."""
    metres_per_sample = _simulator().constants.get("c") / sample_rate
    while True:
        direction = rng.normal(size=3) * np.array([1.0, 1.0, 0.4])
        n_samples = round(rng.uniform(*distance_range_m) / metres_per_sample)
        source_m = microphone_m + n_samples * metres_per_sample * direction / np.linalg.norm(direction)
        if (source_m > _WALL_M).all() and (source_m < size_m - _WALL_M).all():
            return source_m


def _absorption(size_m: np.ndarray, rt60_s: float) -> float:
    """Mean absorption by Sabine's formula, 24 ln(10) V / (c S RT60)."""
    surface = 2.0 * (size_m[0] * size_m[1] + size_m[1] * size_m[2] + size_m[0] * size_m[2])
    speed = _simulator().constants.get("c")
    return float(24.0 * np.log(10.0) * size_m.prod() / (speed * surface * rt60_s))


def _mirrored(source_m: np.ndarray, axis: int, wall_m: float) -> np.ndarray:
    image = source_m.copy()
    image[axis] = 2.0 * wall_m - image[axis]
    return image


def _without_direct(whole: np.ndarray, direct: np.ndarray) -> np.ndarray:
    arrival = int(np.argmax(np.abs(direct)))
    wet = whole.astype(np.float64)
    wet[: len(direct)] -= direct[: len(wet)]
    return wet[arrival:] / direct[arrival]


def _simulator() -> Any:
    try:
        import pyroomacoustics
    except ImportError as error:
        raise ImportError(
            "room simulation needs pyroomacoustics: pip install 'hydraudio[sim]', or choose --room synthetic"
        ) from error
    # one thread, so that the order of summation and with it every bit is the same on every machine
    pyroomacoustics.constants.set("num_threads", 1)
    return pyroomacoustics
