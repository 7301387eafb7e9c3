"""The process pool for PESQ and STOI: values of the packages, order, cache, failures, crashes."""

import logging
import math
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from pesq import pesq
from pystoi import stoi

from hydraudio.tasks.separation.metrics import perceptual
from hydraudio.tasks.separation.metrics import worker as perceptual_worker
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer


def item(seed: int, sample_rate: int = 8000, duration_s: float = 1.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixture (time,), estimate (2, time), target (2, time) float32: noise bursts at syllable rate."""
    rng = np.random.default_rng(seed)
    n_samples = int(duration_s * sample_rate)
    seconds = np.arange(n_samples) / sample_rate
    envelope = np.abs(np.sin(np.pi * np.array([[3.1], [4.3]]) * seconds))
    target = 0.1 * envelope * rng.standard_normal((2, n_samples))
    estimate = target + 0.02 * rng.standard_normal((2, n_samples))
    mixture = target.sum(0) + 0.05 * rng.standard_normal(n_samples)
    return mixture.astype(np.float32), estimate.astype(np.float32), target.astype(np.float32)


def score(metrics: tuple[str, ...] = ("pesq", "stoi"), **kwargs) -> tuple[dict, int]:
    """Scores and cache hits of three mixtures."""
    with PerceptualScorer(8000, n_processes=1, metrics=metrics, **kwargs) as scorer:
        for seed in range(3):
            mixture, _, target = item(seed)
            scorer.submit(str(seed), "mixture", mixture, target)
        return scorer.collect(), scorer.n_cache_hits


@pytest.mark.parametrize(("sample_rate", "mode"), [(8000, "nb"), (16000, "wb")])
def test_values_are_those_of_the_packages(sample_rate, mode):
    mixture, estimate, target = item(0, sample_rate)
    length = int(1.1 * sample_rate)
    with PerceptualScorer(sample_rate, n_processes=1, metrics=("pesq", "stoi", "estoi")) as scorer:
        scorer.submit("a", "estimate", estimate, target, length)
        scorer.submit("a", "mixture", mixture, target)
        scores = scorer.collect()
    for role, signals, n in (("estimate", estimate, length), ("mixture", [mixture] * 2, len(mixture))):
        pairs = [(s[:n], e[:n]) for s, e in zip(target, signals, strict=True)]
        extended = [stoi(s, e, sample_rate, extended=True) for s, e in pairs]  # pystoi adds random rounding noise
        assert scores["a", role].pop("estoi") == pytest.approx(extended, abs=1e-9)
        assert scores["a", role] == {
            "pesq": [pesq(sample_rate, s, e, mode) for s, e in pairs],
            "stoi": [stoi(s, e, sample_rate) for s, e in pairs],
            "errors": [],
        }


def test_results_come_in_the_order_of_submission_with_progress():
    steps = []
    with PerceptualScorer(8000, n_processes=2, metrics=("stoi",)) as scorer:
        for seed in range(12):
            _, estimate, target = item(seed, duration_s=3.0 if seed % 3 == 0 else 0.6)
            scorer.submit(str(seed), "estimate", estimate, target)
        scores = scorer.collect(lambda n_done, n_total: steps.append((n_done, n_total)))
        assert scorer.collect() == {}
    assert [key[0] for key in scores] == [str(seed) for seed in range(12)]
    for seed in (0, 1, 11):
        _, estimate, target = item(seed, duration_s=3.0 if seed % 3 == 0 else 0.6)
        assert scores[str(seed), "estimate"]["stoi"][1] == stoi(target[1], estimate[1], 8000)
    assert steps == sorted(steps)
    assert steps[-1] == (12, 12)


def test_queue_is_bounded():
    with PerceptualScorer(8000, n_processes=1, metrics=("stoi",)) as scorer:
        for seed in range(9):
            mixture, _, target = item(0)
            scorer.submit(str(seed), "mixture", mixture, target)
            assert len(scorer._pending) <= 5
        assert len(scorer.collect()) == 9
        process = scorer._workers[0]._process
    assert process.returncode is not None


@pytest.mark.slow
def test_mixtures_are_scored_once_per_corpus(tmp_path):
    first, n_hits = score(cache_dir=tmp_path, cache_key="corpus")
    assert n_hits == 0
    second, n_hits = score(cache_dir=tmp_path, cache_key="corpus")
    assert n_hits == 3
    assert second == first
    assert list(second) == list(first)
    assert score(cache_dir=tmp_path, cache_key="another corpus")[1] == 0
    assert score(metrics=("stoi",), cache_dir=tmp_path, cache_key="corpus")[1] == 0
    assert len(list(tmp_path.rglob("*.sqlite"))) == 3


@pytest.mark.slow
def test_changed_signal_is_scored_again(tmp_path):
    score(cache_dir=tmp_path)
    mixture, _, target = item(0)
    mixture[0] += 1e-3
    with PerceptualScorer(8000, n_processes=1, cache_dir=tmp_path) as scorer:
        scorer.submit("0", "mixture", mixture, target)
        assert scorer.n_cache_hits == 0
        assert scorer.collect()["0", "mixture"]["errors"] == []


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["overwritten", "page", "row"])
def test_corrupt_cache_is_set_aside_and_rebuilt(tmp_path, caplog, damage):
    first, _ = score(cache_dir=tmp_path)
    (path,) = tmp_path.rglob("*.sqlite")
    content = bytearray(path.read_bytes())
    if damage == "overwritten":
        content = bytearray(b"not a database " * 100)
    elif damage == "page":
        content[4096:8192] = b"\xff" * 4096
    else:
        content = content.replace(b'{"pesq"', b'{!pesq"')
    path.write_bytes(content)
    with caplog.at_level(logging.WARNING):
        second, n_hits = score(cache_dir=tmp_path)
    assert n_hits == 0
    assert second == first
    assert str(path) in caplog.text
    assert "starting anew" in caplog.text
    assert path.with_suffix(".corrupt").exists()
    assert score(cache_dir=tmp_path)[1] == 3


def test_unscorable_items_are_listed_with_their_reason(tmp_path):
    mixture, estimate, target = item(0)
    broken = estimate.copy()
    broken[0, 5] = np.nan
    one_silent = target.copy()
    one_silent[1] = 0
    for n_hits in (0, 1):  # the second time the mixture and its failure come from the cache
        with PerceptualScorer(8000, n_processes=1, cache_dir=tmp_path) as scorer:
            scorer.submit("good", "estimate", estimate, target)
            scorer.submit("short", "estimate", estimate, target, length=1500)
            scorer.submit("nan", "estimate", broken, target)
            scorer.submit("silent target", "mixture", mixture, one_silent)
            scorer.submit("silent estimate", "estimate", 0 * estimate, target)
            scores = scorer.collect()
            assert scorer.n_cache_hits == n_hits
        failures = [(*key, error) for key, item in scores.items() for error in item["errors"]]
        assert [(item_id, role) for item_id, role, _ in failures] == [
            *[("short", "estimate")] * 4,
            *[("nan", "estimate")] * 2,
            *[("silent target", "mixture")] * 2,
            *[("silent estimate", "estimate")] * 2,
        ]
        reasons = [reason for _, _, reason in failures]
        assert "BufferTooShortError: Buffer needs to be at least 1/4 of a second long" in reasons[0]
        assert "RuntimeWarning: Not enough STFT frames" in reasons[2]
        assert "holds NaN" in reasons[4]
        assert reasons[6] == "pesq of source 1: the target is silent"
        assert "the signal is silent" in reasons[8]
        assert math.isnan(scores["nan", "estimate"]["pesq"][0])
        assert scores["nan", "estimate"]["pesq"][1] > 1
        assert scores["silent estimate", "estimate"]["stoi"] == [0.0, 0.0]


@pytest.mark.slow
def test_killed_worker_is_replaced():
    _, estimate, target = item(0)
    with PerceptualScorer(8000, n_processes=1) as scorer:
        scorer.submit("0", "estimate", estimate, target)
        first = scorer.collect()
        process = scorer._workers[0]._process
        process.kill()
        process.wait()
        scorer.submit("0", "estimate", estimate, target)
        assert scorer.collect() == first


def fake_worker(monkeypatch, tmp_path: Path, code: str) -> None:
    path = tmp_path / "fake_worker.py"
    path.write_text("import os, pickle, sys\n" + code)
    monkeypatch.setattr(perceptual_worker, "__file__", str(path))


def test_item_that_kills_its_worker_becomes_a_failure_and_is_not_cached(monkeypatch, tmp_path):
    ready = "pickle.dump(0, sys.stdout.buffer); sys.stdout.flush(); pickle.load(sys.stdin.buffer); os._exit(3)"
    fake_worker(monkeypatch, tmp_path, ready)
    mixture, _, target = item(0)
    for _ in range(2):
        with PerceptualScorer(8000, n_processes=1, cache_dir=tmp_path) as scorer:
            scorer.submit("0", "mixture", mixture, target)
            scores = scorer.collect()
            assert scorer.n_cache_hits == 0
        assert scores["0", "mixture"]["errors"] == [
            "pesq: the scoring process died with status 3",
            "stoi: the scoring process died with status 3",
        ]
        assert all(math.isnan(value) for value in scores["0", "mixture"]["pesq"])


def test_worker_that_cannot_start_stops_the_evaluation(monkeypatch, tmp_path):
    fake_worker(monkeypatch, tmp_path, "sys.exit(7)")
    mixture, _, target = item(0)
    with PerceptualScorer(8000, n_processes=1) as scorer:
        scorer.submit("0", "mixture", mixture, target)
        with pytest.raises(RuntimeError, match="status 7 before its first item"):
            scorer.collect()


def is_running(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state != "" and not state.startswith("Z")


def test_leaving_the_context_ends_the_workers():
    mixture, _, target = item(0, duration_s=10)
    with pytest.raises(KeyboardInterrupt), PerceptualScorer(8000, n_processes=1) as scorer:  # noqa: PT012
        for i in range(3):
            scorer.submit(str(i), "mixture", mixture, target)
        while scorer._workers[0]._process is None:
            time.sleep(0.01)
        pid = scorer._workers[0]._process.pid
        raise KeyboardInterrupt
    assert not is_running(pid)


KILLED_PARENT = """
import sys
import numpy as np
from hydraudio.tasks.separation.metrics.perceptual import PerceptualScorer
rng = np.random.default_rng(0)
target = rng.standard_normal((1, 8000)).astype("f")
scorer = PerceptualScorer(8000, 1, cache_dir=sys.argv[1])
for i in range(100000):
    scorer.submit(str(i), "mixture", target[0] + i, target)
    if i == 20:
        print(scorer._workers[0]._process.pid, flush=True)
"""


@pytest.mark.slow
def test_kill_9_of_the_parent_ends_the_worker_and_keeps_the_cache(tmp_path):
    command = [sys.executable, "-c", KILLED_PARENT, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        worker = int(parent.stdout.readline())
        assert is_running(worker)
        parent.kill()
    deadline = time.monotonic() + 20
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker)
    target = np.random.default_rng(0).standard_normal((1, 8000)).astype("f")
    with PerceptualScorer(8000, 1, cache_dir=tmp_path) as scorer:
        for i in range(10):
            scorer.submit(str(i), "mixture", target[0] + i, target)
        assert scorer.n_cache_hits == 10


def test_worker_file_imports_neither_torch_nor_the_package():
    code = (
        "import importlib.util, sys\n"
        f"spec = importlib.util.spec_from_file_location('worker', {perceptual_worker.__file__!r})\n"
        "worker = importlib.util.module_from_spec(spec); spec.loader.exec_module(worker)\n"
        "import pesq, pystoi\n"
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'hydraudio', 'lightning'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_user_errors_name_value_and_remedy(monkeypatch):
    with pytest.raises(ValueError, match="44100 Hz; resample"):
        PerceptualScorer(44100)
    with pytest.raises(ValueError, match=r"\['sdr'\]; choose from"):
        PerceptualScorer(8000, metrics=("sdr",))
    with pytest.raises(ValueError, match="n_processes is 0"):
        PerceptualScorer(8000, n_processes=0)
    with PerceptualScorer(44100, n_processes=1, metrics=("stoi",)) as scorer:
        mixture, estimate, target = item(0)
        with pytest.raises(ValueError, match=r"'a': signal \(1, 100\) does not fit"):
            scorer.submit("a", "mixture", mixture[:100], target)
        with pytest.raises(ValueError, match="length 0 is not within"):
            scorer.submit("a", "mixture", mixture, target, length=0)
        scorer.submit("a", "estimate", estimate, target)
        with pytest.raises(ValueError, match="'a' was submitted twice"):
            scorer.submit("a", "estimate", estimate, target)
    monkeypatch.setattr(perceptual.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"hydraudio\[metrics\]"):
        PerceptualScorer(8000)
