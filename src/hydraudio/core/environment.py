"""What a run was made with: versions, revision, hardware, command."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGES = (
    "torch",
    "lightning",
    "hydra-core",
    "torchmetrics",
    "numpy",
    "scipy",
    "soundfile",
    "pesq",
    "pystoi",
)


@functools.cache
def git_revision() -> str:
    """Commit of the checkout that this package lies in, with ``+changes`` when it is not clean; else ``unknown``."""
    folder = Path(__file__).parent
    try:
        commit = _git("rev-parse", "HEAD", cwd=folder)
        return commit + ("+changes" if _git("status", "--porcelain", cwd=folder) else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str, cwd: Path) -> str:
    command = ["git", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def environment_report() -> str:
    """Describe software, hardware and command as lines of ``name: value``."""
    import torch

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines = {
        "command": " ".join(sys.argv),
        "git revision": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "CUDA devices": ", ".join(devices) or "none",
        **{name: _version(name) for name in PACKAGES},
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
