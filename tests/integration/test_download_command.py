"""scripts/data/download.py: what can be fetched, and what one must do where nothing can."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest
import yaml

CONFIGS = Path(__file__).parents[2] / "configs" / "data"
NAMES = sorted(f"{path.parent.name}/{path.stem}" for path in CONFIGS.glob("*/*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_every_corpus_says_where_it_comes_from(name):
    target = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"))["_target_"]
    module, _, kind = target.rpartition(".")
    source = getattr(import_module(module), kind).source
    assert bool(source.by_hand) != bool(source.archives and source.terms)
    for archive in source.archives:
        known = archive.known_hash or f"sha256:{archive.pointers_sha256}"
        assert re.fullmatch(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}", known)
        assert all(address.startswith("https://") for address in archive.addresses)


@pytest.mark.slow
def test_command(command):
    script = "scripts/data/download.py"
    assert all(f"data={name} " in command(script).stdout for name in NAMES)
    unknown = command(script, "data=no_such_corpus", check=False)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert "no_such_corpus: no such corpus; there are " in unknown.stderr
    by_hand = command(script, "data=musdb18", check=False)
    assert by_hand.returncode == 1
    assert "by hand" in by_hand.stderr
