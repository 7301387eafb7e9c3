"""Which tensors of a checkpoint a task begins with, and what is refused; the tests of the floors have real networks."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest
import torch

from hydra_preflight.errors import ConfigError, DataMismatchError
from hydraudio.core.initial_weights import load_weights

sys.path.append(str(Path(__file__).parents[1] / "toy"))

import toy_floor

LOW_HIGH = {"kind_names": ["low", "high"]}


def toy(kinds=("low", "high"), seed=0):
    torch.manual_seed(seed)
    task = toy_floor.ToyTask(toy_floor.Judge(len(kinds)), toy_floor.Ear(), list(kinds))
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.normal_()
    return task


def state_of(task):
    return {name: value.clone() for name, value in task.state_dict().items()}


def loaded(task, before, state):
    """Names of the tensors that are now the checkpoint's; all others are as they were."""
    names = {name for name, value in task.state_dict().items() if torch.equal(value, state.get(name, before[name] + 1))}
    assert all(torch.equal(task.state_dict()[name], before[name]) for name in before.keys() - names)
    return names


@pytest.mark.parametrize(
    ("parts", "names", "said"),
    [
        (None, {"net.weights.weight", "net.weights.bias", "ear.gain", "unshared"}, "4 tensors (13 values)"),
        (["net"], {"net.weights.weight", "net.weights.bias"}, "2 tensors (10 values): net; kept their new values: "),
        (
            ["net.weights.bias", "ear"],
            {"net.weights.bias", "ear.gain"},
            "kept their new values: unshared, net.weights.weight",
        ),
        (["net", "net.weights"], {"net.weights.weight", "net.weights.bias"}, "2 tensors (10 values): net;"),
    ],
)
def test_what_is_named_is_loaded_and_listed(caplog, parts, names, said):
    caplog.set_level(logging.INFO)
    task, state = toy(), state_of(toy(seed=1))
    before = state_of(task)
    load_weights(task, state, LOW_HIGH, "a.ckpt", parts)
    assert loaded(task, before, state) == names
    assert said in caplog.text


@pytest.mark.parametrize("part", ["net.weight", "ne", "", "net.", "net.weights.bias.0", "xyz"])
def test_a_part_that_is_nowhere_is_named_with_the_nearest(part):
    with pytest.raises(
        ConfigError, match=r"init_only: the model has no weights in .*; the nearest parts are .*net"
    ) as error:
        load_weights(toy(), state_of(toy()), LOW_HIGH, "a.ckpt", ["ear", part])
    assert repr(part) in str(error.value)


def test_a_part_that_the_checkpoint_lacks_is_named():
    state = state_of(toy())
    state["ears.gain"] = state.pop("ear.gain")
    with pytest.raises(ConfigError, match=r"init_only: a\.ckpt has no weights in 'ear'; the nearest parts are ears"):
        load_weights(toy(), state, LOW_HIGH, "a.ckpt", ["ear"])


@pytest.mark.parametrize("parts", [None, ["net", "ear"]])
@pytest.mark.parametrize("change", ["shape", "missing", "more"])
def test_a_tensor_that_does_not_fit_is_refused_with_what_does(parts, change):
    task, state = toy(), state_of(toy(seed=1))
    before = state_of(task)
    if change == "shape":
        state["net.weights.bias"] = torch.ones(3)
    elif change == "missing":
        del state["net.weights.bias"]
    else:
        state["net.weights.scale"] = torch.ones(1)
    with pytest.raises(ConfigError) as error:
        load_weights(task, state, LOW_HIGH, "a.ckpt", parts)
    text, found = str(error.value), "init_from: " if parts is None else "init_only=[net,ear]: "
    words = {
        "shape": "net.weights.bias has the shape (3,) there, (2,) here",
        "missing": "net.weights.bias is in the model alone",
        "more": "net.weights.scale is in the checkpoint alone",
    }
    assert text.startswith(f"{found}a.ckpt does not fit: {words[change]}; to load what fits of a.ckpt: init_only=[")
    assert loaded(task, before, {}) == set()
    load_weights(task, state, LOW_HIGH, "a.ckpt", text.rpartition("[")[2].rstrip("]").split(","))
    fits = {"net.weights.weight", "ear.gain"} | ({"net.weights.bias"} if change == "more" else set())
    assert loaded(task, before, state) == fits | ({"unshared"} if parts is None else set())


@pytest.mark.parametrize("parts", [None, ["ear"]])
def test_other_names_are_refused_wherever_a_task_does_not_say_where_they_matter(parts):
    task = toy(("high", "low"))
    before = state_of(task)
    with pytest.raises(
        DataMismatchError, match=r"kind_names=\['high', 'low'\].*\['low', 'high'\].*nothing of a\.ckpt fits"
    ):
        load_weights(task, state_of(toy(seed=1)), LOW_HIGH, "a.ckpt", parts)
    assert loaded(task, before, {}) == set()
