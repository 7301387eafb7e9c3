"""Time of PESQ and STOI: process pool against a plain loop, and what the cached mixture side saves.

Also times permutation-invariant SI-SDR, forward and backward: our search on the Gram matrix against torchmetrics'.

The items are speech-like: two voices with gliding fundamental, moving formants, syllables and pauses, in noise. The
arms take turns within a run and start their workers anew each time; medians and ratios are printed.

    python scripts/separation/benchmark_evaluation.py
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable

import numpy as np
import scipy.signal
import torch
from pesq import pesq
from pystoi import stoi
from torchmetrics.functional.audio import (
    permutation_invariant_training,
    scale_invariant_signal_distortion_ratio,
)

from hydraudio.losses.permutation import PermutationInvariant
from hydraudio.losses.sdr import SISDRLoss
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer
from hydraudio.tasks.separation.metrics.worker import PESQ_MODES

Item = tuple[np.ndarray, np.ndarray, np.ndarray]


def voice(rng: np.random.Generator, n_samples: int, sample_rate_hz: int) -> np.ndarray:
    """(time,) pulse train through changing resonances, in syllables of 0.1 to 0.35 s with some pauses."""
    parts, state = [], 0.0
    pitch_hz = rng.uniform(90, 220)
    while sum(map(len, parts)) < n_samples:
        n = int(rng.uniform(0.1, 0.35) * sample_rate_hz)
        glide = pitch_hz * np.linspace(rng.uniform(0.85, 1.15), rng.uniform(0.85, 1.15), n)
        phase = state + np.cumsum(glide) / sample_rate_hz
        source = np.diff(np.floor(phase), prepend=np.floor(state)) + 0.02 * rng.standard_normal(n)
        for formant_hz in rng.uniform((250, 800, 2000), (800, 2200, 3200)):
            radius = np.exp(-np.pi * 90 / sample_rate_hz)
            angle = 2 * np.pi * formant_hz / sample_rate_hz
            source = scipy.signal.lfilter([1 - radius], [1, -2 * radius * np.cos(angle), radius**2], source)
        parts.append(source * np.hanning(n) * (rng.random() > 0.2) / (np.abs(source).max() + 1e-9))
        state = phase[-1]
    return 0.3 * np.concatenate(parts)[:n_samples]


def make_item(seed: int, duration_s: float, sample_rate_hz: int) -> Item:
    """Mixture (time,), estimate (2, time) and target (2, time), float32."""
    rng = np.random.default_rng(seed)
    n_samples = int(duration_s * sample_rate_hz)
    target = np.stack([voice(rng, n_samples, sample_rate_hz) for _ in range(2)])
    mixture = target.sum(0) + 0.02 * rng.standard_normal(n_samples)
    estimate = target + 0.15 * target[::-1] + 0.005 * rng.standard_normal((2, n_samples))
    return mixture.astype(np.float32), estimate.astype(np.float32), target.astype(np.float32)


def sequential(items: list[Item], sample_rate_hz: int) -> list[float]:
    scores = []
    for mixture, estimate, target in items:
        for signals in (estimate, np.stack([mixture, mixture])):
            for reference, signal in zip(target, signals, strict=True):
                scores.append(float(pesq(sample_rate_hz, reference, signal, PESQ_MODES[sample_rate_hz])))
                scores.append(float(stoi(reference, signal, sample_rate_hz)))
    return scores


def pooled(items: list[Item], sample_rate_hz: int, n_processes: int, cache_dir: str | None) -> list[float]:
    with PerceptualScorer(sample_rate_hz, n_processes, cache_dir, "benchmark") as scorer:
        for index, (mixture, estimate, target) in enumerate(items):
            scorer.submit(str(index), "estimate", estimate, target)
            scorer.submit(str(index), "mixture", mixture, target)
        scores = scorer.collect()
    return [
        value for item in scores.values() for pair in zip(item["pesq"], item["stoi"], strict=True) for value in pair
    ]


def timed(function: Callable[[], object]) -> tuple[float, object]:
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def benchmark_scoring(args: argparse.Namespace) -> None:
    items = [make_item(seed, args.duration_s, args.sample_rate) for seed in range(args.n_items)]
    times: dict[str, list[float]] = {"sequential": [], "pool": [], "pool, mixtures cached": []}
    with tempfile.TemporaryDirectory() as cache_dir:
        pooled(items, args.sample_rate, args.n_processes, cache_dir)
        for _ in range(args.n_repeats):
            arms: list[tuple[str, Callable[[], list[float]]]] = [
                ("sequential", lambda: sequential(items, args.sample_rate)),
                ("pool", lambda: pooled(items, args.sample_rate, args.n_processes, None)),
                (
                    "pool, mixtures cached",
                    lambda: pooled(items, args.sample_rate, args.n_processes, cache_dir),
                ),
            ]
            results = []
            for name, arm in arms:
                seconds, scores = timed(arm)
                times[name].append(seconds)
                results.append(scores)
            # pystoi's sums depend on the number of BLAS threads in the last digit
            if not all(np.allclose(results[0], other, rtol=1e-9, atol=0) for other in results[1:]):
                raise RuntimeError("the arms disagree in their scores")
    median = {name: statistics.median(values) for name, values in times.items()}
    print(
        f"PESQ and STOI of {args.n_items} items of 2 talkers, {args.duration_s} s at {args.sample_rate} Hz, estimate "
        f"and mixture, {args.n_processes} processes, start included; median of {args.n_repeats}"
    )
    for name, seconds in median.items():
        spread = f"{min(times[name]):.2f} ... {max(times[name]):.2f}"
        print(f"  {name:24s}{seconds:8.2f} s ({spread})  {median['sequential'] / seconds:6.2f} x sequential")
    saved = 1 - median["pool, mixtures cached"] / median["pool"]
    print(f"  the cached mixtures save {100 * saved:.0f} % of the pool's time")


def benchmark_permutations(args: argparse.Namespace) -> None:
    n_samples = int(args.duration_s * args.sample_rate)
    print(f"Permutation-invariant SI-SDR, forward and backward, batch 16, {n_samples} samples; median of 7")
    for n_sources in (2, 3, 5):
        target = torch.randn(16, n_sources, n_samples)
        estimate = (target.flip(1) + torch.randn_like(target)).requires_grad_()
        ours = PermutationInvariant(SISDRLoss())

        def gram(ours=ours, estimate=estimate, target=target) -> torch.Tensor:
            return ours(estimate, target)[0].mean()

        def naive(estimate=estimate, target=target) -> torch.Tensor:
            metric = scale_invariant_signal_distortion_ratio
            return -permutation_invariant_training(estimate, target, metric, eval_func="max")[0].mean()

        seconds: dict[str, list[float]] = {"gram": [], "naive": []}
        for repeat in range(8):
            for name, loss in (("gram", gram), ("naive", naive)):
                estimate.grad = None
                duration, _ = timed(lambda loss=loss: loss().backward())
                if repeat > 0:
                    seconds[name].append(duration)
        fast, slow = (1000 * statistics.median(seconds[name]) for name in ("gram", "naive"))
        print(f"  {n_sources} sources: {fast:7.1f} ms, torchmetrics {slow:7.1f} ms, ratio {slow / fast:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--n-items", type=int, default=160)
    parser.add_argument("--duration-s", type=float, default=4.0)
    parser.add_argument("--sample-rate", type=int, default=8000, choices=list(PESQ_MODES))
    parser.add_argument("--n-processes", type=int, default=2)
    parser.add_argument("--n-repeats", type=int, default=3)
    args = parser.parse_args()
    benchmark_scoring(args)
    benchmark_permutations(args)


if __name__ == "__main__":
    main()
