"""Fast synthetic reverberation: impulse responses without the direct path, so that dry + wet are added.

After a pre-delay come sparse early reflections, then a diffuse tail of Gaussian noise that decays
exponentially (Moorer 1979, Computer Music Journal 3(2)) and turns darker towards its end.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.fft


@dataclass(frozen=True)
class Room:
    """What all sources of a row share.

    Attributes:
        rt60_s: reverberation time.
        reverb_db: energy of the wet signal relative to the dry one.
        diffusion: 0 (few, separate early reflections) to 1 (dense).
        freq_damp: 0 to 1, how much darker the end of the tail is than its start.
        high_cut_hz: corner of the low-pass over the whole wet signal.
        pre_delays_s: of speaker 1, speaker 2 and the event.
    """

    rt60_s: float
    reverb_db: float
    diffusion: float
    freq_damp: float
    high_cut_hz: float
    pre_delays_s: tuple[float, float, float]


def draw_room(sample_rate: int, rng: np.random.Generator) -> Room:
    """Draw a room with RT60 0.25 to 0.8 s and a wet signal 12 to 5 dB below the dry one."""
    random_delay_s = rng.uniform(0.0, 0.02)
    delay1_s = 0.003 + random_delay_s
    # the second talker's pre-delay is the first one's less up to 30 % of its random part
    delay2_s = delay1_s - rng.uniform(0.0, 0.3) * random_delay_s
    return Room(
        rt60_s=rng.uniform(0.25, 0.8),
        reverb_db=rng.uniform(-12.0, -5.0),
        diffusion=rng.uniform(0.3, 0.9),
        freq_damp=rng.uniform(0.1, 0.6),
        high_cut_hz=rng.uniform(0.25, 0.45) * sample_rate,
        pre_delays_s=(delay1_s, delay2_s, 0.003 + rng.uniform(0.0, 0.03)),
    )


def impulse_response(room: Room, pre_delay_s: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a (time,) float64 wet response with unit energy; time 0 is the arrival of the (absent) direct sound."""
    n_tail = int(room.rt60_s * sample_rate)
    time_s = np.arange(n_tail) / sample_rate
    decay = 10.0 ** (-3.0 * time_s / room.rt60_s)
    onset = 1.0 - np.exp(-time_s / 0.015)
    tail = _darken(rng.standard_normal(n_tail), room, sample_rate) * decay * onset
    early_s = np.sort(rng.uniform(0.0, 0.05, size=4 + int(12 * room.diffusion)))
    position = np.minimum((early_s * sample_rate).astype(np.int64), n_tail - 1)
    gain = rng.choice([-1.0, 1.0], size=len(position)) * 10.0 ** (-3.0 * early_s / room.rt60_s)
    np.add.at(tail, position, 2.0 * gain * (1.0 - 0.5 * room.diffusion))
    response = np.concatenate([np.zeros(max(1, round(pre_delay_s * sample_rate))), tail])
    return response / np.sqrt(np.sum(np.square(response)))


def _darken(noise: np.ndarray, room: Room, sample_rate: int) -> np.ndarray:
    """Low-pass at high_cut_hz, blended over time into a version that freq_damp makes darker."""
    bright = _one_pole(noise, room.high_cut_hz, sample_rate)
    dark = _one_pole(bright, room.high_cut_hz * (1.0 - 0.9 * room.freq_damp), sample_rate)
    blend = np.linspace(0.0, 1.0, len(noise))
    return (1.0 - blend) * bright + blend * dark


def _one_pole(signal: np.ndarray, cutoff_hz: float, sample_rate: int) -> np.ndarray:
    frequency = scipy.fft.rfftfreq(len(signal), 1.0 / sample_rate)
    return scipy.fft.irfft(scipy.fft.rfft(signal) / (1.0 + 1j * frequency / cutoff_hz), len(signal))


def reverberate(dry: np.ndarray, response: np.ndarray) -> np.ndarray:
    """Compute the wet signal over the length of the dry one; (time,) float32."""
    n_fft = scipy.fft.next_fast_len(len(dry) + len(response) - 1, real=True)
    spectrum = scipy.fft.rfft(dry.astype(np.float32), n_fft) * scipy.fft.rfft(response.astype(np.float32), n_fft)
    return scipy.fft.irfft(spectrum, n_fft)[: len(dry)].astype(np.float32)


def wet_signals(
    room: Room, dry: tuple[np.ndarray, np.ndarray, np.ndarray], sample_rate: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """Compute the reverbs of speaker 1, speaker 2 and event, each with its own place (levels vary by 1.5 dB)."""
    wet = []
    for signal, pre_delay_s in zip(dry, room.pre_delays_s, strict=True):
        response = impulse_response(room, pre_delay_s, sample_rate, rng)
        gain = 10.0 ** ((room.reverb_db + rng.uniform(-1.5, 1.5)) / 20.0)
        wet.append(reverberate(signal, gain * response))
    return wet
