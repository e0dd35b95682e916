"""Which token goes to which Hub: only the one that was made for it, or named together with it.

A saved login (`hf auth login`) is for huggingface.co. HF_TOKEN is for the Hub that HF_ENDPOINT
names beside it, and for huggingface.co where that isn't set. A `--hub` of another address gets
neither.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

REAL = "https://huggingface.co"
NAMED = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE")  # by the environment
SILENCE = "HF_HUB_DISABLE_IMPLICIT_TOKEN"
PORTS = {"http": 80, "https": 443}


def origin(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a URL: what browsers call its origin."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError:  # no URL, and so of nobody's origin
        return "", url, None
    return parts.scheme.lower(), (parts.hostname or "").lower(), port


def token_for(url: str) -> str | None:
    """Return the user's own token for the Hub at this address; None where they named none."""
    from huggingface_hub import constants, get_token

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN or origin(url) != origin(_home()):
        return None
    return get_token()


def _home() -> str:
    """Return the address of the Hub that the user's own token is for."""
    is_named = any(os.environ.get(name) for name in NAMED)
    return (os.environ.get("HF_ENDPOINT") if is_named else None) or REAL


def how_to_log_in(url: str) -> str:
    """Say how a user gives a token for the Hub at this address."""
    if origin(url) == origin(REAL):
        return "hf auth login, or set HF_TOKEN"
    return f"set HF_ENDPOINT={url} and HF_TOKEN to a token of that Hub, both, beside the command"


def environment_for(hub: str, token: str | None) -> dict[str, str]:
    """Return the environment of a process that talks to this Hub, with this token or with none."""
    values = {name: value for name, value in os.environ.items() if name not in (*NAMED, SILENCE)}
    values["HF_ENDPOINT"] = hub
    return values | ({SILENCE: "1"} if token is None else {"HF_TOKEN": token})


@contextmanager
def talking_to(hub: str, token: str | None = None) -> Iterator[None]:
    """Let libraries of this process and its children talk to a Hub: with a token or the user's."""
    before = dict(os.environ)
    changed = environment_for(hub, token or token_for(hub))
    try:
        _become(changed)
        yield
    finally:
        _become(before)


def _become(environment: Mapping[str, str]) -> None:
    """Make the environment of this process that one."""
    for name in (*NAMED, SILENCE, "HF_ENDPOINT"):
        os.environ.pop(name, None)
        if name in environment:
            os.environ[name] = environment[name]
