"""Broken configurations through the real command: the answer names file, key, nearest valid key, without traceback."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
GLOBAL = "# @package _global_\n"
DEFAULTS = yaml.safe_load((ROOT / "configs" / "train.yaml").read_text())["defaults"]
TASK = next(entry["task"] for entry in DEFAULTS if isinstance(entry, dict) and "task" in entry)
"""The default task, and an option of its models."""
MODEL = min(path.stem for path in (ROOT / "configs" / "model" / TASK).glob("[!_]*.yaml"))


@dataclass
class Broken:
    """Files to write below an extra configuration folder, the command line, and what the answer must contain."""

    name: str
    arguments: list[str]
    expected: list[str]
    files: dict[str, str] = field(default_factory=dict)
    sweep: bool = False


def experiment(text: str) -> dict[str, str]:
    return {"experiment/broken.yaml": text}


CHOSEN = ["experiment=broken"]
BROKEN = [
    Broken("unknown_key", ["trainer.max_epoch=3"], ["command line", "trainer.max_epoch", "trainer.max_epochs."]),
    Broken("unknown_top_level_key", ["sede=3"], ["command line: sede", "Nearest valid key: seed."]),
    Broken("key_of_another_level", ["lr=0.1"], ["command line: lr", "Nearest valid key: model.optimizer.lr."]),
    Broken("unknown_added_key", ["+extras.print_confg=true"], ["extras.print_confg", "extras.print_config."]),
    Broken(
        "unknown_key_in_experiment",
        CHOSEN,
        ["experiment/broken.yaml:2: sede", "Nearest valid key: seed."],
        experiment(GLOBAL + "sede: 3\n"),
    ),
    Broken(
        "unknown_callback_in_experiment",
        CHOSEN,
        ["experiment/broken.yaml:3: callbacks.nan_gard", "Nearest valid key: callbacks.nan_guard."],
        experiment(GLOBAL + "callbacks:\n  nan_gard:\n    patience: 3\n"),
    ),
    Broken(
        "unknown_argument_of_our_class",
        CHOSEN,
        [
            "experiment/broken.yaml:4: callbacks.last_checkpoint.every_n_step",
            "LastCheckpoint has no argument",
            "callbacks.last_checkpoint.every_n_steps.",
        ],
        experiment(GLOBAL + "callbacks:\n  last_checkpoint:\n    every_n_step: 64\n"),
    ),
    Broken(
        "unknown_hydra_key",
        CHOSEN,
        ["experiment/broken.yaml:3: runn", "Nearest valid key: hydra.run."],
        experiment(GLOBAL + "hydra:\n  runn:\n    dir: x\n"),
    ),
    Broken(
        "unknown_option",
        [f"model={TASK}/{MODEL}x"],
        [f"command line: model: there is no option '{TASK}/{MODEL}x'", f"option: {TASK}/{MODEL}."],
    ),
    Broken("option_without_its_task", [f"model={MODEL}"], [f"no option '{MODEL}'", f"option: {TASK}/{MODEL}."]),
    Broken(
        "unknown_option_in_experiment",
        CHOSEN,
        ["experiment/broken.yaml:3: model", f"Nearest valid option: {TASK}/{MODEL}."],
        experiment(GLOBAL + f"defaults:\n  - override /model: {TASK}/{MODEL}x\n"),
    ),
    Broken(
        "unknown_group_in_experiment",
        CHOSEN,
        ["experiment/broken.yaml:3: override /modell", "model."],
        experiment(GLOBAL + f"defaults:\n  - override /modell: {TASK}/{MODEL}\n"),
    ),
    Broken("unknown_group", ["modell=x"], ["command line: modell: unknown key", "Nearest valid key: model."]),
    Broken("unknown_inner_group", ["model/schedule=x"], ["there is no such group", "group: model/scheduler."]),
    Broken("unknown_task", ["task=nothing"], ["command line: task: there is no option 'nothing'", TASK]),
    Broken("null_in_a_sweep", ["logger=null,csv"], ["logger: null cannot be one of several options"], sweep=True),
    *(
        Broken(f"without_{group}", [f"{group}=null"], [f"command line: {group}: a run needs an option"])
        for group in ("task", "data", "model", "trainer", "extras")
    ),
    Broken("null_of_no_group", ["experiment/x=null"], ["command line: experiment/x: there is no such group"]),
    Broken(
        "keys_of_a_group_that_is_left_out",
        [*CHOSEN, "callbacks=null"],
        ["experiment/broken.yaml:2: callbacks: the group callbacks is left out (null)"],
        experiment(GLOBAL + "callbacks:\n  nan_guard: null\n"),
    ),
    Broken("nothing_to_leave_out", ["~sede"], ["command line: ~sede: there is nothing of this name"]),
    Broken(
        "missing_value",
        CHOSEN,
        [
            "experiment/broken.yaml:5: callbacks.extra.config_file: a value is required here (???) (of the run).",
            "callbacks.extra.config_file=...",
        ],
        experiment(
            GLOBAL
            + "callbacks:\n  extra:\n    _target_: hydraudio.core.callbacks.checkpoint_contents.CheckpointContents\n"
            + "    config_file: ??? # of the run\n"
        ),
    ),
    Broken(
        "wrong_type_of_ours",
        ["callbacks.last_checkpoint.dirpath=3"],
        ["callbacks.last_checkpoint.dirpath: 3", "expected str"],
    ),
    Broken("wrong_type_of_default", ["seed=abc"], ["command line: seed: 'abc'", "expected int, got str"]),
    Broken(
        "wrong_type_of_a_mapping",
        CHOSEN,
        ["experiment/broken.yaml:2: trainer", "this key holds a mapping"],
        experiment(GLOBAL + "trainer: 3\n"),
    ),
    Broken(
        "missing_argument",
        CHOSEN,
        ["experiment/broken.yaml:3: callbacks.extra.config_file", "needs the argument 'config_file'"],
        experiment(
            GLOBAL
            + "callbacks:\n  extra:\n    _target_: hydraudio.core.callbacks.checkpoint_contents.CheckpointContents\n"
        ),
    ),
    Broken(
        "interpolation_without_key",
        CHOSEN,
        ["experiment/broken.yaml:2: name", "'sede'", "Nearest valid key: seed."],
        experiment(GLOBAL + "name: ${sede}\n"),
    ),
    Broken(
        "class_that_does_not_exist",
        CHOSEN,
        [
            "callbacks.nan_guard._target_",
            "no class or function 'NaNGard'",
            "hydraudio.core.callbacks.nan_guard.NaNGuard.",
        ],
        experiment(GLOBAL + "callbacks:\n  nan_guard:\n    _target_: hydraudio.core.callbacks.nan_guard.NaNGard\n"),
    ),
    Broken(
        "module_that_does_not_exist",
        ["callbacks.nan_guard._target_=hydraudio.core.callbacks.nan_gard.NaNGuard"],
        ["there is no module hydraudio.core.callbacks.nan_gard", "hydraudio.core.callbacks.nan_guard."],
    ),
    Broken(
        "floor_of_another_task",
        ["data._target_=hydraudio.tasks.other.corpus.Corpus"],
        [f"command line: data: an? {TASK} experiment cannot use the other corpus .* choose task=other, or an "],
    ),
    Broken("unknown_headline", ["task.monitor=val/lsos"], ["command line: task.monitor", "metric: val/loss."]),
    Broken("headline_without_stage", ["task.monitor=loss"], ["command line: task.monitor", "no metric 'loss'"]),
    Broken(
        "headline_the_wrong_way_round",
        ["task.monitor=val/loss", "task.mode=max"],
        ["command line: task.mode: max does not fit val/loss", "task.mode=min task.direction=minimize"],
    ),
    Broken(
        "search_the_wrong_way_round",
        ["hydra/sweeper=optuna_pruning", "optimized_metric=val/loss", "hydra.sweeper.direction=maximize", "seed=1,2"],
        ["command line: hydra.sweeper.direction: maximize does not fit val/loss", "hydra.sweeper.direction=minimize"],
        sweep=True,
    ),
    Broken("untrusted_specification", ["task.spec=antigravity.SPEC"], ["command line: task.spec", "trusted_targets"]),
    Broken("unknown_objective", ["optimized_metric=val/lsos"], ["optimized_metric: ", "metric: val/loss."]),
    Broken(
        "tabs",
        CHOSEN,
        ["experiment/broken.yaml:3: invalid YAML", "Indent with spaces, not with tabs."],
        experiment(GLOBAL + "trainer:\n\tmax_epochs: 3\n"),
    ),
    Broken(
        "forgotten_package",
        CHOSEN,
        ["experiment/broken.yaml:1: experiment", "# @package _global_", "Add that line at the top"],
        experiment("trainer:\n  max_epochs: 3\n"),
    ),
    Broken("second_option", ["+callbacks=ema"], ["+callbacks: an option", "callbacks=[default,OPTION]"]),
    Broken("syntax", ["seed=[1"], ["command line: seed=[1: Hydra does not take [ for text", "'seed=\"[1\"'"]),
    Broken("resume_without_a_run", ["ckpt_path=last"], ["there is no run to continue", "latest names none"]),
    Broken(
        "sweep_with_several_processes",
        ["trainer=ddp_sim", "seed=1,2"],
        ["trainer/ddp_sim.yaml", "trainer.devices", "each rank would run its own sweep", "trainer.devices=1"],
        sweep=True,
    ),
    Broken("second_value_of_a_sweep", ["seed=1,x"], ["command line: seed: 'x'", "expected int"], sweep=True),
    Broken(
        "unknown_key_in_search_space",
        ["hparams_search=broken"],
        ["hparams_search/broken.yaml:5: trainer.max_epoch", "Nearest valid key: trainer.max_epochs."],
        {
            "hparams_search/broken.yaml": GLOBAL
            + "hydra:\n  sweeper:\n    params:\n      trainer.max_epoch: choice(64,128)\n"
        },
        sweep=True,
    ),
]


def run_command(config_dir: Path, broken: Broken, *flags: str) -> subprocess.CompletedProcess[str]:
    for name, text in broken.files.items():
        (config_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (config_dir / name).write_text(text)
    config_dir.mkdir(exist_ok=True)
    command = [sys.executable, str(ROOT / "src/train.py"), "--config-dir", str(config_dir), *flags]
    command += [f"paths.log_dir={config_dir / 'logs'}", *broken.arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=config_dir, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_answer_names_file_key_and_remedy(tmp_path: Path, broken: Broken) -> None:
    answer = run_command(tmp_path / "conf", broken, *(["-m"] if broken.sweep else []))
    assert answer.returncode == 1, answer.stdout + answer.stderr
    assert answer.stderr.startswith("Configuration error:\n")
    assert "Traceback" not in answer.stderr
    for part in broken.expected:
        assert part in answer.stderr or re.search(part, answer.stderr), answer.stderr
    assert not (tmp_path / "conf/logs").exists()


def test_cfg_job_is_checked_too(tmp_path: Path) -> None:
    broken = Broken("", CHOSEN, [], experiment(GLOBAL + "sede: 3\n"))
    answer = run_command(tmp_path / "conf", broken, "--cfg", "job")
    assert answer.returncode == 1
    assert "Nearest valid key: seed." in answer.stderr
    assert answer.stdout == ""


def test_cfg_job_prints_a_valid_configuration(tmp_path: Path) -> None:
    answer = run_command(tmp_path / "conf", Broken("", ["seed=7"], []), "--cfg", "job")
    assert answer.returncode == 0, answer.stderr
    assert "\nseed: 7\n" in answer.stdout


@pytest.mark.parametrize(
    ("script", "arguments", "absent"),
    [
        ("train.py", ["logger=null", "experiment=null", "model/scheduler=null", "local=null"], "logger:"),
        ("train.py", ["callbacks=null", "debug=null", "hparams_search=null"], "callbacks:"),
        ("eval.py", ["ckpt_path=x", "data=null"], "test_variants"),
        ("predict.py", ["ckpt_path=x", "input=y", "hydra=null"], "logger:"),
    ],
)
def test_a_group_that_is_null_is_left_out(tmp_path: Path, script: str, arguments: list[str], absent: str) -> None:
    command = [sys.executable, str(ROOT / "src" / script), "--cfg", "job", *arguments]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stderr
    assert f"\n{absent}" not in answer.stdout


HIDDEN = """
import runpy, sys
import hydra_plugins
hydra_plugins.__path__ = [OURS, COLORLOG]
sys.modules["optuna"] = None
sys.argv = ["train.py", *sys.argv[1:]]
runpy.run_path(SCRIPT, run_name="__main__")
"""


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        (["hydra/sweeper=optuna"], "command line: hydra/sweeper: there is no option 'optuna'"),
        (["hydra/sweeper/sampler=random"], "command line: hydra/sweeper/sampler: this group"),
        (["hydra/sweeper=optuna_pruning"], "optuna_pruning.yaml:3: hydra/sweeper/sampler: there is no option 'tpe'"),
        (["hparams_search=broken"], "hparams_search/broken.yaml:3: hydra/sweeper: there is no option 'optuna'"),
    ],
)
def test_a_search_without_the_extra_says_what_to_install(tmp_path: Path, arguments: list[str], place: str) -> None:
    colorlog = importlib.import_module("hydra_plugins.hydra_colorlog")  # the plugin scan replaces its parent module
    (tmp_path / "hydra_plugins").mkdir()
    (tmp_path / "hydra_plugins/hydra_colorlog").symlink_to(colorlog.__path__[0])
    code = HIDDEN.replace("OURS", repr(str(ROOT / "src/hydra_plugins"))).replace(
        "SCRIPT", repr(str(ROOT / "src/train.py"))
    )
    code = code.replace("COLORLOG", repr(str(tmp_path / "hydra_plugins")))
    (tmp_path / "conf/hparams_search").mkdir(parents=True)
    text = GLOBAL + "defaults:\n  - override /hydra/sweeper: optuna\n"
    (tmp_path / "conf/hparams_search/broken.yaml").write_text(text)
    command = [sys.executable, "-c", code, "-m", "--config-dir", str(tmp_path / "conf"), *arguments]
    answer = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 1, answer.stdout
    assert place in answer.stderr
    assert 'pip install "hydraudio[sweep]".' in answer.stderr
    assert "Traceback" not in answer.stderr


def test_nothing_heavy_is_imported_before_the_answer(tmp_path: Path) -> None:
    """The structural check of a whole configuration leaves torch, lightning and numpy alone."""
    code = (
        "import sys, runpy\n"
        f"sys.argv = ['train.py', '--cfg', 'job']\n"
        f"runpy.run_path({str(ROOT / 'src/train.py')!r}, run_name='__main__')\n"
        "print('HEAVY', sorted({'torch', 'lightning', 'numpy', 'optuna'} & set(sys.modules)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "HEAVY []" in answer.stdout, answer.stderr


def test_all_mistakes_are_listed_at_once(tmp_path: Path) -> None:
    text = "sede: 3\ncallbacks:\n  last_checkpoint:\n    every_n_step: 64\n    dirpath: 3\n"
    broken = Broken("", CHOSEN, [], experiment(GLOBAL + text))
    answer = run_command(tmp_path / "conf", broken)
    keys = [line.split(": ")[1] for line in answer.stderr.splitlines()[1:]]
    assert sorted(keys) == ["callbacks.last_checkpoint.dirpath", "callbacks.last_checkpoint.every_n_step", "sede"]


USER_CORPUS = """
import lightning.pytorch as pl

class TinyCorpus(pl.LightningDataModule):
    def __init__(self, width: int, sample_rate: int) -> None:
        raise RuntimeError(f"the user's class was reached with width {width}")
"""
USER_YAML = """# @package data
_target_: user_package.corpora.TinyCorpus
width: 3
sample_rate: 8000
"""


def run_user_package(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    package = tmp_path / "user_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "corpora.py").write_text(USER_CORPUS)
    (tmp_path / "conf/data").mkdir(parents=True)
    (tmp_path / "conf/data/tiny.yaml").write_text(USER_YAML)
    command = [sys.executable, str(ROOT / "src/train.py"), "--config-dir", str(tmp_path / "conf"), "data=tiny"]
    command += ["callbacks=none", "logger=none", f"paths.log_dir={tmp_path / 'logs'}", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)


def test_package_of_a_user_must_be_trusted(tmp_path: Path) -> None:
    answer = run_user_package(tmp_path)
    assert answer.returncode == 1
    assert "data._target_: user_package.corpora.TinyCorpus may not be instantiated" in answer.stderr
    assert "extras.trusted_targets=[user_package]" in answer.stderr


@pytest.mark.slow
def test_arguments_of_a_users_class_are_bound_before_data_is_touched(tmp_path: Path) -> None:
    answer = run_user_package(tmp_path, "extras.trusted_targets=[user_package]", "+data.widht=3")
    assert answer.returncode == 1
    assert "TinyCorpus has no argument 'widht'. Nearest valid key: data.width." in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.slow
def test_class_of_a_trusted_package_is_instantiated(tmp_path: Path) -> None:
    answer = run_user_package(tmp_path, "extras.trusted_targets=[user_package]")
    assert "the user's class was reached with width 3" in answer.stderr
