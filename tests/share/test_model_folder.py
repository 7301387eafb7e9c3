"""Model folders: what they hold, that they are the checkpoint, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from tampering import edit

from hydraudio.core.checkpoints import read_checkpoint
from hydraudio.share.card import CardOptions
from hydraudio.share.model_config import base_model
from hydraudio.share.model_folder import content_problems, load_model_folder, write_model_folder
from hydraudio.share.probe import examples, probe_outputs

TRUSTED = ("toy_floor.",)


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def test_the_weights_are_those_of_all_parts_of_the_checkpoint(checkpoint, model_folder):
    state = read_checkpoint(checkpoint)["state_dict"]
    given = load_file(model_folder / "model.safetensors")
    assert given.keys() == {"net.weights.weight", "net.weights.bias", "ear.gain"}
    assert all(torch.equal(value, state[name]) for name, value in given.items())
    assert given["ear.gain"].tolist() == [3.0, 0.5]


def test_the_folder_alone_gives_the_results_of_the_checkpoint(trained, model_folder):
    task = load_model_folder(model_folder, TRUSTED)
    assert task.ear.source is None
    found, expected = probe_outputs(task), probe_outputs(trained.task)
    assert found.keys() == expected.keys()
    assert {"batch/guess", "clip2/cleaned"} <= found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for number in range(3):
        assert torch.allclose(found["batch/guess"][number], found[f"clip{number}/guess"][0], atol=1e-6)


def test_examples_have_the_axes_of_the_specification(trained):
    *alone, together = examples(trained.task)
    assert [example["lengths"].tolist() for example in alone] == [[8000], [5040], [11760]]
    assert {name: tuple(value.shape) for name, value in together.items()} == {
        "sound": (3, 11760),
        "lengths": (3,),
        "hint": (3, 2),
    }
    assert together["sound"][1, 5040:].abs().max() == 0
    assert together["sound"].abs().max() <= 1


def test_an_axis_without_a_size_is_named(trained, monkeypatch):
    monkeypatch.setattr(type(trained.task), "n_hints", None)
    with pytest.raises(ValueError, match="axis hints of its inputs is: n_hints"):
        examples(trained.task)


def test_the_configuration_says_what_the_numbers_mean(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    assert (config["sample_rate"], config["kind_names"]) == (8000, ["low", "high"])
    assert (config["colour"], config["base_model"]) == ("red", None)
    assert config["source"]["run"] == "toys/2026-01-01_00-00-00"
    assert config["source"]["epoch"] == 3
    assert config["model"]["ear"] == {"_target_": "toy_floor.Ear", "source": None, "revision": None}
    assert json.loads((model_folder / "preprocessor_config.json").read_text())["sampling_rate"] == 8000


def test_nothing_of_this_machine_is_in_the_folder(model_folder, checkpoint):
    for file in model_folder.iterdir():
        content = file.read_bytes()
        for private in (str(checkpoint.parents[3]), "/home/somebody"):
            assert private.encode() not in content, f"{private} in {file.name}"


def test_the_base_model_is_that_of_the_hub_or_of_the_download(trained, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "source.json").write_text('{"model_id": "org/encoder"}')
    (tmp_path / "bare").mkdir()
    sources = {
        None: None,
        "microsoft/wavlm-large": "microsoft/wavlm-large",
        str(tmp_path / "encoder"): "org/encoder",
        str(tmp_path / "bare"): None,
        str(tmp_path / "gone"): None,
    }
    for source, expected in sources.items():
        assert base_model(OmegaConf.create({"model": {"net": {"upstream": {"source": source}}}})) == expected
    assert base_model(OmegaConf.create({"model": {"net": {"n_filters": 8}}})) is None
    folder = write_model_folder(tmp_path / "model", trained, CardOptions(base_model="org/other"))
    assert json.loads((folder / "config.json").read_text())["base_model"] == "org/other"
    assert ModelCard.load(folder / "README.md").data.base_model == "org/other"


def test_where_the_corpus_lies_here_changes_nothing(trained, checkpoint):
    assert trained.config.data.root == str(checkpoint.parents[1] / "corpus"), "it was opened with data.root=/elsewhere"


def test_writing_twice_gives_the_same_bytes(trained, model_folder, tmp_path):
    again = write_model_folder(tmp_path / "again", trained)
    write_model_folder(again, trained)
    assert {file.name: file.read_bytes() for file in again.iterdir()} == {
        file.name: file.read_bytes() for file in model_folder.iterdir()
    }


def test_a_folder_with_other_files_is_not_written_into(trained, tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        write_model_folder(tmp_path, trained)


def test_metrics_of_another_checkpoint_are_not_taken(trained, checkpoint, tmp_path):
    for about in ("/x/toys/2026-01-01_00-00-00/checkpoints/last.ckpt", "/x/toys/other/checkpoints/best.ckpt"):
        report = tmp_path / "report"
        report.mkdir(exist_ok=True)
        (report / "details.json").write_text(json.dumps({"information": {"Checkpoint": about}, "scores": {}}))
        with pytest.raises(ValueError, match="is about"):
            write_model_folder(tmp_path / "model", trained, report=report)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["model"].update(_target_="os.system"), "may not be instantiated"),
        (lambda c: c["model"]["net"].update(_target_="subprocess.Popen"), "may not be instantiated"),
        (lambda c: c["model"]["ear"].update(source={"_target_": "builtins.exec"}), "may not be instantiated"),
        (lambda c: c["model"].update(sample_rate="${oc.env:HOME}"), "interpolation"),
        (
            lambda c: c["model"]["net"].update(table="/elsewhere/table.csv"),
            r"model\.net\.table=.* outside of the folder",
        ),
        (lambda c: c["model"]["net"].update(table="../table.csv"), "outside of the folder"),
        (lambda c: c["model"]["ear"].update(source="owner/name"), "outside of the folder"),
        (lambda c: c["model"]["net"].update(_target_="toy_floor.collate"), "not of the kind"),
        (lambda c: c["model"]["net"].update(_target_="hydraudio.trained.build_task", n_kinds=2), "has no argument"),
        (lambda c: c["model"]["net"].update(surprise=1), "surprise"),
        (lambda c: c["model"]["net"].update(n_kinds=-1), "is negative"),
        (lambda c: c["model"]["net"].update(n_kinds=2**62), "cannot be built"),
        (lambda c: c.pop("library_name"), "not a model that Hydraudio wrote"),
        (lambda c: c.update(format_version=3), "format 3"),
    ],
)
def test_a_hostile_or_strange_configuration_is_refused(copy, change, words):
    edit("config.json", change)(copy)
    with pytest.raises(ValueError, match=words):
        load_model_folder(copy, TRUSTED)


def test_only_safetensors_of_the_right_names_and_types_are_loaded(copy):
    path = copy / "model.safetensors"
    weights = load_file(path)
    name = next(name for name in weights if name.endswith("weights.weight"))
    for broken, words in (
        ({key: value for key, value in weights.items() if key != name}, "is missing"),
        ({**weights, "extra": torch.zeros(1)}, "extra is unknown"),
        ({**weights, name: weights[name].half()}, "float16 instead of"),
        ({**weights, name: weights[name][:-1].clone()}, "instead of"),
    ):
        save_file(broken, path)
        with pytest.raises(ValueError, match=words):
            load_model_folder(copy, TRUSTED)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match="damaged"):
        load_model_folder(copy, TRUSTED)
    path.unlink()
    torch.save(weights, copy / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match="safetensors only"):
        load_model_folder(copy, TRUSTED)


def test_pickles_tokens_and_strangers_are_found(copy):
    assert content_problems(copy) == []
    (copy / "pytorch_model.bin").write_bytes(b"x")
    (copy / "notes.txt").write_text("my token is hf_" + "a1B2" * 8)
    (copy / "preprocessor_config.json").unlink()
    problems = "; ".join(content_problems(copy))
    for words in ("pytorch_model.bin can execute", "notes.txt does not belong", "token", "preprocessor_config.json is"):
        assert words in problems
    for secret in ("ghp_" + "a" * 36, "AKIA" + "A" * 16, "-----BEGIN RSA PRIVATE KEY-----"):
        (copy / "notes.txt").write_text(f"x {secret} y")
        assert any("token" in problem for problem in content_problems(copy))
