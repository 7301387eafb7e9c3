"""The README and the docs: commands pass the check, scripts, targets, extras and links exist.

A floor's own tests run the commands that the README gives for it, one after the other.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from page_commands import PAGES, README, ROOT, commands, part_of, python_commands

from hydra_preflight.compose import compose_run
from hydraudio.core import pretrained

TASKS = sorted(path.stem for path in (ROOT / "configs" / "task").glob("*.yaml"))
TEXT = "\n".join(page.read_text() for page in PAGES)
LINKED = [*PAGES, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("src/hydraudio/tasks/*/README.md"))]


@pytest.mark.parametrize("line", python_commands(TEXT, "src/"))
def test_command_passes_the_configuration_check(line, command, tmp_path, monkeypatch):
    """In this process, which is faster; with options of Hydra's own in one of its own."""
    if any(name in line for name in ("my_package", "gru_mask", "noisy_clean")):
        pytest.skip("needs the example of a page, whose own test follows it")
    _, script, *arguments = shlex.split(line)
    logs = tmp_path / "logs"
    if "ckpt_path=last" in arguments:
        (experiment,) = (argument for argument in arguments if argument.startswith("experiment="))
        (logs / experiment.rpartition("/")[2] / "latest").mkdir(parents=True)
    if any(argument.startswith("--") for argument in arguments):
        command(script, *arguments)
        return
    if "-m" in arguments:  # the first of several runs
        runs = [argument for argument in arguments if argument != "-m"]
        arguments = [re.sub(r"^([\w./]+=[\w./]+),.*", r"\1", argument) for argument in runs]
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(logs))
    monkeypatch.setattr(pretrained, "pretrained_config", lambda source, revision=None: None)  # no such folder here
    compose_run(arguments, tmp_path, f"{Path(script).stem}.yaml")


def scripts() -> list:
    """Scripts that the pages call; those that import most are slow."""
    names = sorted({shlex.split(line)[1] for line in python_commands(TEXT, "scripts/")})
    heavy = ("benchmark", "profile_model", "train_speechbrain", "convert_checkpoint")
    return [pytest.param(name, marks=[pytest.mark.slow] if any(h in name for h in heavy) else []) for name in names]


@pytest.mark.parametrize("script", scripts())
def test_script_exists_and_explains_itself(script, command):
    result = command(script, "--help")
    assert "usage" in result.stdout


def test_make_lists_its_targets_and_knows_those_of_the_readme():
    listing = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    used = {line.split()[1] for line in commands(TEXT) if line.startswith("make ")}
    assert {"train", "test"} <= used
    assert all(re.search(rf"^  make {target} +\S", listing, re.MULTILINE) for target in used)


def test_extras_of_the_readme_exist():
    pyproject = (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r'-e "?\.\[(\w+)\]', README.read_text()))
    assert named
    assert all(re.search(rf"^{extra} = \[", pyproject, re.MULTILINE) for extra in named)


@pytest.mark.parametrize("page", LINKED, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings(page):
    links = re.findall(r"\]\(([^)#:\s]*)(?:#([^)]*))?\)", page.read_text())
    targets = [(page.parent / file if file else page, heading) for file, heading in links]
    assert [file for file, _ in targets if not file.exists()] == []
    assert [(file, heading) for file, heading in targets if heading and heading not in anchors(file)] == []


def anchors(page: Path) -> set[str]:
    """The ends of links to the headings of a page, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_page_with_commands_names_their_environment(page):
    text = page.read_text()
    if re.search(r"\b(python|make|wandb|tensorboard) [\w./-]+", text):
        assert "source .venv/bin/activate" in text


def test_every_task_has_its_part_of_the_readme_and_the_rest_belongs_to_none():
    assert all(python_commands(part_of(README.read_text(), task), "src/train.py") for task in TASKS)
    common = part_of(README.read_text(), None)
    words = [task for task in TASKS if f"{task}/" in common]
    assert words == []
