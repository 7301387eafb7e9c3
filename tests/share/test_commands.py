"""The commands of sharing answer mistakes in words, and the process that loads a copy has no network."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow


def test_the_clean_process_has_no_network_and_says_what_is_wrong(hub, repository, tmp_path):
    from hydraudio.share.probe import probe_in_clean_process

    address = ("127.0.0.1", hub.server_port)
    code = f"import hydraudio.share.probe as p, socket; p.forbid_network(); socket.create_connection({address})"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository / "src", capture_output=True, text=True)
    assert "may not use the network" in result.stderr
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="not a model that Hydraudio wrote"):
        probe_in_clean_process(tmp_path)


def test_mistakes_on_the_command_line_are_answered_in_words(command, tmp_path):
    missing = command("scripts/share/push_to_hub.py", "none.ckpt", "--dry-run", "--output", "x", check=False)
    assert missing.returncode == 1
    assert "no such checkpoint" in missing.stderr
    nowhere = command("scripts/share/push_to_hub.py", "none.ckpt", check=False)
    assert nowhere.returncode == 2
    assert "--repo" in nowhere.stderr
