"""The second part of the check: other packages' classes are located safely and their arguments bound."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from hydra_preflight import check_targets
from hydra_preflight.errors import ConfigError
from hydra_preflight.whitelist import clean_prefixes, locate, refusal


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Linear",
        "torch.optim.Adam",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "lightning.pytorch.Trainer",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "lightning.pytorch.loggers.TensorBoardLogger",
        "lightning.pytorch.plugins.environments.SLURMEnvironment",
        "torchmetrics.MeanMetric",
    ],
)
def test_what_experiments_need_is_found(target: str) -> None:
    assert refusal(target, ()) is None
    assert callable(locate(target, ()))


HOSTILE = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "torch.load",
    "torch.hub.load",
    "torch.nn.modules.os.system",
    "torch.nn.Module.load_state_dict",
    "torch.nn.modules.module.OrderedDict",
    "torch.nn.modules.module.Path",
    "torch.nn.Linear.__class__",
    "torch.nn.init.uniform_",
    "torch.optim.optimizer.torch.load",
    "torch.optim.optimizer.deepcopy",
    "torch.optim.swa_utils.get_ema_multi_avg_fn",
    "transformers.AutoModel",
    "torchmetrics.BLEUScore",
    "torchmetrics.text.bert.BERTScore",
    "torch.optim.lr_scheduler.Counter",
    "lightning.pytorch.cli.LightningCLI",
    "lightning.pytorch.trainer.trainer.os.system",
    "lightning.pytorch.callbacks.Callback.__init__.__globals__",
    "hydra.utils.get_method",
    "hydra._internal.instantiate._instantiate2.instantiate",
    "functools.partial",
    "torch.nn..Linear",
    "",
]


@pytest.mark.parametrize("target", HOSTILE)
def test_everything_else_is_refused(target: str) -> None:
    with pytest.raises(ConfigError):
        check_targets(OmegaConf.create({"x": {"_target_": target}}))


def test_nothing_is_imported_when_a_name_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "imported_by_mistake.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    cfg = OmegaConf.create({"model": {"_target_": "imported_by_mistake.A"}, "b": {"_target_": "os.system"}})
    with pytest.raises(ConfigError, match=r"os\.system"):
        check_targets(cfg, trusted_prefixes=["imported_by_mistake"])
    assert "imported_by_mistake" not in sys.modules


@pytest.mark.parametrize("prefix", ["os", "subprocess.", "builtins", "hydra", "a b", "", "pickle"])
def test_some_packages_can_never_be_trusted(prefix: str) -> None:
    with pytest.raises(ConfigError, match="trusted_targets"):
        clean_prefixes([prefix])


def test_trusted_packages_give_what_they_define_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "trusted_here.py").write_text("import os\nfrom os import system\nclass Net: ...\ndef make(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    trusted = clean_prefixes(["trusted_here."])
    assert locate("trusted_here.Net", trusted).__name__ == "Net"
    assert locate("trusted_here.make", trusted).__name__ == "make"
    for hostile in ("trusted_here.system", "trusted_here.os.system", "trusted_here.os"):
        with pytest.raises(ConfigError):
            locate(hostile, trusted)
    sys.modules.pop("trusted_here")


def message(**node: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        check_targets(OmegaConf.create({"model": {"node": node}}), origin="checkpoint x.ckpt")
    return str(caught.value)


def test_arguments_of_other_packages_are_bound() -> None:
    good = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3, "betas": [0.9, 0.99]}
    linear = {"_target_": "torch.nn.Linear", "_args_": [2, 3]}
    check_targets(OmegaConf.create({"model": {"optimizer": good, "l": linear}}))
    text = message(_target_="torch.optim.Adam", _partial_=True, weight_decai=0.1)
    assert text.startswith("checkpoint x.ckpt: model.node.weight_decai: torch.optim.Adam has no argument")
    assert "Nearest valid key: model.node.weight_decay." in text
    assert "'abc' is of the wrong type" in message(_target_="torch.optim.Adam", _partial_=True, lr="abc")
    assert "needs the argument 'out_features'" in message(_target_="torch.nn.Linear", in_features=3)
    assert "expected int" in message(_target_="torch.nn.Linear", in_features="x", out_features=3)
    assert "Nearest valid key: torch.optim.Adam." in message(_target_="torch.optim.Adamm", _partial_=True)
    with pytest.raises(ConfigError, match=r"Nearest valid key: trainer\.max_epochs"):
        check_targets(OmegaConf.create({"trainer": {"_target_": "lightning.pytorch.Trainer", "max_epoch": 3}}))
    nested = message(_target_="torch.nn.Sequential", _args_=[{"_target_": "torch.nn.Linear", "in_featurs": 3}])
    assert "model.node._args_.0.in_featurs" in nested


@pytest.mark.parametrize(
    "value",
    [
        "${oc.create:'{_target_: os.system, command: ${data_attribute:n}}'}",
        "${oc.select:nothing,{_target_:os.system,command:${data_attribute:n}}}",
        "${oc.create:'{_target_: os.system, command: ${oc.env:SET_LATER_ON}}'}",
        "${data_attribute:${oc.env:SET_LATER_ON}}",
    ],
)
def test_a_target_cannot_hide_behind_a_value_that_is_known_later(value: str) -> None:
    from hydra_preflight.resolvers import register_resolvers

    register_resolvers()
    with pytest.raises(ConfigError, match="interpolation failed"):
        check_targets(OmegaConf.create({"x": {"y": value}}))


def test_a_path_from_another_machine_may_fail() -> None:
    check_targets(OmegaConf.create({"data": {"root": "${oc.env:NOT_SET_HERE}/corpus"}}))


def test_arguments_known_after_the_data_are_not_compared() -> None:
    from hydra_preflight.resolvers import register_resolvers

    register_resolvers()
    node = {"_target_": "torch.nn.Linear", "in_features": "${data_attribute:n}", "out_features": 3}
    other = {"_target_": "torch.nn.ReLU", "inplace": "${model.net.bias}"}
    check_targets(OmegaConf.create({"model": {"net": {**node, "bias": True}, "other": other}}))
