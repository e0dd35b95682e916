"""Commands around a Hub: download and verify, serve a Hub, diagnose."""

from pathlib import Path

import click

from hubq.cli.bars import progress
from hubq.cli.options import FOLDER, client_for, example, hub_option, json_option, print_json
from hubq.machine.files import gigabytes

DAY = 24 * 3600.0  # seconds
BYTES = ("memory", "cache_free")  # of what doctor found, in bytes


@click.command(epilog=example("hubq pull hubq-demo/SmolLM2-135M-Instruct-AWQ-4bit --hub local"))
@click.argument("repo")
@click.argument("folder", type=FOLDER, required=False)
@click.option(
    "--update", is_flag=True, help="Bring what main holds now, where an older commit was brought."
)
@hub_option
@json_option
def pull(repo: str, folder: Path | None, update: bool, hub: str | None, as_json: bool) -> None:
    """Download a repo and verify every byte of it.

    REPO is org/name or org/name@revision; without a FOLDER it goes into from_pretrained's cache.
    The commit is remembered: a second time brings the same one, and says if main has moved since.
    """
    from hubq.client.pinned import bring

    with client_for(hub) as client:
        brought = bring(repo, folder, client, progress(), update=update)
    if brought.moved:
        click.echo(brought.moved, err=True)
    if as_json:
        print_json(brought.as_json(repo))
    else:
        click.echo(f"commit {brought.commit}", err=True)
        click.echo(brought.folder)


@click.group()
def hub() -> None:
    """Serve the embedded Hub, and create tokens for it."""


@hub.command(epilog=example("hubq hub serve --port 8123"))
@click.option("--root", type=FOLDER, help="Where repos are stored.  [default: the user's cache]")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8123, show_default=True, help="0 picks a free one.")
@click.option(
    "--allow-remote",
    is_flag=True,
    help="Let other machines connect: there is no TLS and no rate limit.",
)
def serve(root: Path | None, host: str, port: int, allow_remote: bool) -> None:
    """Serve a Hub for huggingface_hub, transformers and git, until Ctrl-C."""
    from hubq.embedded_hub import default_root
    from hubq.embedded_hub import serve as run

    place = root or default_root()
    run(
        place,
        host=host,
        port=port,
        ready=lambda endpoint: click.echo(
            f"serving {place} at {endpoint}\n"
            f"To see private repos in a browser, sign in at {endpoint}/login with any name and a "
            "token, which hubq hub token creates"
        ),
        allow_remote=allow_remote,
    )


@hub.command(epilog=example("hubq hub token --org hubq-demo"))
@click.option("--root", type=FOLDER, help="The hub's folder.  [default: the user's cache]")
@click.option("--user", default="local", show_default=True, help="Created if missing.")
@click.option("--org", help="An organization that the user may write to; created if missing.")
@click.option("--role", type=click.Choice(["read", "write"]), default="write", show_default=True)
@click.option("--days", type=float, help="Days until it expires.  [default: never]")
def token(root: Path | None, user: str, org: str | None, role: str, days: float | None) -> None:
    """Create a token for the embedded Hub and print it; it is shown only once.

    To use it, set HF_ENDPOINT to the Hub's address and HF_TOKEN to the token, both together.
    """
    from hubq.embedded_hub import add_org, add_user, default_root, mint_token

    place = root or default_root()
    add_user(place, user)
    if org is not None:
        add_org(place, org, [user])
    lifetime = None if days is None else days * DAY
    click.echo(
        mint_token(
            place, user=user, role="read" if role == "read" else "write", expires_in=lifetime
        )
    )


@click.command(epilog=example("hubq doctor --json"))
@hub_option
@json_option
def doctor(hub: str | None, as_json: bool) -> None:
    """Report what works on this machine: libraries, devices, formats, token."""
    from hubq.cli.diagnosis import diagnose

    with client_for(hub) as client:
        found = diagnose(client).model_dump(mode="json")
    if as_json:
        print_json(found)
    else:
        _print_values(found)


def _print_values(values: dict[str, object], indent: str = "") -> None:
    """Print values line by line, those inside a value below it."""
    width = max(map(len, values))
    for name, value in values.items():
        title = f"{indent}{name.replace('_', ' '):{width}}"
        if isinstance(value, dict):
            click.echo(title.rstrip())
            _print_values(value, indent + "  ")
        else:
            click.echo(f"{title}  {_spelled(name, value)}")


def _spelled(name: str, value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    return gigabytes(value) if isinstance(value, int) and name in BYTES else str(value)
