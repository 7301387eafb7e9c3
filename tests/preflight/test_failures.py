"""Which exceptions are said in a sentence, and which keep their traceback."""

from __future__ import annotations

import pytest
import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from torch.utils.data import DataLoader, Dataset

from hydra_preflight.errors import ConfigError
from hydra_preflight.failures import users_message
from hydraudio.core.options import check_choice, check_positive


def raised(function, *arguments) -> BaseException:
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return caught.value


class Broken(Dataset):
    """Fails in the way that the project's corpora fail, or as a library does."""

    def __init__(self, ours: bool) -> None:
        self.ours = ours

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.ours:
            check_choice("problem", "XX", ("ES", "SB"))
        return torch.zeros(2).reshape(3)


def test_what_our_code_raises_is_said():
    assert users_message(raised(check_choice, "problem", "XX", ("ES", "SB"))).startswith("Error: problem='XX' is unkn")
    config = {"_target_": "hydraudio.core.options.check_choice", "name": "problem", "value": "XX", "choices": ["ES"]}
    error = raised(instantiate, config)
    assert isinstance(error, InstantiationException)
    assert users_message(error).startswith("Error: problem='XX' is unknown")
    assert users_message(ConfigError("key: remedy")) == "Configuration error:\nkey: remedy"


def test_what_fails_unexpectedly_keeps_its_traceback():
    assert users_message(raised(check_positive, "length", "x")) is None  # a comparison inside our code
    assert users_message(raised(torch.zeros(2).reshape, 3)) is None
    assert users_message(raised(int, "x")) is None
    assert users_message(ValueError("never raised")) is None
    assert users_message(raised(instantiate, {"_target_": "torch.nn.Conv1d", "in_channels": -1})) is None


@pytest.mark.parametrize("ours", [True, False])
def test_the_words_of_a_loaders_worker(ours):
    loader = DataLoader(Broken(ours), num_workers=1)
    error = raised(lambda: next(iter(loader)))
    message = users_message(error)
    if ours:
        assert message is not None
        assert message.startswith("Error: problem='XX' is unknown")
        assert "\n" not in message
    else:
        assert message is None


def test_a_file_that_may_not_be_read(tmp_path):
    error = PermissionError(13, "Permission denied", str(tmp_path / "a.wav"))
    assert users_message(error) == f"Error: {tmp_path / 'a.wav'}: Permission denied: you may not read or write there"
