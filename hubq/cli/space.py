"""Commands around the Space: look at models on this machine, put it on a Hub."""

import click

from hubq.cli.options import client_for, example, hub_option, json_option, print_json


@click.group()
def space() -> None:
    """Compare released models side by side, here or in a Space on the Hub."""


@space.command(epilog=example("hubq space run runs/* --org your-org"))
@click.argument("models", metavar="[RUN_OR_REPO]...", nargs=-1)
@click.option("--org", help="Show the models of this organization on the Hub.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, help="Default: the first free one from 7860 on.")
@click.option("--allow-remote", is_flag=True, help="Let other machines in: there is no password.")
@hub_option
@click.pass_context
def run(  # noqa: PLR0913 - click passes each option by itself
    context: click.Context,
    models: tuple[str, ...],
    org: str | None,
    host: str,
    port: int,
    allow_remote: bool,
    hub: str | None,
) -> None:
    """Open the comparison on this machine, until Ctrl-C.

    RUN_OR_REPO is a run folder, a folder of such folders, or org/name on the Hub.
    """
    from hubq.proxies import LOOPBACK
    from hubq.space.serve import Place, serve

    if not models and org is None:
        raise click.UsageError("name models (run folders or org/name), or an --org")
    if host not in LOOPBACK and not allow_remote:
        raise click.UsageError(f"{host} lets other machines in; say --allow-remote to do so")
    with client_for(hub, org) as client:
        context.exit(serve(org, models, Place(host, port), client))


@space.command(epilog=example("hubq space deploy --org your-org --hardware t4-small"))
@click.option("--org", required=True, help="The organization whose models it shows.")
@click.option("--name", help="The Space's name.  [default: compare]")
@click.option("--hardware", metavar="FLAVOR", help="cpu-basic, t4-small, zero-a10g, ...")
@click.option("--private", is_flag=True, help="Show the Space to the organization only.")
@click.option(
    "--token-from",
    metavar="VARIABLE",
    help="Give the Space the token in this environment variable: for private models and votes.",
)
@click.option("--votes", metavar="ORG/NAME", help="Keep visitors' votes in this data set repo.")
@click.option("--index", metavar="URL", help="One more package index, as for CPU builds of torch.")
@hub_option
@json_option
def deploy(  # noqa: PLR0913 - click passes each option by itself
    org: str,
    name: str | None,
    hardware: str | None,
    private: bool,
    token_from: str | None,
    votes: str | None,
    index: str | None,
    hub: str | None,
    as_json: bool,
) -> None:
    """Create or update a Space on the Hub; deploying twice changes nothing."""
    from hubq.cli.bars import progress
    from hubq.space import deploy as stage
    from hubq.space.settings import Settings
    from hubq.space.settings import token_from as read

    token = None if token_from is None else read(token_from)
    settings = Settings(org=org, private=private, hardware=hardware, token=token, votes=votes)
    with client_for(hub, org) as client:
        done = stage.deploy(name or stage.NAME, settings, client, progress(), index)
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    click.echo(f"{done.url} ({done.hardware}){'' if done.changed else ': nothing had changed'}")
    if done.hides_models:
        click.echo(
            "Some models are private: visitors don't see them. --token-from VARIABLE gives the "
            "Space a token that may read them.",
            err=True,
        )
