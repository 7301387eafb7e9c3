"""`trainer.precision=auto` on devices that are pretended."""

from __future__ import annotations

import logging

import pytest
import torch

from hydraudio.core.precision import settle_precision


@pytest.mark.parametrize(
    ("accelerator", "capability", "native_bf16", "expected"),
    [
        ("gpu", (9, 0), True, "bf16-mixed"),
        ("auto", (8, 0), True, "bf16-mixed"),
        ("gpu", (7, 5), False, "16-mixed"),
        ("gpu", (6, 1), False, "32-true"),
        ("cpu", (9, 0), True, "32-true"),
        ("mps", None, False, "32-true"),
        ("auto", None, False, "32-true"),
    ],
)
def test_what_the_device_computes_natively(monkeypatch, caplog, accelerator, capability, native_bf16, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a device")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native_bf16
    )
    settings = {"accelerator": accelerator, "precision": "auto"}
    with caplog.at_level(logging.INFO):
        settle_precision(settings)
    assert settings["precision"] == expected
    (line,) = caplog.messages
    assert expected in line


def test_a_chosen_precision_stays(caplog):
    settings = {"accelerator": "gpu", "precision": "16-mixed"}
    settle_precision(settings)
    assert settings["precision"] == "16-mixed"
    assert not caplog.messages
