"""A report that cannot be computed is refused before the training and before torch is imported."""

import subprocess
import sys

import pytest

CODE = """
import runpy, sys
sys.modules |= dict.fromkeys(sys.argv.pop().split(","))  # as if they were not installed
sys.argv[0] = "src/train.py"
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    assert not {"torch", "lightning"} & set(sys.modules)
"""


@pytest.mark.parametrize(
    ("asked", "absent", "said"),
    [
        ("full", "pesq,pystoi", "PESQ and STOI cannot be computed without pesq and pystoi: pip install"),
        ("[si_sdr,stoi]", "pesq,pystoi", "STOI cannot be computed without pystoi: pip install"),
        ("full", "pesq", "PESQ cannot be computed without pesq: pip install"),
    ],
)
def test_a_sentence_before_torch(repository, asked, absent, said):
    given = ["experiment=separation/polsess_quick", f"report.metrics={asked}", absent]
    done = subprocess.run([sys.executable, "-c", CODE, *given], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("Configuration error:\ncommand line: report.metrics: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 2
