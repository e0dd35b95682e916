"""The pages for people: what repos there are, what a card says, what a commit did."""

from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any

from dulwich.objects import Commit
from jinja2 import DictLoader, Environment
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from hubq.embedded_hub import markdown, templates
from hubq.embedded_hub.api.discussions import discussion_number
from hubq.embedded_hub.api.files import describe_commit
from hubq.embedded_hub.description import describe_repo
from hubq.embedded_hub.discussions import Discussions
from hubq.embedded_hub.history import (
    describe,
    difference,
    find_commit,
    list_entries,
    peel,
    read_blob,
    walk_commits,
)
from hubq.embedded_hub.refusals import Refusal, sign_in_first
from hubq.embedded_hub.repositories import Access, may_read
from hubq.embedded_hub.requests import Call
from hubq.embedded_hub.routing import Route, everywhere
from hubq.records.parsing import split_card

COMMITS = 30
MAX_DIFF = 200_000  # characters
MAX_CARD = 100_000  # some Markdown takes time that grows with the square of its length
SHELVES = {"Models": "model", "Datasets": "dataset", "Spaces": "space"}
POLICY = (
    f"default-src 'none'; img-src 'self'; style-src 'sha256-{templates.CSS_HASH}'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def home(call: Call) -> Response:
    """List the repos that the visitor may see, by kind."""
    shelves = [
        (
            title,
            [
                {
                    "address": repo.address,
                    "full_name": repo.full_name,
                    "private": repo.private,
                    "gate": repo.gate,
                    "when": _date(repo.created),
                }
                for repo in call.hub.repositories.all()
                if repo.kind == kind and may_read(repo, call.visitor)
            ],
        )
        for title, kind in SHELVES.items()
    ]
    return _page(call, "home", shelves=shelves)


def login(call: Call) -> Response:
    """Ask a browser for a name and a token; the token counts, the name doesn't."""
    if call.visitor.anonymous:
        refusal = sign_in_first()
        refusal.headers["WWW-Authenticate"] = 'Basic realm="hub"'
        raise refusal
    return RedirectResponse("/", 303)


def repo_page(call: Call) -> Response:
    """Show a repo: its card, metadata, files and last commits."""
    repo = call.repo()
    with call.hub.histories.open(repo.id) as git:
        head = find_commit(git, "main")
        entries = list_entries(git, head)
        described = describe_repo(call.hub, repo, git, head)
        found = [describe(git, path, entry) for path, entry in sorted(entries.items())]
        readme = read_blob(git, entries["README.md"].blob) if "README.md" in entries else b""
        commits = [_commit(commit) for commit in islice(walk_commits(git, head), COMMITS)]
    front, text = split_card(readme.decode(errors="replace"))
    return _page(
        call,
        "repo",
        name=repo.full_name,
        address=repo.address,
        tags=described["tags"],
        # Markdown rendered without raw HTML is the one thing that goes in as it is.
        card=Markup(markdown.render(text[:MAX_CARD], repo.address)),
        is_cut=len(text) > MAX_CARD,
        metadata=(front or "").strip()[:MAX_CARD],
        files=[
            {"path": file.path, "size": _size(file.size), "large": file.pointer is not None}
            for file in found
        ],
        commits=commits,
    )


def commit_page(call: Call) -> Response:
    """Show what a commit did."""
    repo = call.repo()
    with call.hub.histories.open(repo.id) as git:
        commit = find_commit(git, call.path["revision"])
        diff = difference(git, peel(git, commit.parents[0]), commit) if commit.parents else ""
    return _page(
        call,
        "commit",
        name=repo.full_name,
        address=repo.address,
        commit=_commit(commit),
        diff=diff[:MAX_DIFF],
    )


def discussion_page(call: Call) -> Response:
    """Show what was said in a discussion or pull request."""
    repo = call.repo()
    discussions = Discussions(call.hub.database)
    number = discussion_number(call)
    events = [
        {
            "author": event["author"]["name"],
            "when": event["createdAt"][:16].replace("T", " "),
            "text": _said(event),
        }
        for event in discussions.events(repo, number)
    ]
    return _page(
        call,
        "discussion",
        name=repo.full_name,
        address=repo.address,
        discussion=discussions.find(repo, number),
        events=events,
    )


def blob(call: Call) -> Response:
    """Lead from the address of a file's page to the file."""
    path = call.request.scope["raw_path"].decode("latin-1")
    # Two slashes at the start would name another host.
    return RedirectResponse("/" + path.lstrip("/").replace("/blob/", "/resolve/", 1), 302)


def missing(call: Call, refusal: Refusal) -> Response:
    """Let a browser have a page, not JSON, where what it asks for isn't to be seen."""
    wants_page = "text/html" in call.request.headers.get("Accept", "")
    if not wants_page or refusal.status not in (401, 404):
        return refusal.response()
    return _page(call, "missing", status=refusal.status)


def _page(call: Call, template: str, *, status: int = 200, **values: Any) -> Response:  # noqa: ANN401
    html = _environment().get_template(template).render(visitor=call.visitor.name, **values)
    return HTMLResponse(html, status, headers=HEADERS)


@cache
def _environment() -> Environment:
    environment = Environment(loader=DictLoader(templates.TEMPLATES), autoescape=True)
    environment.globals["css"] = Markup(templates.CSS)
    return environment


def _commit(commit: Commit) -> dict[str, str]:
    described = describe_commit(commit)
    return {
        "id": described["id"],
        "title": described["title"],
        "message": described["message"],
        "author": described["authors"][0]["user"],
        "when": _date(commit.commit_time),
    }


def _said(event: dict[str, Any]) -> str:
    data = event["data"]
    if event["type"] == "comment":
        return str(data["latest"]["raw"])
    facts = [str(data[key]) for key in ("subject", "oid", "status", "to") if key in data]
    return f"{event['type']}: {', '.join(facts)}"


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


ROUTES = [
    Route("GET", "/", home, Access.NO_REPO),
    Route("GET", "/login", login, Access.NO_REPO),
    *everywhere("GET", "", repo_page, Access.KNOW, missing),
    *everywhere("GET", "/commit/{revision}", commit_page, Access.READ, missing),
    *everywhere("GET", "/discussions/{num}", discussion_page, Access.KNOW, missing),
    *everywhere("GET", "/blob/{revision}/{*path}", blob, Access.KNOW, missing),
]
