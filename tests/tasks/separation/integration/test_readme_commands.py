"""What the README and the pages about a new model and a new corpus tell to do for separation, done in miniature."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import soundfile
from page_commands import README, ROOT, commands, part_of, python_commands

TINY_NET = [
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.bottleneck_channels=8",
    "model.net.hidden_channels=8",
    "model.net.n_blocks=2",
    "model.net.n_repeats=1",
    "data.segment_s=null",
]
TINY_DPRNN = [
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.hidden_size=4",
    "model.net.n_layers=1",
    "data.segment_s=null",
]
SHORT = ["trainer.max_epochs=1", "report.n_bootstrap=20"]
MODEL_PAGE = (ROOT / "docs" / "add_a_model.md").read_text()
CORPUS_PAGE = (ROOT / "docs" / "add_a_corpus.md").read_text()

pytestmark = pytest.mark.slow


def test_readme_commands_run_one_after_the_other(polsess_root, libri2mix_root, command, tmp_path):
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(30000), 16000)
    roots = {"/data/PolSESS_C_in": str(polsess_root), "/data/Libri2Mix": str(libri2mix_root)}
    for line in python_commands(part_of(README.read_text(), "separation")):
        _, script, *arguments = shlex.split(line)
        for real, tiny in roots.items():
            arguments = [argument.replace(real, tiny) for argument in arguments]
        arguments = ["trainer=cpu" if argument == "trainer=gpu" else argument for argument in arguments]
        if script == "src/train.py":
            root = libri2mix_root if "experiment=separation/libri2mix_quick" in arguments else polsess_root
            arguments += [*(TINY_DPRNN if "model=separation/dprnn_small" in arguments else TINY_NET), *SHORT]
            arguments += [] if any("data.root" in argument for argument in arguments) else [f"data.root={root}"]
        if script == "scripts/results/cross_corpus.py":  # the corpora that the page leaves to be generated
            for option, root in (
                ("data=separation/libri2mix", libri2mix_root),
                ("data=separation/polsess", polsess_root),
            ):
                arguments = [a for b in arguments for a in ([b, f"data.root={root}"] if b == option else [b])]
        if "hparams_search=separation/conv_tasnet_optuna" in arguments:
            arguments += ["hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.n_startup_trials=1"]
        command(script, *arguments)
    assert (tmp_path / "enhanced" / "a.wav").is_file()
    assert (tmp_path / "separator.onnx").is_file()


def test_search_continues_its_study(polsess_root, command, tmp_path):
    arguments = [
        "-m",
        "hparams_search=separation/conv_tasnet_optuna",
        "experiment=separation/polsess_quick",
        f"data.root={polsess_root}",
    ]
    for n_trials in (2, 1):
        command("src/train.py", *arguments, *TINY_NET, *SHORT, f"hydra.sweeper.n_trials={n_trials}")
    with sqlite3.connect(tmp_path / "logs" / "optuna_polsess_quick.db") as database:
        states = database.execute("SELECT state FROM trials").fetchall()
        values = database.execute("SELECT value FROM trial_values").fetchall()
    assert states == [("COMPLETE",)] * 3
    assert len(set(values)) > 1


def copy_with_the_files_of(page: str, copy: Path) -> list[str]:
    """Copy the project and write into it what the page shows; return the names of these files."""
    for folder in ("src", "configs", "scripts"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"), symlinks=True)
    shutil.copy(ROOT / "pyproject.toml", copy)
    shown = re.findall(r"^`((?:src|configs)/\S+)`:\n\n```\w+\n(.*?)```", page, re.DOTALL | re.MULTILINE)
    for name, text in shown:
        (copy / name).write_text(text)
    return [name for name, _ in shown]


def test_model_of_the_docs_is_one_file_and_one_yaml(command, polsess_root, tmp_path):
    """docs/add_a_model.md, followed to the letter in a copy of the project."""
    copy = tmp_path / "copy"
    assert copy_with_the_files_of(MODEL_PAGE, copy) == [
        "src/hydraudio/tasks/separation/networks/gru_mask.py",
        "configs/model/separation/gru_mask.yaml",
    ]
    (line,) = [line for line in commands(MODEL_PAGE) if "model=separation/gru_mask" in line]
    tiny = [f"data.root={polsess_root}", "data.segment_s=null", "trainer.max_epochs=1", "report.metrics=fast"]
    command(str(copy / "src" / "train.py"), *shlex.split(line)[2:], *tiny)
    assert (tmp_path / "logs" / "polsess_quick" / "latest" / "checkpoints" / "best.ckpt").is_file()


def test_corpus_of_the_docs_is_one_file_and_one_yaml(command, tmp_path, monkeypatch):
    """docs/add_a_corpus.md, followed to the letter in a copy of the project: check, one batch, its table, a defect."""
    copy = tmp_path / "copy"
    assert copy_with_the_files_of(CORPUS_PAGE, copy) == [
        "src/hydraudio/tasks/separation/corpora/noisy_clean.py",
        "configs/data/separation/noisy_clean.yaml",
    ]
    monkeypatch.setenv("PYTHONPATH", str(copy / "src"))  # scripts use the package that is installed
    check, try_out, _, tables = python_commands(part_of(CORPUS_PAGE, "separation"))
    (copy / "docs").mkdir()
    (copy / "docs" / "page.md").write_text("<!-- table: corpora separation -->\n<!-- end table -->\n")
    for line in (check, try_out, tables):
        _, script, *arguments = shlex.split(line)
        command(str(copy / script), *arguments)
    assert "Noisy recordings and their clean versions." in (copy / "docs" / "page.md").read_text()
    (corpus,) = (tmp_path / "data").glob("noisy_clean_embedded_*")
    (broken := corpus / "test" / "clean" / "003.wav").unlink()
    found = command(str(copy / "scripts/data/check.py"), "data=separation/noisy_clean", check=False)
    assert found.returncode == 1
    assert f"{broken}: no such audio file" in found.stdout
