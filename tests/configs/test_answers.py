"""Wrong values: each is answered in a sentence, before anything heavy is imported where the disk or the text tells."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

LOOP = """
import contextlib, io, json, os, runpy, sys
for script, *arguments in json.loads(sys.argv[1]):
    sys.argv = [script, *arguments]
    os.environ.pop("HYDRA_FULL_ERROR", None)  # set by the start before
    words = io.StringIO()
    with contextlib.redirect_stderr(words), contextlib.redirect_stdout(io.StringIO()):
        try:
            runpy.run_path(f"{ROOT}/src/{script}", run_name="__main__")
            status = 0
        except SystemExit as error:
            status = error.code
    heavy = sorted({"torch", "lightning"} & set(sys.modules))
    print(json.dumps([status, words.getvalue(), heavy]))
"""

CASES = [
    (["train.py", "data.root=/nowhere/corpus"], ["data.root: /nowhere/corpus: no such file or folder", "embedded"]),
    (["train.py", "data.root=FOLDER/whole.ckpt"], ["data.root: FOLDER/whole.ckpt: not a folder; give the folder"]),
    (["train.py", "ckpt_path=/nowhere/a.ckpt"], ["ckpt_path: /nowhere/a.ckpt: no such checkpoint"]),
    (["train.py", "init_from=/nowhere/a.ckpt"], ["init_from: /nowhere/a.ckpt: no such checkpoint"]),
    (["train.py", "init_from=FOLDER"], ["init_from: FOLDER: a folder; give a file"]),
    (["eval.py", "ckpt_path=FOLDER/empty.ckpt"], ["FOLDER/empty.ckpt: an empty file and not a checkpoint"]),
    (["eval.py", "ckpt_path=FOLDER/cut.ckpt"], ["FOLDER/cut.ckpt: damaged or not a checkpoint", "give another"]),
    (["eval.py", "ckpt_path=[FOLDER/cut.ckpt,/nowhere/b.ckpt]"], ["FOLDER/cut.ckpt: damaged", "/nowhere/b.ckpt: no"]),
    (["predict.py", "ckpt_path=FOLDER/whole.ckpt", "input=/nowhere"], ["input: /nowhere: no such file or folder"]),
    (["train.py", "trainer.max_epochs=three"], ["trainer.max_epochs: 'three' is of the wrong type", "got str"]),
    (["train.py", "trainer.precision=bf17"], ["trainer.precision: 'bf17' is of the wrong type", "'bf16-mixed'"]),
    (["train.py", "trainer.devices=1.5"], ["trainer.devices: 1.5 is of the wrong type"]),
    (["train.py", "+trainer.max_epoch=3"], ["trainer.max_epoch", "Nearest valid key: trainer.max_epochs."]),
    (["train.py", "trainer.epochs=3"], ["trainer.epochs", "Nearest valid key: trainer.max_epochs."]),
    (["train.py", "model.optimizer.lr=fast"], ["model.optimizer.lr: 'fast' is of the wrong type"]),
    (["train.py", "model.optimizer.lr=-0.1"], ["model.optimizer.lr: -0.1 is negative"]),
    (["train.py", "+model.optimizer.learning_rate=1"], ["torch.optim.Adam", "has no argument 'learning_rate'"]),
    (["train.py", "data.batch_size=-3"], ["data.batch_size: -3 is too small"]),
    (["train.py", "data.num_workers=-1"], ["data.num_workers: -1 is negative"]),
    (["train.py", "data.max_train_samples=-1"], ["data.max_train_samples: -1 is negative"]),
    (["train.py", "task.monitor=val/nothing"], ["task.monitor: the task", "has no metric 'val/nothing'"]),
    (["train.py", "optimized_metric=val/nothing"], ["optimized_metric: the task", "has no metric 'val/nothing'"]),
    (["train.py", "epochs=3"], ["epochs: unknown key. Nearest valid key: trainer.max_epochs."]),
    (["train.py", "workers=3"], ["Nearest valid key: data.num_workers."]),
    (["train.py", "batch=3"], ["Nearest valid key: data.batch_s"]),
    (["train.py", "resume=x"], ["resume: unknown key. Valid keys: "]),
    (["train.py", "name=a{b"], ["Hydra does not take { for text", "'name=\"a{b\"'"]),
    (["train.py", "name=it's"], ["Hydra does not take ' for text"]),
    (["train.py", "-m", "data.root=/nowhere/a,null"], ["data.root: /nowhere/a: no such file or folder"]),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory) -> list[tuple[int, str, list[str]]]:
    folder = tmp_path_factory.mktemp("answers")
    (folder / "empty.ckpt").touch()
    with zipfile.ZipFile(folder / "whole.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", bytes(100))
    (folder / "cut.ckpt").write_bytes((folder / "whole.ckpt").read_bytes()[:-30])
    commands = [[argument.replace("FOLDER", str(folder)) for argument in arguments] for arguments, _ in CASES]
    code = LOOP.replace("{ROOT}", str(ROOT))
    run = [sys.executable, "-c", code, json.dumps(commands)]
    done = subprocess.run(run, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line.replace(str(folder), "FOLDER")) for line in done.stdout.splitlines()]
    assert not (folder / "logs").exists()
    return [tuple(line) for line in lines]


@pytest.mark.parametrize("number", range(len(CASES)), ids=[" ".join(arguments) for arguments, _ in CASES])
def test_a_sentence_before_anything_heavy(answers, number):
    status, words, heavy = answers[number]
    assert status == 1
    assert words.startswith("Configuration error:\n")
    assert "Traceback" not in words
    assert heavy == []
    for part in CASES[number][1]:
        assert part in words
    assert len(words.splitlines()) <= 3


@pytest.mark.parametrize("target", ["lightning.pytorch.Trainer", "torch.optim.AdamW", "torch.optim.Adam"])
def test_arguments_read_from_source_are_those_of_the_class(target):
    import inspect

    from hydra_preflight.own_source import own_package
    from hydra_preflight.whitelist import locate

    read, cls = own_package().signature(target), locate(target, ())
    assert list(read.arguments) == list(inspect.signature(cls).parameters)
    assert not read.open


def test_the_precisions_of_the_check_are_those_of_lightning():
    from typing import get_args

    from lightning.fabric import connector

    from hydra_preflight.own_source import own_package

    read = own_package().signature("hydraudio.core.trainer.Trainer").arguments["precision"].type.items[0].items
    kinds = (connector._PRECISION_INPUT_STR, connector._PRECISION_INPUT_STR_ALIAS, connector._PRECISION_INPUT_INT)
    assert set(read) == {"auto", *(value for kind in kinds for value in get_args(kind))}


def test_a_switch_of_a_group_means_its_default():
    from hydra._internal.utils import create_config_search_path

    from hydra_preflight.compose import open_loader

    loader = open_loader(create_config_search_path(str(ROOT / "configs")), "train")
    assert loader.without_null_groups("train.yaml", ["debug=true", "train=true"]) == ["debug=default", "train=true"]


@pytest.mark.parametrize("task", sorted(path.stem for path in (ROOT / "configs/task").glob("*.yaml")))
def test_no_arguments_are_the_quick_run_of_the_task(task):
    from hydra._internal.utils import create_config_search_path

    from hydra_preflight.compose import open_loader, quick_run

    loader = open_loader(create_config_search_path(str(ROOT / "configs")), "train")
    quick = quick_run(loader, "train.yaml", [f"task={task}"])
    assert quick is not None
    assert quick.startswith(f"experiment={task}/")
    assert loader.load("train.yaml", [quick])[0].task.name == task
    assert quick_run(loader, "train.yaml", []) is not None
    assert quick_run(loader, "train.yaml", ["seed=1"]) is None
    assert quick_run(loader, "main.yaml", []) is None
