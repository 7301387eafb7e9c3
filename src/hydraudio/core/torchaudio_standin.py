"""A stand-in for `torchaudio._extension`, so that torchaudio's Python part imports on a CPU build of torch.

The torchaudio wheels of PyPI link CUDA libraries and load them on import, so `import torchaudio`, and with it
`import speechbrain`, fails where torch was built without CUDA. Both serve only as references in tests and benchmarks.
Call `install_torchaudio_standin()` before the first import of either; nothing on disk changes. What needs torchaudio's
compiled part (`forced_align`, `rnnt_loss`, the fast `lfilter`) stays unavailable.
"""

import sys
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

import torch

_NAME = "torchaudio._extension"


def install_torchaudio_standin() -> bool:
    """Put the stand-in in place where it is needed; True if this call did.

    Does nothing where torch has CUDA, torchaudio is not installed, or torchaudio has been imported already.
    """
    needed = torch.version.cuda is None and "torchaudio" not in sys.modules and _NAME not in sys.modules
    if not needed or find_spec("torchaudio") is None:
        return False
    sys.modules[_NAME] = _standin()
    return True


def _standin() -> ModuleType:
    module = ModuleType(_NAME, "Stand-in by hydraudio: torchaudio without its compiled part.")
    module.__dict__.update(
        _IS_TORCHAUDIO_EXT_AVAILABLE=False,
        _IS_ALIGN_AVAILABLE=False,
        _check_cuda_version=lambda: None,
        _load_lib=lambda name: False,
        fail_if_no_align=_fail_without_extension,
    )
    return module


def _fail_without_extension(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: the decorated function raises, because it needs torchaudio's compiled part."""

    def fail(*args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError(
            f"{function.__name__} needs torchaudio's compiled part, which does not load on a CPU build of torch"
        )

    return fail
