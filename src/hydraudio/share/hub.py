"""What talking to the Hugging Face hub needs everywhere: a client, names, and its errors in plain words."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from hydraudio.core.pretrained import HUB_ID

if TYPE_CHECKING:
    from huggingface_hub import HfApi

COMMIT = re.compile(r"[0-9a-f]{40}")
TOKEN_VARIABLES = ("HUGGINGFACE_TOKEN", "HF_TOKEN")
_LOGIN = f"the hub wants a login: `hf auth login`, or a token in {' or '.join(TOKEN_VARIABLES)}"


class HubError(ValueError):
    """The hub did not do what was asked; the message says why and what helps."""


def check_repo_name(name: str) -> str:
    """The name itself.

    Raises:
        ValueError: it is not of the form OWNER/NAME.
    """
    if not HUB_ID.fullmatch(name):
        raise ValueError(f"{name!r} is not the name of a repository on the hub: give OWNER/NAME")
    return name


def hub_api(endpoint: str | None = None) -> HfApi:
    """A client of the hub with the token of the environment, or else of the stored login.

    Args:
        endpoint: address of the hub; None takes that of HF_ENDPOINT, or the public one.
    """
    from huggingface_hub import HfApi

    token = next((os.environ[name] for name in TOKEN_VARIABLES if os.environ.get(name)), None)
    return HfApi(endpoint=endpoint or os.environ.get("HF_ENDPOINT"), token=token, library_name="hydraudio")


@contextmanager
def explained(api: HfApi, action: str) -> Iterator[None]:
    """Turn the errors of huggingface_hub inside into :class:`HubError`.

    Args:
        api: the client that is used.
        action: what is tried, to begin the message with.
    """
    from huggingface_hub import errors

    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise HubError(f"{action}: {_LOGIN}") from error
    except errors.HfHubHTTPError as error:
        raise HubError(f"{action}: {_reason(error)}") from error
    except RuntimeError as error:  # what huggingface_hub makes of a file that could not be transferred
        is_refusal = isinstance(error.__cause__, errors.HfHubHTTPError)
        reason = _reason(error.__cause__) if is_refusal else f"the transfer failed ({_first_line(error)})"
        raise HubError(f"{action}: {reason}") from error
    except errors.OfflineModeIsEnabled as error:
        raise HubError(f"{action}: HF_HUB_OFFLINE forbids network access; unset it for this command") from error
    except (errors.LocalEntryNotFoundError, errors.HTTPError, ConnectionError) as error:
        raise HubError(
            f"{action}: {api.endpoint} cannot be reached ({_first_line(error)}). Is there a network? "
            "HF_ENDPOINT names another address"
        ) from error


def _reason(error: Any) -> str:
    """Why the hub refused, and what helps."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    status = error.response.status_code
    if isinstance(error, GatedRepoError):
        return "the repository is gated: accept its terms on its page, log in with `hf auth login`, and try again"
    if isinstance(error, RevisionNotFoundError):
        return "there is no such revision in the repository"
    if status == 401 and "Authorization" in error.response.request.headers:
        return f"the hub does not accept the token (401); check {' and '.join(TOKEN_VARIABLES)}, or log in again"
    if isinstance(error, RepositoryNotFoundError):
        return "there is no such repository, or it is private and you are not logged in (`hf auth login`)"
    if status == 401:
        return _LOGIN
    if status == 403:
        return "the token may not do this (403): it needs write access to repositories of this owner"
    if status >= 500:
        return f"the hub failed ({status}); nothing is wrong on this side, try again later"
    return f"the hub answered {status}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
