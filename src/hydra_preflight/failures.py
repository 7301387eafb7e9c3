"""Which exceptions are a user's to mend, and what is said of them in place of a traceback."""

from __future__ import annotations

import dis
import re
from collections.abc import Iterator
from types import TracebackType

from hydra.errors import HydraException

from hydra_preflight.errors import ConfigError
from hydra_preflight.own_source import own_package
from hydra_preflight.project import OWN_PACKAGES

_MENDABLE = (ValueError, OSError, ModuleNotFoundError)
_RAISE = dis.opmap["RAISE_VARARGS"]
_FROM_WORKER = re.compile(r"Caught (\w+) in DataLoader worker process \d+\.\nOriginal Traceback")
_WORKER_FRAME = re.compile(r'^  File "(?P<path>.+)", line \d+, in .+\n    (?P<code>.+)$', re.MULTILINE)


def users_message(error: BaseException) -> str | None:
    """What to say of an exception that a user can mend; None for all others, which keep their traceback.

    Mendable are a ``ConfigError`` anywhere among the causes, and a ``ValueError``, ``OSError`` or
    ``ModuleNotFoundError`` that a ``raise`` in our own code or the project's has thrown, in this process or in a
    worker of a loader. What Hydra wraps around it does not count. The same exception from inside a library, or from
    an operation that failed unexpectedly, is a defect.
    """
    causes = list(_causes(error))
    found = next((cause for cause in causes if isinstance(cause, ConfigError)), None)
    if found is not None:
        return f"Configuration error:\n{found}"
    first = next((cause for cause in causes if not isinstance(cause, HydraException)), None)
    if isinstance(first, _MENDABLE):
        if _is_raised_by_us(first.__traceback__):
            return f"Error: {first}"
        if isinstance(first, PermissionError) and first.filename is not None:
            return f"Error: {first.filename}: {first.strerror}: you may not read or write there"
        return _from_worker(str(first))
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_raised_by_us(traceback: TracebackType | None) -> bool:
    """Whether the innermost frame belongs to us and stands at a ``raise``."""
    if traceback is None:
        return False
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    code, module = traceback.tb_frame.f_code, str(traceback.tb_frame.f_globals.get("__name__"))
    is_ours = module.split(".")[0] in OWN_PACKAGES or own_package().has(module)
    return is_ours and code.co_code[traceback.tb_lasti] == _RAISE


def _from_worker(text: str) -> str | None:
    """The message of an exception that torch carries out of a loader's worker as text, if it was raised by us."""
    if not _FROM_WORKER.match(text):
        return None
    *_, frame = _WORKER_FRAME.finditer(text)
    is_ours = any(f"/{package}/" in frame["path"] for package in OWN_PACKAGES)
    if not is_ours or not frame["code"].startswith("raise "):
        return None
    _, _, message = text[frame.end() :].partition("Error: ")
    return f"Error: {message.strip()}"
