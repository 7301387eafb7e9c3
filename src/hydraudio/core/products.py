"""Which library of PyTorch computes float32 matrix products on a CPU.

PyTorch gives them to MKL, which takes its AVX-512 kernels on Intel processors alone, and gives them to oneDNN only
where less precision is allowed. Without AMX oneDNN makes no use of that permission, so that its error is float32's, and
on processors of other makes with AVX-512 units of full width its products are about twice as fast. The same permission
sends PyTorch's attention another way, which is slower. So what is measured, once per machine, is a layer with both.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from hydraudio.core.files import write_json

log = logging.getLogger(__name__)

_mkldnn: Any = torch.backends.mkldnn  # its submodules are declared nowhere

ROUTES = ("reference", "onednn")
SETTINGS = ("auto", *ROUTES)

MAX_ERROR = 1e-5
"""Of a product of float32, relative to its largest value; bfloat16 gives about 3e-3."""
MIN_SPEEDUP = 1.05
"""Below that, `auto` stays with PyTorch's own route."""

_N_FRAMES, _N_HEADS, _DIM, _FFN_DIM = 200, 12, 768, 3072  # of a layer of base size
_REPEATS = 5
_PERMISSION = {"reference": "ieee", "onednn": "bf16"}


@dataclass(frozen=True)
class Measured:
    """How the two routes compare on this machine.

    Attributes:
        speedup: time of the reference over that of oneDNN for a layer of a transformer, forward and backward, at the
            threads of the process.
        error: largest error of a product by oneDNN, relative to its largest value.
    """

    speedup: float
    error: float

    @property
    def is_exact(self) -> bool:
        """Say whether the error is that of float32."""
        return self.error <= MAX_ERROR

    @property
    def route(self) -> str:
        """What `auto` takes."""
        return "onednn" if self.is_exact and self.speedup >= MIN_SPEEDUP else "reference"

    def __str__(self) -> str:
        return (
            f"a layer by oneDNN has {self.speedup:.2f} times the speed of one by MKL, and an error of {self.error:.1e}"
        )


def route_in_use() -> str:
    """Return the one of `ROUTES` that this process takes."""
    return "onednn" if _mkldnn.matmul.fp32_precision == _PERMISSION["onednn"] else "reference"


def use_products(setting: str) -> str:
    """Take the route of a setting from now on, in the whole process, and return it.

    Args:
        setting: "reference" (as PyTorch does), "onednn", or "auto": the faster one whose error is that of float32.

    Raises:
        ValueError: there is no such setting, or this processor's oneDNN would round to bfloat16.
    """
    if setting not in SETTINGS:
        raise ValueError(f"products={setting} must be one of {', '.join(SETTINGS)}")
    route = measured().route if setting == "auto" else setting
    if setting == "onednn" and not measured().is_exact:
        raise ValueError(
            f"products=onednn: on this processor oneDNN rounds the factors (error {measured().error:.1e}); use "
            "products=reference, or trainer.precision=bf16-mixed if that is what you want"
        )
    _mkldnn.matmul.fp32_precision = _PERMISSION[route]
    return route


@functools.cache
def measured() -> Measured:
    """Compare the routes, or read what was measured on this machine with this PyTorch and number of threads.

    Raises:
        ValueError: the file that holds the measurements is damaged.
    """
    path = _cache_file()
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): delete it, and it will be measured again") from error
    if _key() not in known:
        known[_key()] = asdict(_measure())
        try:
            write_json(path, known)
        except OSError as error:
            log.info("%s cannot be written (%s): the next start measures matrix products again", path, error)
    return Measured(**known[_key()])


def _measure() -> Measured:
    if not _mkldnn.is_available():
        return Measured(speedup=0.0, error=0.0)
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(_N_FRAMES, _DIM, generator=numbers)
    weight = torch.randn(_FFN_DIM, _DIM, generator=numbers)
    exact = x.double() @ weight.double().T
    with _taking("onednn"):
        error = float((x @ weight.T - exact).abs().max() / exact.abs().max())
    seconds: dict[str, list[float]] = {route: [] for route in ROUTES}
    for _ in range(_REPEATS):  # in turn, so that whatever else runs on the machine meets both
        for route in ROUTES:
            with _taking(route):
                seconds[route].append(_seconds(x, weight))
    return Measured(speedup=min(seconds["reference"]) / min(seconds["onednn"]), error=error)


def _seconds(x: Tensor, weight: Tensor) -> float:
    """Time of an attention and a linear layer; of a single thread without the time that others had the processor."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    x, weight = x.clone().requires_grad_(), weight.clone().requires_grad_()
    start = clock()
    heads = x.view(1, len(x), _N_HEADS, -1).transpose(1, 2)
    mixed = F.scaled_dot_product_attention(heads, heads, heads).transpose(1, 2).reshape(len(x), -1)
    F.linear(mixed, weight).sum().backward()
    return clock() - start


@contextmanager
def _taking(route: str) -> Iterator[None]:
    before = _mkldnn.matmul.fp32_precision
    _mkldnn.matmul.fp32_precision = _PERMISSION[route]
    try:
        yield
    finally:
        _mkldnn.matmul.fp32_precision = before


def _cache_file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(folder).expanduser() / "hydraudio" / "products.json"


def _key() -> str:
    """What the measurement depends on."""
    n_threads = torch.get_num_threads()
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, {n_threads} threads"


def _processor() -> str:
    """Family, model and name of the processor where Linux tells them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n", maxsplit=1)[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.partition(":")[::2] for line in lines)
    found = {name.strip(): value.strip() for name, value in fields.items()}
    return ", ".join(found[name] for name in ("model name", "cpu family", "model", "stepping") if name in found)
