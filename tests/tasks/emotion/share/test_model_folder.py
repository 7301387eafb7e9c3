"""Model folders: what they hold, that they are the checkpoint, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tampering import edit

from hydraudio.core.checkpoints import read_checkpoint
from hydraudio.share.model_folder import load_model_folder, open_trained, write_model_folder
from hydraudio.share.probe import probe_outputs


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def test_the_weights_are_those_of_the_checkpoints_network(checkpoint, model_folder):
    state = read_checkpoint(checkpoint)["state_dict"]
    expected = {name: value for name, value in state.items() if name.startswith("net.")}
    given = load_file(model_folder / "model.safetensors")
    assert given.keys() == expected.keys()
    assert all(torch.equal(given[name], value) for name, value in expected.items())


def test_the_folder_alone_gives_the_results_of_the_checkpoint(trained, model_folder):
    found, expected = probe_outputs(load_model_folder(model_folder)), probe_outputs(trained.task)
    assert found.keys() == expected.keys()
    assert {"batch/logits", "clip2/attributes"} <= found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    for number in range(3):
        assert torch.allclose(found["batch/logits"][number], found[f"clip{number}/logits"][0], atol=1e-4)


def test_the_configuration_says_what_the_numbers_mean(model_folder):
    config = json.loads((model_folder / "config.json").read_text())
    names = ["Angry", "Sad", "Happy", "Surprise", "Fear", "Disgust", "Contempt", "Neutral"]
    assert config["class_names"] == names
    assert "".join(config["class_letters"]) == "ASHUFDCN"
    assert config["id2label"]["7"] == "Neutral"
    assert config["label2id"]["Neutral"] == 7
    assert config["num_labels"] == 8
    assert config["attribute_names"] == ["arousal", "valence", "dominance"]
    assert config["gender_order"] == ["Female", "Male", "Unknown"]
    assert config["gender_mode"] == "auxiliary"
    assert config["sample_rate"] == 16000
    assert config["max_s"] == 12.0
    assert config["normalization"]["std"] == config["model"]["net"]["normalization"]["std"]
    assert config["source"]["run"] == "msp_joint/2026-01-01_00-00-00"
    assert config["source"]["epoch"] == 3
    assert config["model"]["net"]["upstream"]["architecture"]["hidden_size"] == 16
    frames, samples = config["frames"], 16000
    for kernel, stride in zip(frames["kernels"], frames["strides"], strict=True):
        samples = (samples - kernel) // stride + 1
    assert samples == 49
    preprocessor = json.loads((model_folder / "preprocessor_config.json").read_text())
    assert preprocessor["sampling_rate"] == 16000
    assert preprocessor["do_normalize"] is False


def test_nothing_of_this_machine_is_in_the_folder(model_folder, msp_root, checkpoint):
    for file in model_folder.iterdir():
        content = file.read_bytes()
        for private in (str(msp_root), str(checkpoint.parents[3]), "/home/somebody"):
            assert private.encode() not in content, f"{private} in {file.name}"


@pytest.mark.slow
def test_adapters_are_folded_into_the_weights(make_run, compose_eval, msp_root, tmp_path):
    lora = "model.net.upstream.lora={rank:2,alpha:4,targets:[q_proj,output_dense]}"
    path = make_run(tmp_path / "logs" / "lora" / "run", msp_root, (lora, "model.net.upstream.trainable_blocks=0"))
    contents = torch.load(path, weights_only=True)
    generator = torch.Generator().manual_seed(0)
    for name, value in contents["state_dict"].items():
        if "lora_B" in name:
            value.normal_(generator=generator)
    torch.save(contents, path)

    from hydraudio.trained import open_checkpoint, restore_task

    expected = probe_outputs(restore_task(*open_checkpoint(compose_eval(), path), path))
    folder = write_model_folder(tmp_path / "model", open_trained(compose_eval(), path))
    assert not [name for name in load_file(folder / "model.safetensors") if "lora" in name]
    found = probe_outputs(load_model_folder(folder))
    assert all(torch.allclose(found[name], value, atol=1e-5) for name, value in expected.items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c["model"]["net"]["pooling"].update(_target_="subprocess.Popen"), "may not be instantiated"),
        (lambda c: c["model"]["net"]["upstream"].update(_target_="builtins.exec"), "may not be instantiated"),
        (lambda c: c["model"]["losses"].update(x={"_target_": "hydra.utils.get_method"}), "may not be instantiated"),
        (lambda c: c["model"]["net"]["pooling"].update(_target_="hydraudio.core.run_folder.os"), "defines no class"),
        (lambda c: c["model"]["net"].update(surprise=1), "surprise"),
        (lambda c: c["model"]["net"]["upstream"]["architecture"].update(model_type="bert"), "cannot be built.*bert"),
    ],
)
def test_a_hostile_or_strange_configuration_is_refused(copy, change, words):
    edit("config.json", change)(copy)
    with pytest.raises(ValueError, match=words):
        load_model_folder(copy)
