"""The script that lists what a reader follows from the YAML to the loss."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "reading_path.py"


@pytest.fixture(scope="module")
def reading_path():
    found = importlib.util.spec_from_file_location("reading_path", SCRIPT)
    module = importlib.util.module_from_spec(found)
    sys.modules["reading_path"] = module
    found.loader.exec_module(module)
    return module


def test_follower_notes_the_stack_of_a_step_and_stops_at_its_loss(reading_path, monkeypatch, tmp_path):
    monkeypatch.setattr(reading_path, "PACKAGE", tmp_path)
    code = {
        "run.py": "def train(step):\n    before()\n    return step()\ndef before():\n    pass\n",
        "task.py": "class Loss:\n    def __init__(self):\n        pass\ndef training_step(batch, net):\n"
        "    Loss()\n    return net(batch)\n",
        "net.py": "def forward(batch):\n    return 0.0\n",
        "unused.py": "def unused():\n    pass\n",
    }
    names = {}
    for file, text in code.items():
        exec(compile(text, str(tmp_path / file), "exec"), names)
    follower = reading_path.Follower()
    sys.setprofile(follower)
    with pytest.raises(reading_path.Done):
        names["train"](lambda: names["training_step"](None, names["forward"]))
    assert [Path(name).name for name in follower.files] == ["run.py", "task.py", "net.py"]


def test_yaml_files_are_those_of_the_chain(reading_path):
    on_the_way, parts = reading_path.yaml_files(["model/scheduler=plateau"])
    assert on_the_way[0] == "configs/train.yaml"
    assert "configs/model/scheduler/plateau.yaml" in on_the_way
    assert not any("callbacks" in path for path in [*on_the_way, *parts])
