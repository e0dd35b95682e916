"""The pages: what they list, and that nothing in a repo can do harm through them."""

import re
from http.client import HTTPConnection

import httpx
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import HfApi

CARD = b"""---
license: mit
---
# A model

<script>alert(1)</script>

| bits | perplexity |
|------|------------|
| 4    | 26.1       |

![chart](charts/it.png) ![badge](https://elsewhere.example/x.svg)
[weights](model.safetensors) [evil](javascript:alert(1)) [site](https://example.com)
"""


@pytest.fixture
def card(api: HfApi, repo: str) -> str:
    """Give the model a card."""
    api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=repo)
    return repo


def read(hub: FaultyHub, path: str) -> str:
    answer = httpx.get(hub.endpoint + path)
    assert answer.status_code == 200
    return answer.text


def test_the_front_page_lists_public_repos_and_private_ones_to_members(
    hub: FaultyHub, http: httpx.Client, api: HfApi, repo: str
) -> None:
    api.create_repo("acme/private", private=True)

    outside, inside = read(hub, "/"), http.get("/").text

    assert (repo in outside, "acme/private" in outside) == (True, False)
    assert "acme/private" in inside


def test_a_page_shows_the_card_its_metadata_files_and_commits(hub: FaultyHub, card: str) -> None:
    page = read(hub, f"/{card}")

    assert "<h1>A model</h1>" in page
    assert "<td>26.1</td>" in page
    assert "<li>license:mit</li>" in page
    assert ".gitattributes</a>" in page
    assert "Upload README.md with huggingface_hub</a>" in page


def test_html_in_a_card_is_only_text(hub: FaultyHub, card: str) -> None:
    page = read(hub, f"/{card}")

    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert 'href="javascript' not in page


def test_pictures_come_from_the_repo_and_from_nowhere_else(hub: FaultyHub, card: str) -> None:
    page = read(hub, f"/{card}")

    assert re.findall(r'<img src="([^"]+)"', page) == [f"/{card}/resolve/main/charts/it.png"]
    assert f'href="/{card}/resolve/main/model.safetensors"' in page
    assert "[badge]" in page


def test_a_page_may_load_nothing_but_its_own_style_and_pictures(hub: FaultyHub, card: str) -> None:
    policy = httpx.get(f"{hub.endpoint}/{card}").headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_title_that_holds_html_is_only_text(hub: FaultyHub, api: HfApi, repo: str) -> None:
    api.upload_file(
        path_or_fileobj=b"x", path_in_repo="<b>.txt", repo_id=repo, commit_message="<i>hi</i>"
    )

    page = read(hub, f"/{repo}")

    assert "<i>hi" not in page
    assert "<b>.txt" not in page


def test_a_html_file_of_a_repo_does_not_become_a_page(
    hub: FaultyHub, api: HfApi, repo: str
) -> None:
    api.upload_file(path_or_fileobj=b"<script>", path_in_repo="x.html", repo_id=repo)

    answer = httpx.get(f"{hub.endpoint}/{repo}/resolve/main/x.html")

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.headers["Content-Security-Policy"].startswith("sandbox")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_private_page_looks_like_a_missing_one(hub: FaultyHub, api: HfApi) -> None:
    api.create_repo("acme/private", private=True)

    private, missing = (httpx.get(f"{hub.endpoint}/acme/{name}") for name in ("private", "missing"))

    assert (private.status_code, private.text) == (missing.status_code, missing.text)


def test_the_address_of_a_commit_leads_to_what_it_did(
    hub: FaultyHub, api: HfApi, repo: str
) -> None:
    made = api.upload_file(path_or_fileobj=b"new line\n", path_in_repo="a.txt", repo_id=repo)

    page = httpx.get(made.commit_url).text

    assert "+new line" in page


def test_the_address_of_a_pull_request_leads_to_it(hub: FaultyHub, api: HfApi, repo: str) -> None:
    made = api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo, create_pr=True)

    page = httpx.get(str(made.pr_url)).text

    assert "Upload a.txt with huggingface_hub" in page
    assert "pull request" in page


@pytest.mark.parametrize("path", ["", "acme/secret", "acme/none", "acme/secret/commit/main"])
def test_a_browser_is_told_how_to_see_what_is_private(
    path: str, hub: FaultyHub, api: HfApi
) -> None:
    api.create_repo("acme/secret", private=True)

    browser = {"Accept": "text/html,application/xhtml+xml"}
    page = httpx.get(f"{hub.endpoint}/{path}", headers=browser)

    assert page.status_code == (401 if path else 200)
    assert "acme/secret" not in page.text
    assert "Sign in" in page.text
    assert "hubq hub token" in page.text


def test_a_program_is_told_in_json_what_it_can_not_see(hub: FaultyHub) -> None:
    answer = httpx.get(f"{hub.endpoint}/acme/none")

    assert answer.json() == {"error": "Invalid username or password."}


def test_a_signed_in_browser_gets_a_page_too_where_there_is_nothing(hub: FaultyHub) -> None:
    browser = {"Accept": "text/html"}
    page = httpx.get(f"{hub.endpoint}/acme/none", headers=browser, auth=("any", hub.token))

    assert page.status_code == 404
    assert "exist" in page.text
    assert "Sign in" not in page.text


def test_a_browser_signs_in_with_a_token(hub: FaultyHub) -> None:
    asked = httpx.get(f"{hub.endpoint}/login")
    given = httpx.get(f"{hub.endpoint}/login", auth=("anything", hub.token))

    assert (asked.status_code, asked.headers["WWW-Authenticate"]) == (401, 'Basic realm="hub"')
    assert (given.status_code, given.headers["Location"]) == (303, "/")


def test_the_page_of_a_file_never_leads_to_another_host(hub: FaultyHub) -> None:
    connection = HTTPConnection(hub.endpoint.removeprefix("http://"))
    connection.request("GET", "//evil.example/x/blob/main/f")

    answer = connection.getresponse()
    connection.close()

    assert not (answer.getheader("Location") or "").startswith("//")
