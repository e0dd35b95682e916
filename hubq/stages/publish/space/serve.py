"""Serve the Space on this machine: the app as it is, in a process of its own."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from hubq.client.client import Client
from hubq.client.credentials import environment_for, go_direct_to_loopback, refuse_unusable
from hubq.errors import UserError
from hubq.records.vocabulary import address, require_account
from hubq.stages.publish.space.contents import PACKAGE, app_folder


@dataclass(frozen=True)
class Place:
    """Where the Space listens; port 0 takes the first free one from 7860 on."""

    host: str = "127.0.0.1"
    port: int = 0


def serve(org: str | None, names: Sequence[str], place: Place, client: Client) -> int:
    """Serve until Ctrl-C and return the app's exit code; raise UserError where gradio is missing.

    `names` are repos of the Hub and folders here. The token goes by the environment: what stands
    in a command line is there for all users of the machine.
    """
    if find_spec("gradio") is None:
        raise UserError("gradio is not installed: pip install 'hubq[space]' brings it")
    for name in names:
        if not Path(name).exists():
            address(name)
    if org is not None:
        require_account(org)
    refuse_unusable()
    folder = app_folder()
    child = subprocess.Popen(
        [sys.executable, str(folder / "app.py")], env=environment(org, names, place, client)
    )
    try:
        return child.wait()
    except KeyboardInterrupt:  # the app got it too, and ends
        return child.wait()


def environment(
    org: str | None, names: Sequence[str], place: Place, client: Client
) -> dict[str, str]:
    """Return the environment in which the app shows these models there."""
    absolute = [str(Path(name).absolute()) if Path(name).exists() else name for name in names]
    values = {
        **environment_for(client.url, client.sent_token),
        "HUBQ_SPACE_ORG": org or "",
        "HUBQ_SPACE_MODELS": "\n".join(absolute),
        "GRADIO_SERVER_NAME": place.host,
        "PYTHONPATH": os.pathsep.join(
            filter(None, [str(PACKAGE.parent), os.environ.get("PYTHONPATH")])
        ),
    }
    if place.port:
        values["GRADIO_SERVER_PORT"] = str(place.port)
    go_direct_to_loopback(values)  # the app asks itself whether it runs
    return values
