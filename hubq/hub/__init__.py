"""The embedded Hugging Face Hub: what the real client speaks to, on your own machine."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hubq.hub.administration import add_org, add_user, mint_token, revoke_token
    from hubq.hub.app import create_app
    from hubq.hub.checking import fsck
    from hubq.hub.local import LocalHub, default_root, local_hub
    from hubq.hub.serving import Running, find_running, serve

__all__ = [
    "LocalHub",
    "Running",
    "add_org",
    "add_user",
    "create_app",
    "default_root",
    "find_running",
    "fsck",
    "local_hub",
    "mint_token",
    "revoke_token",
    "serve",
]

_HOMES = {
    "LocalHub": "local",
    "Running": "serving",
    "add_org": "administration",
    "add_user": "administration",
    "create_app": "app",
    "default_root": "local",
    "find_running": "serving",
    "fsck": "checking",
    "local_hub": "local",
    "mint_token": "administration",
    "revoke_token": "administration",
    "serve": "serving",
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: a server is heavy to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
