"""What a run was made with: versions, revision, hardware, command."""

from __future__ import annotations

import functools
import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

PACKAGE = "hydraudio"


@functools.cache
def git_revision() -> str:
    """Commit of the project, with ``+changes`` when it is not clean; else ``unknown``."""
    folder = Path(os.environ.get("PROJECT_ROOT") or Path(__file__).parent)
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

    from hydraudio.core.products import measured

    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    lines = {
        "command": " ".join(sys.argv),
        "git revision": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads",
        "products of float32": str(measured()),
        "CUDA devices": ", ".join(devices) or "none",
        **{name: _version(name) for name in _requirements()},
    }
    return "".join(f"{key}: {value}\n" for key, value in lines.items())


def _requirements() -> list[str]:
    """Names of the packages that ours is declared to need, with all its extras, in that order."""
    try:
        declared = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:  # run from a folder, without having been installed
        return []
    found = [re.match(r"[\w.-]+", text) for text in declared]
    return list(dict.fromkeys(name[0] for name in found if name is not None))


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
