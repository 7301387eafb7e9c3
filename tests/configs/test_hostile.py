"""Hostile configurations: each tries to run a command, through another door, and none may succeed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GLOBAL = "# @package _global_\n"

HOSTILE = {
    "plain_target": "callbacks:\n  x:\n    _target_: os.system\n    command: COMMAND\n",
    "nested_target": "model:\n  net:\n    norm:\n      _target_: subprocess.getoutput\n      cmd: COMMAND\n",
    "partial_target": "model:\n  optimizer:\n    _target_: os.system\n    _partial_: true\n    command: COMMAND\n",
    "target_in_a_list": "tags:\n  - _target_: os.system\n    command: COMMAND\n",
    "builtin": "callbacks:\n  x:\n    _target_: builtins.eval\n    _args_: [\"__import__('os').system('COMMAND')\"]\n",
    "interpolated_target": "name: os.system\ncallbacks:\n  x:\n    _target_: ${name}\n    command: COMMAND\n",
    "created_target": "callbacks:\n  x: ${oc.create:'{_target_: os.system, command: COMMAND}'}\n",
    "created_after_the_data": (
        "callbacks:\n  x: ${oc.create:'{_target_: os.system, command: COMMAND ${data_attribute:n_sources}}'}\n"
    ),
    "default_after_the_data": (
        "callbacks:\n  x: ${oc.select:nothing,{_target_:os.system,command:${data_attribute:n_sources}}}\n"
    ),
    "through_our_module": "callbacks:\n  x:\n    _target_: hydraudio.run.sys.modules.os.system\n    command: COMMAND\n",
    "through_our_imports": "callbacks:\n  x:\n    _target_: hydra_preflight.launch.os.system\n    command: COMMAND\n",
    "through_torch": "callbacks:\n  x:\n    _target_: torch.nn.modules.module.os.system\n    command: COMMAND\n",
    "method_of_torch": "callbacks:\n  x:\n    _target_: torch.nn.Module.load_state_dict\n",
    "torch_load": "callbacks:\n  x:\n    _target_: torch.optim.optimizer.torch.load\n    f: x.pt\n",
    "hydra_helper": "callbacks:\n  x:\n    _target_: hydra.utils.get_method\n    path: os.system\n",
    "trusts_itself": (
        "extras:\n  trusted_targets: [subprocess]\ncallbacks:\n"
        "  x:\n    _target_: subprocess.getoutput\n    cmd: COMMAND\n"
    ),
    "trusts_a_package": (
        "extras:\n  trusted_targets: [joblib]\ncallbacks:\n  x:\n    _target_: joblib.load\n    filename: x\n"
    ),
    "hydra_callback": "hydra:\n  callbacks:\n    x:\n      _target_: os.system\n      command: COMMAND\n",
    "hydra_callback_through_us": (
        "hydra:\n  callbacks:\n    x:\n      _target_: hydra_preflight.launch.os.system\n      command: COMMAND\n"
    ),
    "log_formatter": (
        "hydra:\n  job_logging:\n    formatters:\n      x:\n        (): os.system\n        command: COMMAND\n"
    ),
    "log_handler": (
        "hydra:\n  hydra_logging:\n    handlers:\n"
        "      console:\n        class: logging.os.system\n        command: COMMAND\n"
    ),
    "log_import": "hydra:\n  job_logging:\n    handlers:\n      file:\n        filename: ext://antigravity.x\n",
    "launcher": "hydra:\n  launcher:\n    _target_: os.system\n",
    "preload": "hydra:\n  job:\n    env_set:\n      LD_PRELOAD: /nowhere.so\n",
}
SWEEPS = {
    "sampler": "hydra:\n  sweeper:\n    sampler:\n      _target_: os.system\n",
    "search_space": "hydra:\n  sweeper:\n    custom_search_space: os.system\n",
}


def attack(tmp_path: Path, text: str, *flags: str) -> tuple[subprocess.CompletedProcess[str], Path]:
    trace = tmp_path / "executed"
    folder = tmp_path / "conf/experiment"
    folder.mkdir(parents=True)
    (folder / "hostile.yaml").write_text(GLOBAL + text.replace("COMMAND", f"touch {trace}"))
    command = [sys.executable, str(ROOT / "src/train.py"), "--config-dir", str(tmp_path / "conf"), *flags]
    command += ["experiment=hostile", f"paths.log_dir={tmp_path / 'logs'}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    return answer, trace


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_experiment_is_refused(tmp_path: Path, name: str) -> None:
    answer, trace = attack(tmp_path, HOSTILE[name])
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert answer.stderr.startswith("Configuration error:\n") or "\nConfiguration error:\n" in answer.stderr
    assert "Traceback" not in answer.stderr
    assert not trace.exists()


@pytest.mark.parametrize("name", SWEEPS)
def test_hostile_sweep_is_refused(tmp_path: Path, name: str) -> None:
    defaults = "defaults:\n  - override /hydra/sweeper: optuna\n"
    answer, trace = attack(tmp_path, defaults + SWEEPS[name], "-m")
    assert answer.returncode == 1
    assert "may not be" in answer.stderr
    assert not trace.exists()


def test_the_trace_would_show(tmp_path: Path) -> None:
    """The command of the attacks works when something does run it."""
    trace = tmp_path / "executed"
    subprocess.run(f"touch {trace}", shell=True, check=True)
    assert trace.exists()
