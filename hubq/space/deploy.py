"""Make a Space of an organization, or bring it up to date: one commit, verified; twice is none."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from hubq import __version__
from hubq.client import Client
from hubq.commit import ATTRIBUTES, Change, commit, compare
from hubq.errors import UserError
from hubq.hub_names import address, require_account
from hubq.progress import SILENT, Progress
from hubq.publish import FOUNDING, verify
from hubq.record import Record
from hubq.release import refuse_secrets
from hubq.remote import SPACES, LocalFile, head_of
from hubq.space.contents import app_files, app_folder, hubq_files
from hubq.space.readme import readme
from hubq.space.requirements import pinned, read_pins, version_of
from hubq.space.settings import Settings, hardware_of, reads_private, request, require_known, settle
from hubq.space.showcase import Showcase, look

NAME = "compare"
OURS = "hubq/__init__.py"  # that it is there tells that hubq made the Space


class Deployment(Record):
    """A Space as the Hub holds it, verified file by file."""

    endpoint: str
    repo: str
    commit: str
    url: str
    private: bool
    hardware: str
    models: int  # releases that it shows
    hides_models: bool  # whether some are private, and the Space has no token to read them
    changed: bool  # whether this deployment made a commit


@dataclass(frozen=True)
class Site:
    """The Space's repo on the Hub before anything is sent."""

    name: str  # org/name
    head: str
    hardware: str  # that it has or is to get


def deploy(
    name: str,
    settings: Settings,
    client: Client,
    progress: Progress = SILENT,
    index: str | None = None,
) -> Deployment:
    """Create or update the Space `settings.org`/`name` for the organization's models.

    `index` is a package index that the Space asks beside the usual one. Raises UserError, before
    anything is sent, for an organization that can't be written to, for hardware that isn't there,
    and for a Space that hubq did not make.
    """
    for named in (f"{require_account(settings.org)}/{name}", settings.votes):
        if named is not None:
            address(named)
    if settings.hardware is not None:
        require_known(settings.hardware)
    client.writable(settings.org)
    showcase = look(settings.org, client)
    repo = f"{settings.org}/{name}"
    with client.speaking(f"deploying {repo}"), tempfile.TemporaryDirectory() as folder:
        site = _open(repo, settings, client)
        files = assemble(Path(folder), showcase, site.hardware, index)
        for token in (settings.token, *client.known_tokens):
            refuse_secrets(files, token)
        title = f"Deploy hubq {__version__}"
        change = compare(SPACES + repo, site.head, files, title, client)
        _refuse_foreign(change, client)
        settle(repo, settings, client)  # before the commit, which starts the building
        made = commit(change, client, progress)
        verify(SPACES + repo, made, files, client)
        hardware = request(repo, settings, client)
        hides = showcase.has_private and not reads_private(repo, client)
    return Deployment(
        endpoint=client.url,
        repo=repo,
        commit=made,
        url=f"{client.url}/{SPACES}{repo}",
        private=settings.private,
        hardware=hardware,
        models=len(showcase.releases),
        hides_models=hides,
        changed=change.pending,
    )


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


def _open(repo: str, settings: Settings, client: Client) -> Site:
    """Make sure that the Space exists, as private as it is to be, and look at it."""
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        head, is_private = head_of(client, SPACES + repo)
    except RepositoryNotFoundError:
        client.patience.keep_trying(
            lambda: client.api().create_repo(
                repo,
                repo_type="space",
                space_sdk="gradio",
                private=settings.private,
                exist_ok=True,
            )
        )
        head, is_private = head_of(client, SPACES + repo)
    if is_private != settings.private:
        is_now, option = ("private", "--private") if is_private else ("public", "no --private")
        raise UserError(
            f"the Space {repo} is {is_now} on the Hub. Deploy it with {option}, or change it at "
            f"{client.url}/{SPACES}{repo}/settings; nothing was uploaded"
        )
    return Site(repo, head, settings.hardware or hardware_of(repo, client))


def _refuse_foreign(change: Change, client: Client) -> None:
    """Refuse a Space that somebody filled without hubq."""
    if OURS in change.holds or change.holds <= FOUNDING | {ATTRIBUTES}:
        return
    raise UserError(
        f"{change.repo} holds files that hubq did not put there, such as "
        f"{', '.join(sorted(change.holds - FOUNDING)[:3])}.\n"
        f"Choose another --name, or delete the Space at {client.url}/{change.repo}/settings; "
        "nothing was uploaded"
    )
