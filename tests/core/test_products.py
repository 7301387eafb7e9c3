"""The route of float32 products is measured once, is float32's, and stays that of the run."""

import json

import pytest
import torch
from omegaconf import OmegaConf

from hydra_preflight import check_targets
from hydra_preflight.errors import ConfigError
from hydraudio.core import products
from hydraudio.core.products import Measured, measured, route_in_use, use_products
from hydraudio.core.trainer import Trainer

FASTER, SLOWER, ROUNDING = Measured(2.2, 8e-7), Measured(1.02, 8e-7), Measured(4.0, 3e-3)


@pytest.fixture(autouse=True)
def own_machine(tmp_path, monkeypatch):
    """A machine that has measured nothing yet, and whose route comes back after the test."""
    before = torch.backends.mkldnn.matmul.fp32_precision
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    measured.cache_clear()
    yield
    measured.cache_clear()
    torch.backends.mkldnn.matmul.fp32_precision = before


def machine(monkeypatch, found: Measured) -> None:
    monkeypatch.setattr(products, "_measure", lambda: found)


@pytest.mark.parametrize(
    ("found", "route"), [(FASTER, "onednn"), (SLOWER, "reference"), (ROUNDING, "reference")], ids=str
)
def test_auto_takes_the_faster_route_whose_error_is_that_of_float32(monkeypatch, found, route):
    machine(monkeypatch, found)
    assert use_products("auto") == route_in_use() == route


def test_products_of_the_route_taken_have_the_error_of_float32():
    use_products("auto")
    x, weight = torch.randn(300, 700), torch.randn(200, 700)
    exact = x.double() @ weight.double().T
    assert (x @ weight.T - exact).abs().max() < 1e-5 * exact.abs().max()


def test_one_measurement_serves_all_later_starts(tmp_path, monkeypatch):
    first = measured()
    assert first.speedup > 0
    measured.cache_clear()
    machine(monkeypatch, ROUNDING)
    assert measured() == first
    (known,) = json.loads((tmp_path / "hydraudio" / "products.json").read_text()).values()
    assert known == {"speedup": first.speedup, "error": first.error}


def test_another_number_of_threads_is_another_measurement(monkeypatch):
    machine(monkeypatch, FASTER)
    assert measured() == FASTER
    measured.cache_clear()
    machine(monkeypatch, SLOWER)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    assert measured() == SLOWER


def test_a_home_that_cannot_be_written_costs_a_measurement_only(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    machine(monkeypatch, FASTER)
    assert use_products("auto") == "onednn"


def test_a_damaged_file_of_measurements_is_named(tmp_path):
    path = tmp_path / "hydraudio" / "products.json"
    path.parent.mkdir()
    path.write_text("{")
    with pytest.raises(ValueError, match=r"products\.json is damaged .*: delete it"):
        measured()


def test_onednn_is_refused_where_it_rounds(monkeypatch):
    machine(monkeypatch, ROUNDING)
    with pytest.raises(ValueError, match=r"products=onednn: .* rounds the factors .*products=reference"):
        use_products("onednn")


def test_unknown_setting():
    with pytest.raises(ValueError, match="products=mkl must be one of auto, reference, onednn"):
        use_products("mkl")


def trainer(setting: str) -> Trainer:
    return Trainer(products=setting, accelerator="cpu", logger=False, enable_progress_bar=False)


def test_a_continued_run_keeps_its_route_unless_told_otherwise(monkeypatch):
    machine(monkeypatch, SLOWER)
    trainer("auto").keep_products("onednn")
    assert route_in_use() == "onednn"
    trainer("reference").keep_products("onednn")
    assert route_in_use() == "reference"


def test_arguments_of_the_trainer_are_checked_as_those_of_lightnings():
    node = {"_target_": "hydraudio.core.trainer.Trainer", "products": "auto", "max_epoch": 3}
    with pytest.raises(ConfigError, match="max_epoch"):
        check_targets(OmegaConf.create({"trainer": node}))
