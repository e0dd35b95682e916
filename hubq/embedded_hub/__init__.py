"""The embedded Hugging Face Hub: what the real client speaks to, on your own machine.

For demos, tests and private work: requests of huggingface_hub, transformers, git and browsers come
in by HTTP, and the answers that the real Hub gives go out; repos, large files and accounts stay in
one folder. Of hubq it imports `errors` and what of `records` a Hub knows: `vocabulary` (names,
languages, licenses), `parsing`, `card_rules` and `model_index` (what a card must hold); of hubq,
the command line alone imports it.

A module imports only those above it in this list, or before it on its line:

    refusals markdown templates              what is refused and shown; nothing is kept
    storage xet_formats                      bytes: SQLite, large files, what Xet clients send
    accounts history xet                     who asks; git repositories, read; the Xet store
    repositories committing                  the list of repos with their rights; git, written
    eval_results                             what a result must hold
    hub                                      all stores, opened together
    description requests                     what is said of a repo; a request, its visitor admitted
    collections discussions routing          ... and pull requests; which handler a path means
    api                                      the handlers, one file a subject
    app                                      the ASGI application
    serving                                  one server for a folder
    local                                    the owner's door, from Python

Public names are imported when they are first used, and uvicorn and `app` inside the functions that
serve: a client that looks for a running server needs none of them.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from hubq.errors import UserError

if TYPE_CHECKING:
    from hubq.embedded_hub.app import create_app
    from hubq.embedded_hub.local import (
        LocalHub,
        add_org,
        add_user,
        default_root,
        fsck,
        local_hub,
        mint_token,
        revoke_token,
    )
    from hubq.embedded_hub.serving import Running, find_running, serve

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
    "add_org": "local",
    "add_user": "local",
    "create_app": "app",
    "default_root": "local",
    "find_running": "serving",
    "fsck": "local",
    "local_hub": "local",
    "mint_token": "local",
    "revoke_token": "local",
    "serve": "serving",
}


_NEEDED = ("blake3", "dulwich", "lz4", "markdown_it", "starlette", "uvicorn")


def __getattr__(name: str) -> object:
    """Load a public name when it is first used: a server is heavy to import.

    Raises UserError when the packages that the hub needs are not installed.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if missing := [package for package in _NEEDED if find_spec(package) is None]:
        raise UserError(
            f"The embedded hub needs {', '.join(missing)}. Install them: pip install 'hubq[hub]'"
        )
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
