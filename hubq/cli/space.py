"""Commands around the Space: look at models on this machine, put it on a Hub."""

from pathlib import Path

import click

from hubq.cli.bars import progress
from hubq.cli.options import FOLDER, client_for, example, hub_option, json_option, print_json


@click.group()
def space() -> None:
    """Compare released models side by side, on this machine or in a Space."""


@space.command(epilog=example("hubq space run runs/* --org your-org"))
@click.argument("models", metavar="[RUN_OR_REPO]...", nargs=-1)
@click.option("--org", help="Show the models of this organization on the Hub.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, help="Default: the first free port from 7860 on.")
@click.option(
    "--allow-remote", is_flag=True, help="Let other machines connect: there is no password."
)
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
    """Serve the Space on this machine, until Ctrl-C.

    RUN_OR_REPO is a run folder, a folder of run folders, or org/name on the Hub.
    """
    from hubq.client.credentials import LOOPBACK
    from hubq.stages.publish.space.serve import Place, serve

    if not models and org is None:
        raise click.UsageError("name models (run folders or org/name), or an --org")
    if host not in LOOPBACK and not allow_remote:
        raise click.UsageError(
            f"{host} lets other machines connect; add --allow-remote to allow that"
        )
    with client_for(hub, org) as client:
        context.exit(serve(org, models, Place(host, port), client))


@space.command(epilog=example("hubq space deploy --org your-org --hardware t4-small"))
@click.option("--org", required=True, help="The organization whose models to show.")
@click.option("--name", help="The Space's name.  [default: compare]")
@click.option("--hardware", metavar="FLAVOR", help="cpu-basic, t4-small, zero-a10g, ...")
@click.option("--private", is_flag=True, help="Show the Space to the organization only.")
@click.option(
    "--token-from",
    metavar="VARIABLE",
    help="Give the Space the token from this environment variable, for private models and votes.",
)
@click.option("--votes", metavar="ORG/NAME", help="Store visitors' votes in this dataset repo.")
@click.option(
    "--index", metavar="URL", help="An extra package index, such as for CPU builds of torch."
)
@click.option(
    "--static", is_flag=True, help="Deploy numbers, charts and cards only: needs no paid plan."
)
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
    static: bool,
    hub: str | None,
    as_json: bool,
) -> None:
    """Create or update a Space on the Hub; deploying twice changes nothing.

    The real Hub runs apps for accounts with a paid plan (PRO, Team, Enterprise) only. Where it
    refuses one, this says so and deploys a static page with the numbers, charts and cards.
    """
    from hubq.stages.publish.space import deploy as stage
    from hubq.stages.publish.space.settings import Settings
    from hubq.stages.publish.space.settings import token_from as read

    token = None if token_from is None else read(token_from)
    settings = Settings(org, private, hardware, token, votes, static)
    with client_for(hub, org) as client:
        options = stage.DeploymentOptions(
            progress(), index, lambda sentence: click.echo(sentence, err=True)
        )
        done = stage.deploy(name or stage.NAME, settings, client, options)
    if as_json:
        print_json(done.model_dump(mode="json"))
        return
    kind = done.hardware or "static page"
    click.echo(f"{done.url} ({kind}){'' if done.changed else ': nothing had changed'}")
    if done.hides_models:
        click.echo(_hidden(done.sdk), err=True)


def _hidden(sdk: str) -> str:
    """Say why some models are not shown, and the way out."""
    if sdk == "static":
        return (
            "Some models are private or gated: a public page doesn't show them. --private makes "
            "a page of all models, for the organization only."
        )
    return (
        "Some models are private: visitors don't see them. --token-from VARIABLE gives the Space a "
        "token that may read them."
    )


@space.command(epilog=example("hubq space build page model_cards/* --org your-org"))
@click.argument("folder", type=FOLDER)
@click.argument("models", metavar="[RUN_OR_REPO]...", nargs=-1)
@click.option("--org", help="Show the models of this organization on the Hub.")
@hub_option
def build(folder: Path, models: tuple[str, ...], org: str | None, hub: str | None) -> None:
    """Write numbers, charts and cards into FOLDER, as a page that any web server can serve.

    RUN_OR_REPO is a run folder, a folder with a report, or org/name on the Hub.
    """
    from hubq.stages.compare.reports import gather
    from hubq.stages.publish.space.showcase import look
    from hubq.stages.publish.space.static_page import write

    if not models and org is None:
        raise click.UsageError("name models (run folders or org/name), or an --org")
    with client_for(hub, org) as client:
        listed = () if org is None else look(org, client).releases
        words = [*models, *(f"{each.name}@{each.commit}" for each in listed)]
        path = write(gather(words, client), folder)
    click.echo(path)
