"""The stand-in for torchaudio's compiled part, in a fresh interpreter each: imports cannot be undone."""

import importlib.util
import subprocess
import sys

import pytest
import torch

on_cpu_build = pytest.mark.skipif(torch.version.cuda is not None, reason="torch has CUDA: nothing to stand in for")
needs_torchaudio = pytest.mark.skipif(
    importlib.util.find_spec("torchaudio") is None, reason="torchaudio is not installed (extra `torchaudio`)"
)
INSTALL = "from hydraudio.core.torchaudio_standin import install_torchaudio_standin as install\n"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", INSTALL + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@on_cpu_build
@needs_torchaudio
def test_torchaudio_imports_and_its_python_part_works() -> None:
    code = (
        "print(install(), install())\n"
        "import torch, torchaudio\n"
        "print(torchaudio.transforms.MelSpectrogram(8000, n_fft=256, n_mels=20)(torch.ones(800)).shape[0])\n"
        "try: torchaudio.functional.forced_align(torch.zeros(1, 2, 3), torch.ones(1, 1))\n"
        "except RuntimeError as error: print(error)"
    )
    lines = run(code).splitlines()
    assert lines[:2] == ["True False", "20"]
    assert "forced_align needs torchaudio's compiled part" in lines[2]


def test_nothing_happens_with_cuda() -> None:
    code = "import sys, torch\ntorch.version.cuda = '13.0'\nprint(install(), 'torchaudio._extension' in sys.modules)"
    assert run(code) == "False False"


def test_nothing_happens_on_import() -> None:
    assert run("import sys\nprint('torchaudio._extension' in sys.modules)") == "False"
