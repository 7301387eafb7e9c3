"""A project of one's own: what is written, and that it works where nothing but the wheel is installed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest
from page_commands import ROOT, commands

from hydra_preflight.compose import compose_run
from hydraudio.audio.io import write_audio
from hydraudio.new_project import main, tasks, write_project

TASKS = list(tasks())


def tracked(*patterns: str) -> list[Path]:
    """Files of the repository, those that are new included."""
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard", *patterns]
    names = subprocess.run(listing, capture_output=True, text=True, check=True).stdout.split("\0")
    return [Path(name) for name in names if name and (ROOT / name).exists()]


@pytest.mark.parametrize("task", TASKS)
def test_project_is_named_throughout_and_composes(task, tmp_path, monkeypatch):
    project = write_project(tmp_path / "quiet_rooms", task)
    texts = {path.relative_to(project).as_posix(): path.read_text() for path in project.rglob("*") if path.is_file()}
    assert {"README.md", "pyproject.toml", ".gitignore", "configs/main.yaml", "quiet_rooms/network.py"} <= set(texts)
    assert [name for name, text in texts.items() if re.search("my_project|my_task", name + text)] == []
    monkeypatch.setenv("PROJECT_ROOT", str(project))
    cfg = compose_run([], tmp_path)
    assert (cfg.name, cfg.task.name) == ("first", task)
    assert cfg.data._target_.startswith("quiet_rooms.corpus.")


RUN = re.compile(r"python -m hydraudio\.(train|eval|predict)")
PAGE = commands((ROOT / "docs" / "own_project.md").read_text())


@pytest.mark.parametrize(
    "line", [line for line in PAGE if re.match(r"python -m hydraudio\.(train|eval|predict)", line)]
)
def test_command_of_the_page_passes_the_check_in_a_new_project(line, tmp_path, monkeypatch):
    project = write_project(tmp_path / "my_project", TASKS[0])
    (project / "logs" / "first" / "latest").mkdir(parents=True)
    monkeypatch.setenv("PROJECT_ROOT", str(project))
    verb, *arguments = shlex.split(line.removeprefix("python -m hydraudio."))
    compose_run([each for each in arguments if each != "-m" and "seed=" not in each], tmp_path, f"{verb}.yaml")


def test_other_commands_of_the_page_are_those_that_are_tested():
    """The slow tests of the wheel run them, or the README of the project has them."""
    readme = commands((ROOT / "src" / "hydraudio" / "project" / "README.md").read_text())
    others = [line for line in PAGE if not RUN.match(line)]
    assert [line for line in others if line not in readme] == [
        "python -m pip wheel --no-deps --wheel-dir dist .",
        "python -m pip install dist/hydraudio-*.whl",
        "python -m hydraudio.new_project my_project",
        "cd my_project",
    ]


def test_the_first_task_is_the_one_of_a_training_without_arguments():
    assert f"  - task: {TASKS[0]}" in (ROOT / "configs" / "train.yaml").read_text()
    assert sorted(TASKS, key=lambda name: (name != TASKS[0], name)) == TASKS
    assert set(TASKS) == {path.stem for path in (ROOT / "configs" / "task").glob("*.yaml")}


@pytest.mark.parametrize(
    ("name", "message"),
    [("My-Rooms", "small letters"), ("class", "small letters"), ("torch", "installed already"), ("there", "exists")],
)
def test_names_that_cannot_be_are_refused(name, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["new_project", name])
    assert main() == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


OFFLINE = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index")


def run(line: str, folder: Path, **environment: str) -> str:
    """What a command prints that runs in a folder outside of the repository and knows nothing of it."""
    foreign = ("HYDRAUDIO_", "PROJECT_ROOT", "PYTEST_", "PYTHONPATH")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(foreign)} | environment
    words = [sys.executable if word == "python" else word for word in shlex.split(line)]
    options = {"cwd": folder, "env": environment | {"OMP_NUM_THREADS": "1"}, "capture_output": True, "text": True}
    result = subprocess.run(words, timeout=600, **options)
    assert result.returncode == 0, f"{line}\n{result.stdout[-4000:]}\n{result.stderr[-4000:]}"
    return result.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory) -> Path:
    """What the package is built from, in a folder of its own."""
    folder = tmp_path_factory.mktemp("copy")
    for name in tracked("src", "configs", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    return folder


@pytest.fixture(scope="module")
def wheel(copy, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(f"python -m pip wheel {' '.join(OFFLINE)} --wheel-dir . {copy}", folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_every_file_of_the_packages(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    src = [path.relative_to("src") for path in tracked("src") if len(path.parts) > 2 and not (ROOT / path).is_dir()]
    expected = {path.as_posix() for path in [*src, *(Path("hydraudio") / path for path in tracked("configs"))]}
    assert expected - held == set()
    assert not any("__pycache__" in name or name.startswith("tests/") for name in held)


@pytest.mark.slow
def test_editable_installation_is_a_plain_folder_that_has_the_configuration_files(copy, tmp_path):
    """In a virtual environment of its own, which sees the packages of this one. Editors can follow a plain folder."""
    run("python -m venv --without-pip venv", tmp_path)
    (site,) = tmp_path.glob("venv/lib/python*/site-packages")
    (site / "others.pth").write_text(sysconfig.get_path("purelib"))
    python = tmp_path / "venv" / "bin" / "python"
    run(f"{python} -m pip install {' '.join(OFFLINE)} --editable {copy}", tmp_path)
    (pth,) = site.glob("__editable__*.pth")
    assert pth.read_text().strip() == str(copy / "src")
    found = run(f"{python} -c 'from importlib.resources import files; print(files(\"hydraudio.configs\"))'", tmp_path)
    assert Path(found.strip()).resolve() == copy / "configs"
    run(f"{python} -m hydraudio.new_project quiet_rooms", tmp_path)
    assert "name: first" in run(f"{python} -m hydraudio.train --cfg job", tmp_path / "quiet_rooms")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_project_works_from_the_wheel(task, wheel, tmp_path):
    """Every command of its README but the installation, in a folder outside of the repository."""
    site = tmp_path / "site"
    run(f"python -m pip install --quiet --no-deps --no-index --target {site} {wheel}", tmp_path)
    place = {"PYTHONPATH": str(site)}
    assert run("python -c 'import hydraudio; print(hydraudio.__file__)'", tmp_path, **place).startswith(str(site))
    run(f"python -m hydraudio.new_project quiet_rooms --task {task}", tmp_path, **place)
    project = tmp_path / "quiet_rooms"
    write_audio(project / "recordings" / "one.wav", np.random.default_rng(0).normal(0, 0.1, 24000), 16000)
    lines = commands((project / "README.md").read_text())
    assert [line.split()[2] for line in lines if " -m hydraudio." in line] == [
        "hydraudio.train",
        "hydraudio.train",
        "hydraudio.eval",
        "hydraudio.predict",
    ]
    short = " trainer.max_epochs=1 +trainer.limit_train_batches=2 +trainer.limit_val_batches=2"
    for line in (line for line in lines if "pip install" not in line):
        run(line + short if line == "python -m hydraudio.train" else line, project, **place)
    assert (project / "logs" / "first" / "latest" / "report" / "index.html").is_file()
    assert any((project / "results").iterdir())
    assert (project / "data").is_dir()
