"""The command that says whether a release is what it says."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from hubq.cli.bars import progress
from hubq.cli.options import FILE, client_for, example, hub_option, json_option, print_json
from hubq.errors import UserError

if TYPE_CHECKING:
    from hubq.client.client import Client
    from hubq.stages.verify.gather import Subject, Trust
    from hubq.stages.verify.verify import Verification

FAILED = 3  # the exit code: not that of any other error


@click.command(epilog=example("hubq verify org/name --key publisher.pub"))
@click.argument("target", metavar="REPO_OR_FOLDER")
@click.option("--key", type=FILE, help="The public half of the key that must have signed, in PEM.")
@click.option("--identity", help="Who must have signed, by Sigstore: an e-mail or a workflow.")
@click.option("--issuer", metavar="URL", help="With --identity: who says that it is them.")
@click.option(
    "--require-signature", is_flag=True, help="Fail without a signature by the key or identity."
)
@click.option(
    "--download", is_flag=True, help="Hash the weights' bytes too, not only what the Hub lists."
)
@hub_option
@json_option
def verify(  # noqa: PLR0913 - the options of a command
    target: str,
    key: Path | None,
    identity: str | None,
    issuer: str | None,
    require_signature: bool,
    download: bool,
    hub: str | None,
    as_json: bool,
) -> None:
    """Say whether a release is what it says: its files, its signature, its card, its bits.

    REPO_OR_FOLDER is org/name or org/name@revision, or the folder of a download. Each check is ok,
    failed or unknown, with the reason. The exit code is 3 if one failed, and 0 if none did: what
    was not signed is unknown. A release of anybody's is looked at; most can be said of hubq's.
    """
    from hubq.stages.verify.verify import verify as verified

    trust = _trust(key, identity, issuer, required=require_signature)
    with client_for(hub) as client:
        found = verified(_subject(target, client, trust, whole=download))
    if as_json:
        print_json(found.as_json())
    else:
        _tell(found)
    if found.failed:
        click.get_current_context().exit(FAILED)


def _trust(
    key: Path | None, identity: str | None, issuer: str | None, *, required: bool
) -> "Trust":
    """Read whom the user trusts."""
    from hubq.stages.verify.gather import Trust

    if key and identity:
        raise click.UsageError("--key and --identity are two ways to sign: name one")
    if bool(identity) != bool(issuer):
        raise click.UsageError("--identity and --issuer belong together")
    if key and not key.is_file():
        raise UserError(f"there is no file {key}; --key names the publisher's public key")
    return Trust(key, identity, issuer, required)


def _subject(target: str, client: "Client", trust: "Trust", *, whole: bool) -> "Subject":
    from hubq.stages.verify.gather import folder_subject, repo_subject

    if Path(target).is_dir():
        return folder_subject(Path(target), client, trust)
    if target.startswith((".", "/", "~")) or target.partition("@")[0].count("/") != 1:
        raise UserError(f"there is no folder {target}; name one, or a repo as org/name")
    return repo_subject(target, client, trust, progress(), whole=whole)


def _tell(found: "Verification") -> None:
    """Print each check, then what comes of them all."""
    click.echo(found.release)
    for check, status, reason in found.findings:
        click.echo(f"  {status:7}  {check:14}  {reason}")
    unknown = sum(each.status == "unknown" for each in found.findings)
    click.echo(f"{len(found.failed)} failed, {unknown} unknown of {len(found.findings)} checks")
