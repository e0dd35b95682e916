"""What several commands share: where the Hub is, and how results are printed."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from hubq.client.client import Client

Command = TypeVar("Command", bound=Callable[..., Any])
FILE = click.Path(dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)

hub_option = click.option(
    "--hub",
    metavar="URL|local",
    help="The Hub to use; `local` is the embedded one, started if needed. Default: HF_ENDPOINT, or "
    "huggingface.co. A saved login is sent only to huggingface.co, and HF_TOKEN only to the Hub "
    "that HF_ENDPOINT names.",
)
LOCAL = "local"  # the embedded Hub, for --hub
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")


def example(text: str) -> str:
    """Return the end of a command's help."""
    return f"\b\nExample:\n  {text}"


@contextmanager
def client_for(hub: str | None, org: str | None = None) -> Iterator["Client"]:
    """Give the client of a Hub; `local` serves one with that organization while it is needed."""
    from hubq.client.client import Client
    from hubq.client.credentials import talking_to

    if hub is None:
        yield Client()
    elif hub == LOCAL:
        from hubq.embedded_hub import local_hub

        with local_hub(org=org) as local, talking_to(local.endpoint, local.token):
            yield Client(endpoint=local.endpoint, token=local.token)
    else:
        _require_address(hub)
        with talking_to(hub.rstrip("/")):
            yield Client(endpoint=hub.rstrip("/"))


def _require_address(hub: str) -> None:
    from hubq.client.credentials import origin

    scheme, host, _ = origin(hub)
    if scheme not in ("http", "https") or not host or not hub.isascii() or set(hub) & set(" ?#@"):
        raise click.BadParameter(
            f"{hub} is not an address; write https://... or local", param_hint="--hub"
        )


def print_json(value: object) -> None:
    """Print a value as JSON, whole and alone on standard output."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
