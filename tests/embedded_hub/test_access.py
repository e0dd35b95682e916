"""What one may not see, no route gives: all of them are asked, as the routing table has them."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

from hubq.embedded_hub.app import SUBJECTS
from hubq.embedded_hub.repositories import Access
from hubq.embedded_hub.routing import Route

TEXT = b"what only members may read\n"
LARGE = bytes(range(256)) * 20
LEAKS = (TEXT.strip(), LARGE[:64])
ROUTES = [route for subject in SUBJECTS for route in subject.ROUTES]
FILLED = {
    "namespace": "acme",
    "revision": "main",
    "*path": "notes.txt",
    "path": "notes.txt",
    "num": "1",
    "branch": "main",
    "tag": "v1",
    "user": "local",
    "org": "acme",
    "slug": "slug",
    "item": "item",
    "comment": "0",
    "ticket": "forged.ticket",
    "series": "series",
    "hash": "ab" * 32,
}


def addresses(route: Route, name: str, kind: str) -> Iterator[tuple[str, str]]:
    """Yield the requests that a route stands for, about one repo."""
    values = FILLED | {"name": name, "kind": f"{kind}s"}
    path = "/" + "/".join(route.pattern)
    for word, value in values.items():
        path = path.replace(f"{{{word}}}", value)
    for method in sorted(route.methods):
        yield method, path
        if "{revision}" in route.pattern:
            yield method, path + "?create_pr=1"


def body(name: str, kind: str) -> dict[str, Any]:
    """Make one body that holds what any route may ask for."""
    full, repo = f"acme/{name}", {"type": kind, "name": f"acme/{name}"}
    return {
        "name": name,
        "organization": "acme",
        "type": kind,
        "fromRepo": full,
        "toRepo": "eve/taken",
        "repository": "eve/copy",
        "operation": "download",
        "objects": [],
        "files": [],
        "target": repo,
        "item": {"id": full, "type": kind},
        "title": "t",
        "comment": "c",
        "content": "c",
        "status": "closed",
        "tag": "new",
        "key": "TOKEN",
        "user": "eve",
        "private": False,
        "gated": False,
        "paths": ["notes.txt"],
    }


def ask(client: httpx.Client, route: Route, name: str, kind: str) -> list[httpx.Response]:
    """Send what a route stands for."""
    return [
        client.request(method, path, json=body(name, kind))
        for method, path in addresses(route, name, kind)
    ]


@pytest.fixture(params=["stranger", "nobody"])
def outsider(hub: FaultyHub, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    """Give a bare client of a user who is no member, and one without a token."""
    token = request.getfixturevalue(request.param).token
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with httpx.Client(base_url=hub.endpoint, headers=headers) as client:
        yield client


def fill(api: HfApi, name: str, kind: str) -> str:
    """Make a repo with a small and a large file, and a pull request that deletes the small one."""
    sdk = "gradio" if kind == "space" else None
    repo = str(api.create_repo(f"acme/{name}", repo_type=kind, space_sdk=sdk).repo_id)
    adds = [CommitOperationAdd("notes.txt", TEXT), CommitOperationAdd("a.bin", LARGE)]
    api.create_commit(repo, adds, commit_message="Add", repo_type=kind)
    delete = [CommitOperationDelete("notes.txt")]
    api.create_commit(repo, delete, commit_message="Delete", repo_type=kind, create_pr=True)
    api.create_tag(repo, tag="v1", repo_type=kind)
    return repo


def shown(answer: httpx.Response) -> bytes:
    return answer.content + json.dumps(dict(answer.headers)).encode()


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_no_route_gives_a_stranger_what_a_gated_repo_holds(
    api: HfApi, outsider: httpx.Client, kind: str
) -> None:
    # Takes 1 s: every route is asked.
    repo = fill(api, "gated", kind)
    api.update_repo_settings(repo, gated="manual", repo_type=kind)
    before = api.repo_info(repo, repo_type=kind)

    for route in ROUTES:
        for answer in ask(outsider, route, "gated", kind):
            what = (answer.request.method, answer.request.url.path, answer.status_code)
            assert not any(leak in shown(answer) for leak in LEAKS), what
            assert answer.status_code < 500, what
            if route.access in (Access.READ, Access.WRITE):
                assert answer.status_code in (401, 403, 404), what
    after = api.repo_info(repo, repo_type=kind)
    assert (after.sha, after.gated) == (before.sha, "manual")


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_every_route_answers_for_a_private_repo_as_for_none(
    api: HfApi, outsider: httpx.Client, kind: str
) -> None:
    # Takes 1 s: every route is asked twice.
    api.update_repo_settings(fill(api, "hidden", kind), private=True, repo_type=kind)

    for route in ROUTES:
        hidden, absent = (ask(outsider, route, name, kind) for name in ("hidden", "absent"))
        for one, other in zip(hidden, absent, strict=True):
            what = (one.request.method, one.request.url.path, one.status_code)
            assert one.status_code == other.status_code, what
            assert one.content.replace(b"hidden", b"absent") == other.content, what


def test_a_route_about_a_repo_says_for_whom_it_is() -> None:
    with pytest.raises(AssertionError):
        Route("GET", "/api/{kind}/{namespace}/{name}/new", ROUTES[0].answer, Access.NO_REPO)


def test_who_is_let_into_a_gated_repo_sees_what_a_pull_request_changes(
    api: HfApi, stranger: HfApi
) -> None:
    repo = fill(api, "gated", "model")
    api.update_repo_settings(repo, gated="manual")
    before = stranger.get_discussion_details(repo, 1).diff

    api.grant_access(repo, "eve")

    after = str(stranger.get_discussion_details(repo, 1).diff)
    assert (before, TEXT.decode().strip() in after) == (None, True)


def test_a_copy_of_a_gated_repo_is_gated(api: HfApi, stranger: HfApi) -> None:
    repo = fill(api, "gated", "model")
    api.update_repo_settings(repo, gated="manual")
    api.grant_access(repo, "eve")

    stranger.duplicate_repo(repo, "eve/copy")

    assert api.model_info("eve/copy").gated == "manual"
