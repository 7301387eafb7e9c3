"""A training that begins with parts of another one's weights: other classes, the encoder alone, what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
import untrained

from hydra_preflight.compose import compose_run
from hydra_preflight.errors import ConfigError, DataMismatchError
from hydraudio.prepare import build_untrained

FOUR = "data.classes=[Angry,Sad,Happy,Neutral]"
PERMUTED = "data.classes=[Neutral,Happy,Sad,Angry]"
BUT_HEADS = ["net.upstream", "net.pooling", "net.standardization"]


@pytest.fixture(autouse=True)
def project_root(repository, monkeypatch):
    monkeypatch.setenv("PROJECT_ROOT", str(repository))


@pytest.fixture(scope="module")
def settings(msp_root) -> list[str]:
    short = "model.net.category.hidden_dim=16"
    return ["experiment=emotion/msp_wavlm_category", f"data.root={msp_root}", "data.num_workers=0", short]


@pytest.fixture(scope="module")
def checkpoints(settings, repository, tmp_path_factory) -> dict[str, Path]:
    """One of all eight classes, one of four; every weight is drawn."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PROJECT_ROOT", str(repository))
        folder = tmp_path_factory.mktemp("before")
        given = {"eight": [], "four": [FOUR]}
        return {name: drawn(untrained.write_run(folder / name, *settings, *more)) for name, more in given.items()}


def drawn(path: Path) -> Path:
    contents = torch.load(path, weights_only=True)
    for value in contents["state_dict"].values():
        if value.is_floating_point():
            value.normal_(generator=torch.Generator().manual_seed(1))
    torch.save(contents, path)
    return path


def begin(tmp_path: Path, *overrides: str):
    return build_untrained(compose_run(list(overrides), tmp_path)).state_dict()


def parts_of(state, checkpoint: Path) -> set[str]:
    """Tensors of floating point that are the checkpoint's, by the first two words of their names."""
    saved = torch.load(checkpoint, weights_only=True)["state_dict"]
    floats = [name for name, value in state.items() if value.is_floating_point()]
    same = {name for name in floats if name in saved and torch.equal(state[name], saved[name])}
    parts = {".".join(name.split(".")[:2]) for name in same}
    assert all(name in same for name in floats if name.startswith(tuple(f"{part}." for part in parts)))
    return parts


@pytest.mark.parametrize("parts", [["net.upstream"], BUT_HEADS])
def test_four_classes_begin_with_parts_of_eight(settings, checkpoints, tmp_path, caplog, parts):
    caplog.set_level(logging.INFO)
    file = checkpoints["eight"]
    state = begin(tmp_path, *settings, FOUR, f"init_from={file}", f"init_only=[{','.join(parts)}]")
    assert parts_of(state, file) == set(parts)
    assert len(state["net.category.output.bias"]) == 4
    assert "net.category" in caplog.text.partition("kept their new values: ")[2]


def test_another_head_begins_with_the_encoder(settings, checkpoints, tmp_path):
    settings = ["experiment=emotion/msp_wavlm_attributes", *settings[1:-1]]
    state = begin(tmp_path, *settings, f"init_from={checkpoints['eight']}", "init_only=[net.upstream]")
    assert parts_of(state, checkpoints["eight"]) == {"net.upstream"}


def test_the_message_about_other_classes_says_what_can_be_loaded(settings, checkpoints, tmp_path):
    given = [*settings, FOUR, f"init_from={checkpoints['eight']}"]
    with pytest.raises(DataMismatchError, match=r"class_names=\['Angry', 'Sad', 'Happy', 'Neutral'\]") as error:
        begin(tmp_path, *given)
    remedy = str(error.value).rpartition("fits of ")[2].partition(": ")[2]
    assert "net.upstream" in remedy
    assert "net.category.trunk" in remedy
    assert "net.category.output" not in remedy
    assert "net.category" in parts_of_trunk(begin(tmp_path, *given, remedy), checkpoints["eight"])


def parts_of_trunk(state, checkpoint: Path) -> set[str]:
    return parts_of({name: value for name, value in state.items() if ".output." not in name}, checkpoint)


@pytest.mark.parametrize("parts", ["net", "net.category", "net.category.output.weight", "net.upstream,net.category"])
def test_permuted_classes_do_not_enter_the_head(settings, checkpoints, tmp_path, parts):
    given = [*settings, PERMUTED, f"init_from={checkpoints['four']}"]
    with pytest.raises(DataMismatchError, match=r"class_names=\['Neutral', 'Happy', 'Sad', 'Angry'\]"):
        begin(tmp_path, *given, f"init_only=[{parts}]")


def test_permuted_classes_leave_everything_below_the_head(settings, checkpoints, tmp_path):
    given = [*settings, PERMUTED, f"init_from={checkpoints['four']}", "init_only=[net.upstream,net.category.trunk]"]
    assert parts_of_trunk(begin(tmp_path, *given), checkpoints["four"]) == {"net.upstream", "net.category"}


def test_attributes_in_another_order_do_not_enter_their_head(msp_root, tmp_path):
    common = ["experiment=emotion/msp_wavlm_attributes", f"data.root={msp_root}"]
    file = drawn(untrained.write_run(tmp_path / "before", *common, "data.attributes=[valence,arousal]"))
    given = [*common, "data.attributes=[arousal,valence]", f"init_from={file}"]
    for more in ([], ["init_only=[net.upstream,net.attributes]"]):
        with pytest.raises(DataMismatchError, match=r"attribute_names=\['arousal', 'valence'\]"):
            begin(tmp_path, *given, *more)
    state = begin(tmp_path, *given, "init_only=[net.attributes.trunk]")
    assert parts_of_trunk(state, file) == {"net.attributes"}


def test_all_of_the_same_classes_is_loaded(settings, checkpoints, tmp_path):
    state = begin(tmp_path, *settings, FOUR, f"init_from={checkpoints['four']}")
    saved = torch.load(checkpoints["four"], weights_only=True)["state_dict"]
    assert state.keys() == saved.keys()
    assert all(torch.equal(value, saved[name]) for name, value in state.items())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["init_only=[upstream]"], r"the model has no weights in 'upstream'; the nearest parts are net\.upstream"),
        (["init_only=[]"], r"init_only=\[\]: give a list of parts, such as init_only=\[net\]"),
        (["init_only=net"], r"init_only=net: give a list of parts"),
        (["init_from=null", "init_only=[net]"], r"init_only: names parts .* init_from=FILE"),
    ],
)
def test_parts_that_cannot_be_meant_are_refused(settings, checkpoints, tmp_path, given, words):
    with pytest.raises(ConfigError, match=words):
        begin(tmp_path, *settings, f"init_from={checkpoints['eight']}", *given)
