"""Freed memory is kept: allocating the same again touches no new pages."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from hydraudio.core.cpu_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    blocks = [torch.zeros(10_000_000) for _ in range(2)]  # 40 MB each: by default always mapped one by one
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    command = [sys.executable, "-c", PROGRAM, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_repeated_allocation_touches_no_new_pages():
    # 20 x 80 MB in pages of 4 kB are 400,000; the heap may still grow by a block or three
    assert page_faults("keep") < page_faults("default") / 4
