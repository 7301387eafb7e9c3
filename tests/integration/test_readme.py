"""Every command of the README and the docs: all pass the configuration check; those of the README really run (slow)."""

from __future__ import annotations

import re
import shlex
import shutil
import sqlite3
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TINY_NET = [
    "model.net.n_filters=16",
    "model.net.kernel_size=32",
    "model.net.bottleneck_channels=8",
    "model.net.hidden_channels=8",
    "model.net.n_blocks=2",
    "model.net.n_repeats=1",
]
TINY_DPRNN = ["model.net.n_filters=16", "model.net.kernel_size=32", "model.net.hidden_size=4", "model.net.n_layers=1"]
SHORT = ["data.segment_s=null", "trainer.max_epochs=1", "report.n_bootstrap=20"]
TINY = [*TINY_NET, *SHORT]


def commands(page: Path) -> list[str]:
    """Lines of the page's bash blocks, continued lines joined, comments removed."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in (re.sub(r"\s+#.*|^#.*", "", line).strip() for line in lines) if line]


def python_commands(pages: list[Path], prefix: str) -> list[str]:
    found = [line for page in pages for line in commands(page) if line.startswith(f"python {prefix}")]
    assert found
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("line", python_commands(PAGES, "src/"))
def test_command_passes_the_configuration_check(line, command, tmp_path):
    if "my_package" in line or "gru_mask" in line:
        pytest.skip("needs the example of docs/add_a_model.md")
    _, script, *arguments = shlex.split(line)
    if "ckpt_path=last" in arguments:
        (tmp_path / "logs" / "polsess_quick" / "latest").mkdir(parents=True)
    more = [] if "-m" in arguments or "--help" in arguments or "--cfg" in arguments else ["--cfg", "job"]
    if "-m" in arguments:
        arguments = [argument for argument in arguments if argument != "-m" and "seed=" not in argument]
        more = ["--cfg", "job"]
    command(script, *arguments, *more)


@pytest.mark.parametrize("line", python_commands(PAGES, "scripts/"))
def test_script_exists_and_explains_itself(line, command):
    result = command(shlex.split(line)[1], "--help")
    assert "usage" in result.stdout


def test_make_lists_its_targets_and_knows_those_of_the_readme():
    listing = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    used = {line.split()[1] for page in PAGES for line in commands(page) if line.startswith("make ")}
    assert {"train", "test"} <= used
    assert all(re.search(rf"^  make {target} +\S", listing, re.MULTILINE) for target in used)


def test_extras_of_the_readme_exist():
    pyproject = (ROOT / "pyproject.toml").read_text()
    named = set(re.findall(r'-e "?\.\[(\w+)\]', (ROOT / "README.md").read_text()))
    assert named
    assert all(re.search(rf"^{extra} = \[", pyproject, re.MULTILINE) for extra in named)


@pytest.mark.slow
def test_readme_commands_run_one_after_the_other(polsess_root, libri2mix_root, command, tmp_path):
    """The page from top to bottom, with tiny networks and corpora."""
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(30000), 16000)
    roots = {"/data/PolSESS_C_in": str(polsess_root), "/data/Libri2Mix": str(libri2mix_root)}
    for line in python_commands([ROOT / "README.md"], ""):
        _, script, *arguments = shlex.split(line)
        for real, tiny in roots.items():
            arguments = [argument.replace(real, tiny) for argument in arguments]
        arguments = ["trainer=cpu" if argument == "trainer=gpu" else argument for argument in arguments]
        if script == "src/train.py":
            arguments += [*(TINY_DPRNN if "model=dprnn_small" in arguments else TINY_NET), *SHORT]
            root = libri2mix_root if "experiment=libri2mix_quick" in arguments else polsess_root
            arguments += [] if any("data.root" in argument for argument in arguments) else [f"data.root={root}"]
        if script == "scripts/cross_corpus.py":  # the corpora that the page leaves to be generated
            for option, root in (("data=libri2mix", libri2mix_root), ("data=polsess", polsess_root)):
                arguments = [a for b in arguments for a in ([b, f"data.root={root}"] if b == option else [b])]
        if "hparams_search=conv_tasnet_optuna" in arguments:
            arguments += ["hydra.sweeper.n_trials=2", "hydra.sweeper.sampler.n_startup_trials=1"]
        command(script, *arguments)
    assert (tmp_path / "enhanced" / "a.wav").is_file()
    assert (tmp_path / "separator.onnx").is_file()


@pytest.mark.slow
def test_search_continues_its_study(polsess_root, command, tmp_path):
    arguments = ["-m", "hparams_search=conv_tasnet_optuna", "experiment=polsess_quick", f"data.root={polsess_root}"]
    for n_trials in (2, 1):
        command("src/train.py", *arguments, *TINY, f"hydra.sweeper.n_trials={n_trials}")
    with sqlite3.connect(tmp_path / "logs" / "optuna_polsess_quick.db") as database:
        states = database.execute("SELECT state FROM trials").fetchall()
        values = database.execute("SELECT value FROM trial_values").fetchall()
    assert states == [("COMPLETE",)] * 3
    assert len(set(values)) > 1


@pytest.mark.slow
def test_model_of_the_docs_is_one_file_and_one_yaml(command, polsess_root, tmp_path):
    """docs/add_a_model.md, followed to the letter in a copy of the project."""
    page = (ROOT / "docs" / "add_a_model.md").read_text()
    copy = tmp_path / "copy"
    for folder in ("src", "configs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    module, config = (re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL).group(1) for kind in ("python", "yaml"))
    (copy / "src" / "hydraudio" / "models" / "separation" / "gru_mask.py").write_text(module)
    (copy / "configs" / "model" / "gru_mask.yaml").write_text(config)
    (line,) = [line for line in commands(ROOT / "docs" / "add_a_model.md") if "model=gru_mask" in line]
    tiny = [f"data.root={polsess_root}", "data.segment_s=null", "trainer.max_epochs=1", "report.metrics=fast"]
    command(str(copy / "src" / "train.py"), *shlex.split(line)[2:], *tiny)
    assert (tmp_path / "logs" / "polsess_quick" / "latest" / "checkpoints" / "best.ckpt").is_file()
