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

from hydra_preflight import resolvers
from hydra_preflight.compose import compose_run

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
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
TINY_EMOTION = ["model.net.category.hidden_dim=8"]
TINY = [*TINY_NET, *SHORT]


def write_wavlm(folder: Path) -> None:
    """A WavLM of the base layout with random weights, in the hub's format and tiny."""
    from hydraudio.core.torchaudio_standin import install_torchaudio_standin

    install_torchaudio_standin()
    from transformers import WavLMConfig, WavLMModel

    sizes = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    WavLMModel(WavLMConfig(**sizes, conv_dim=[8] * 7, num_conv_pos_embeddings=8)).save_pretrained(folder)


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
def test_command_passes_the_configuration_check(line, command, tmp_path, monkeypatch):
    """In this process, which is faster; with options of Hydra's own in one of its own."""
    if "my_package" in line or "gru_mask" in line:
        pytest.skip("needs the example of docs/add_a_model.md")
    _, script, *arguments = shlex.split(line)
    logs = tmp_path / "logs"
    if "ckpt_path=last" in arguments:
        (logs / "polsess_quick" / "latest").mkdir(parents=True)
    if any(argument.startswith("--") for argument in arguments):
        command(script, *arguments)
        return
    arguments = [argument for argument in arguments if argument != "-m" and "seed=" not in argument]
    monkeypatch.setenv("PROJECT_ROOT", str(ROOT))
    monkeypatch.setenv("HYDRAUDIO_LOG_DIR", str(logs))
    monkeypatch.setattr(resolvers, "pretrained_config", lambda source, revision=None: None)  # no such folder here
    compose_run(arguments, tmp_path, f"{Path(script).stem}.yaml")


def scripts() -> list:
    """Scripts that the pages call; those that import most are slow."""
    names = sorted({shlex.split(line)[1] for line in python_commands(PAGES, "scripts/")})
    heavy = ("benchmark", "profile_model", "train_speechbrain", "convert_checkpoint")
    return [pytest.param(name, marks=[pytest.mark.slow] if any(h in name for h in heavy) else []) for name in names]


@pytest.mark.parametrize("script", scripts())
def test_script_exists_and_explains_itself(script, command):
    result = command(script, "--help")
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
def test_readme_commands_run_one_after_the_other(polsess_root, libri2mix_root, msp_root, command, tmp_path):
    """The page from top to bottom, with tiny networks and corpora."""
    write_wavlm(tmp_path / "data" / "models" / "wavlm-base-plus")
    (tmp_path / "recordings").mkdir()
    soundfile.write(tmp_path / "recordings" / "a.wav", 0.1 * np.random.default_rng(0).standard_normal(30000), 16000)
    real = ("/data/PolSESS_C_in", "/data/Libri2Mix", "/data/MSP-PODCAST")
    roots = dict(zip(real, map(str, (polsess_root, libri2mix_root, msp_root)), strict=True))
    for line in python_commands([ROOT / "README.md"], ""):
        _, script, *arguments = shlex.split(line)
        for real, tiny in roots.items():
            arguments = [argument.replace(real, tiny) for argument in arguments]
        arguments = ["trainer=cpu" if argument == "trainer=gpu" else argument for argument in arguments]
        if script == "src/train.py":
            tiny_net, root = TINY_NET, polsess_root
            if "model=separation/dprnn_small" in arguments:
                tiny_net = TINY_DPRNN
            if "experiment=separation/libri2mix_quick" in arguments:
                root = libri2mix_root
            if "experiment=emotion/msp_wavlm_category" in arguments:
                tiny_net, root = TINY_EMOTION, msp_root
            arguments += [*tiny_net, *SHORT]
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
    assert (tmp_path / "emotions" / "emotions.csv").is_file()
    assert (tmp_path / "separator.onnx").is_file()


@pytest.mark.slow
def test_search_continues_its_study(polsess_root, command, tmp_path):
    arguments = [
        "-m",
        "hparams_search=separation/conv_tasnet_optuna",
        "experiment=separation/polsess_quick",
        f"data.root={polsess_root}",
    ]
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
