"""Make a Space of an organization, or bring it up to date: one commit, verified; twice is none.

Since July 2026 the real Hub wants a paid plan for Spaces that run something (402, Payment
Required); static ones are free. So where it refuses an app, a static page is deployed instead.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from hubq import __version__
from hubq.client.client import Client
from hubq.client.commit import ATTRIBUTES, Change, commit, compare
from hubq.client.repo_files import SPACES, LocalFile, head_of
from hubq.client.retries import status_of
from hubq.errors import UserError
from hubq.machine.files import write_atomically
from hubq.machine.progress import SILENT, Progress
from hubq.records.record import Record
from hubq.records.vocabulary import address, require_account
from hubq.stages.compare.releases import Tell
from hubq.stages.compare.reports import gather
from hubq.stages.publish.publish import FOUNDING, verify
from hubq.stages.publish.release import refuse_secrets
from hubq.stages.publish.space.contents import (
    app_files,
    app_folder,
    hubq_files,
    pinned,
    read_pins,
    readme,
    static_readme,
    version_of,
)
from hubq.stages.publish.space.settings import (
    Settings,
    hardware_of,
    reads_private,
    request,
    require_known,
    settle,
)
from hubq.stages.publish.space.showcase import Repo, Showcase, look
from hubq.stages.publish.space.static_page import MARK, files

NAME = "compare"
OURS = ("hubq/__init__.py", MARK)  # that one of them is there tells that hubq made the Space
UNPAID = 402
Sdk = Literal["gradio", "static"]


class Deployment(Record):
    """A Space as the Hub holds it, verified file by file."""

    endpoint: str
    repo: str
    commit: str
    url: str
    private: bool
    sdk: Sdk  # an app that answers, or a static page of numbers, charts and cards
    hardware: str | None  # None: nothing runs
    models: int  # releases that it shows
    hides_models: bool  # whether some are not shown, since not everybody may see them
    changed: bool  # whether this deployment made a commit


@dataclass(frozen=True)
class DeploymentOptions:
    """How a Space is deployed, beside what it is to have."""

    progress: Progress = SILENT
    index: str | None = None  # a package index that an app asks beside the usual one
    tell: Tell = lambda sentence: None


@dataclass(frozen=True)
class Site:
    """The Space's repo on the Hub before anything is sent."""

    name: str  # org/name
    head: str
    sdk: Sdk


def deploy(
    name: str,
    settings: Settings,
    client: Client,
    options: DeploymentOptions | None = None,
) -> Deployment:
    """Create or update the Space `settings.org`/`name` for the organization's models.

    Where the Hub refuses an app for want of a paid plan, `options.tell` is told so before
    anything is sent, and a static page is deployed. Raises UserError, before anything is sent, for
    an organization that can't be written to, for hardware that isn't there, and for a Space that
    hubq did not make.
    """
    options = options or DeploymentOptions()
    for named in (f"{require_account(settings.org)}/{name}", settings.votes):
        if named is not None:
            address(named)
    if settings.hardware is not None:
        require_known(settings.hardware)
    client.writable(settings.org)
    showcase = look(settings.org, client)
    repo = f"{settings.org}/{name}"
    with client.translate_errors(f"deploying {repo}"), tempfile.TemporaryDirectory() as folder:
        site = _open(repo, settings, client, options.tell)
        shown = _shown(showcase, settings, site)
        runs = site.sdk == "gradio"
        if runs:
            hardware = settings.hardware or hardware_of(repo, client)
            content = assemble(Path(folder), showcase, hardware, options.index)
        else:
            content = static_files(Path(folder), shown, client)
        for token in (settings.token, *client.known_tokens):
            refuse_secrets(content, token)
        title = f"Deploy hubq {__version__}"
        change = compare(SPACES + repo, site.head, content, title, client)
        _refuse_foreign(change, client)
        if runs:
            settle(repo, settings, client)  # before the commit, which starts the building
        made = commit(change, client, options.progress)
        verify(SPACES + repo, made, content, client)
        hides = len(shown) < len(showcase.releases)
        if runs:
            hides = showcase.has_private and not reads_private(repo, client)
        runs_on = request(repo, settings, client) if runs else None
    return Deployment(
        endpoint=client.url,
        repo=repo,
        commit=made,
        url=f"{client.url}/{SPACES}{repo}",
        private=settings.private,
        sdk=site.sdk,
        hardware=runs_on,
        models=len(shown),
        hides_models=hides,
        changed=change.pending,
    )


def _shown(showcase: Showcase, settings: Settings, site: Site) -> tuple[Repo, ...]:
    """Return the releases that a Space tells of: a public page holds nothing private or gated."""
    everybody = site.sdk == "static" and not settings.private
    return tuple(each for each in showcase.releases if each.is_open or not everybody)


def static_files(folder: Path, shown: Sequence[Repo], client: Client) -> dict[str, LocalFile]:
    """Write a static page into a folder; return its files by their paths in the Space."""
    measured = gather([f"{each.name}@{each.commit}" for each in shown], client)
    readme = static_readme(app_folder() / "README.md", [each.name for each in shown])
    written = files(measured) | {"README.md": readme.encode()}
    for path, content in written.items():
        write_atomically(folder / path, content)
    return {path: LocalFile(folder / path) for path in written}


def assemble(
    folder: Path, showcase: Showcase, hardware: str, index: str | None = None
) -> dict[str, LocalFile]:
    """Return the files of a Space by their paths; those made for it are written to `folder`."""
    app = app_folder()
    constraints = app / "constraints.txt"
    gradio = version_of("gradio", read_pins(constraints))
    written = {
        "README.md": readme(app / "README.md", showcase, hardware, gradio),
        "requirements.txt": pinned(app / "requirements.txt", constraints, index),
    }
    for path, text in written.items():
        (folder / path).write_text(text, encoding="utf-8")
    made = ((path, folder / path) for path in written)
    return {path: LocalFile(place) for path, place in (*app_files(), *hubq_files(), *made)}


def _open(repo: str, settings: Settings, client: Client, tell: Tell) -> Site:
    """Make sure that the Space exists, as private as it is to be, and look at it."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        head, is_private = head_of(client, SPACES + repo)
    except RepositoryNotFoundError:
        _create(repo, settings, client, tell)
        head, is_private = head_of(client, SPACES + repo)
    if is_private != settings.private:
        is_now, option = ("private", "--private") if is_private else ("public", "no --private")
        raise UserError(
            f"the Space {repo} is {is_now} on the Hub. Deploy it with {option}, or change it at "
            f"{client.url}/{SPACES}{repo}/settings; nothing was uploaded"
        )
    found = client.retries.call(lambda: client.api().space_info(repo, expand=["sdk"]))
    if found.sdk != "static" and settings.static:
        raise UserError(
            f"the Space {repo} runs an app. Choose another --name for a static page, or leave "
            "--static out; nothing was uploaded"
        )
    return Site(repo, head, "static" if found.sdk == "static" else "gradio")


def _create(repo: str, settings: Settings, client: Client, tell: Tell) -> None:
    """Create a Space for the app; one for a static page where that is asked for, or all there is.

    Raises what huggingface_hub does.
    """
    from huggingface_hub.errors import HfHubHTTPError

    def create(sdk: Sdk) -> None:
        client.retries.call(
            lambda: client.api().create_repo(
                repo,
                repo_type="space",
                space_sdk=sdk,
                private=settings.private,
                exist_ok=True,
            )
        )

    if settings.static:
        create("static")
        return
    try:
        create("gradio")
    except HfHubHTTPError as error:
        if status_of(error) != UNPAID:
            raise
        tell(
            f"{client.url} wants a paid plan of {settings.org} for a Space that runs an app, and "
            "there is none: a static page with the numbers, charts and cards is deployed instead. "
            "hubq space run compares answers on your own machine."
        )
        create("static")


def _refuse_foreign(change: Change, client: Client) -> None:
    """Refuse a Space that somebody filled without hubq."""
    if change.holds & set(OURS) or change.holds <= FOUNDING | {ATTRIBUTES}:
        return
    raise UserError(
        f"{change.repo} holds files that hubq did not put there, such as "
        f"{', '.join(sorted(change.holds - FOUNDING)[:3])}.\n"
        f"Choose another --name, or delete the Space at {client.url}/{change.repo}/settings; "
        "nothing was uploaded"
    )
