"""Who may do what: tokens, roles, private and gated repos."""

import base64
from pathlib import Path

import httpx
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

from hubq.embedded_hub import add_org, add_user, mint_token, revoke_token


def status_of(error: pytest.ExceptionInfo[HfHubHTTPError]) -> int:
    return int(error.value.response.status_code)


def test_no_token_is_ever_on_disk(hub: FaultyHub, api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"\0", path_in_repo="a.bin", repo_id=repo)
    secret = hub.token.encode()

    found = [path for path in hub.root.rglob("*") if path.is_file() and secret in path.read_bytes()]

    assert found == []


def test_whoami_names_the_user_and_the_organizations(api: HfApi) -> None:
    me = api.whoami()

    assert (me["name"], me["auth"]["accessToken"]["role"]) == ("local", "write")
    assert [(org["name"], org["roleInOrg"]) for org in me["orgs"]] == [("acme", "write")]


def test_an_unknown_token_is_unauthorized(hub: FaultyHub) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(endpoint=hub.endpoint, token="hf_unknown").whoami()

    assert status_of(caught) == 401


def test_an_unknown_token_is_unauthorized_even_where_none_is_needed(
    hub: FaultyHub, repo: str
) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(endpoint=hub.endpoint, token="hf_unknown").model_info(repo)

    assert status_of(caught) == 401
    assert not isinstance(caught.value, RepositoryNotFoundError)


def test_an_expired_token_is_unauthorized(hub: FaultyHub) -> None:
    token = mint_token(hub.root, user="local", role="write", expires_in=-1)

    with pytest.raises(HfHubHTTPError) as caught:
        HfApi(endpoint=hub.endpoint, token=token).whoami()

    assert status_of(caught) == 401


def test_a_revoked_token_is_unauthorized(hub: FaultyHub, api: HfApi) -> None:
    revoke_token(hub.root, hub.token)

    with pytest.raises(HfHubHTTPError) as caught:
        api.whoami()

    assert status_of(caught) == 401


def test_a_token_that_may_read_may_not_write(hub: FaultyHub, repo: str) -> None:
    token = mint_token(hub.root, user="local", role="read", expires_in=60)
    reader = HfApi(endpoint=hub.endpoint, token=token)

    with pytest.raises(HfHubHTTPError) as caught:
        reader.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    assert status_of(caught) == 403
    assert reader.model_info(repo).id == repo


def test_without_a_token_nothing_is_written(nobody: HfApi) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        nobody.create_repo("acme/model")

    assert status_of(caught) == 401


def test_a_stranger_cannot_create_a_repo_in_an_organization(stranger: HfApi) -> None:
    with pytest.raises(HfHubHTTPError, match="don't have the rights to create") as caught:
        stranger.create_repo("acme/model")

    assert status_of(caught) == 403


def test_a_stranger_cannot_write_to_a_repo(stranger: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        stranger.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    assert status_of(caught) == 403


def test_a_member_who_only_reads_sees_private_repos_and_writes_none(
    hub: FaultyHub, api: HfApi
) -> None:
    api.create_repo("acme/private", private=True)
    add_org(hub.root, "acme", {"rita": "read"})
    token = mint_token(hub.root, user="rita", role="write", expires_in=60)
    rita = HfApi(endpoint=hub.endpoint, token=token)

    assert rita.model_info("acme/private").private
    with pytest.raises(HfHubHTTPError) as caught:
        rita.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id="acme/private")
    assert status_of(caught) == 403


@pytest.mark.parametrize("visitor", ["stranger", "nobody"])
def test_a_private_repo_is_as_good_as_missing(
    api: HfApi, visitor: str, request: pytest.FixtureRequest
) -> None:
    api.create_repo("acme/private", private=True)
    outsider: HfApi = request.getfixturevalue(visitor)

    with pytest.raises(RepositoryNotFoundError) as private:
        outsider.model_info("acme/private")
    with pytest.raises(RepositoryNotFoundError) as missing:
        outsider.model_info("acme/missing")

    assert status_of(private) == status_of(missing)
    assert outsider.list_models(author="acme") is not None
    assert [model.id for model in outsider.list_models(author="acme")] == []


def test_a_gated_repo_tells_about_itself_and_keeps_its_files(
    api: HfApi, stranger: HfApi, repo: str
) -> None:
    api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=repo)
    api.update_repo_settings(repo, gated="manual")

    assert stranger.model_info(repo).gated == "manual"
    with pytest.raises(GatedRepoError) as caught:
        stranger.hf_hub_download(repo, "config.json")
    assert status_of(caught) == 403
    assert caught.value.response.headers["X-Error-Code"] == "GatedRepo"


def test_a_gated_repo_opens_to_whom_its_owner_lets_in(
    api: HfApi, stranger: HfApi, repo: str
) -> None:
    api.update_repo_settings(repo, gated="auto")

    api.grant_access(repo, "eve")

    stranger.auth_check(repo)


def test_auth_check_tells_reading_from_writing(stranger: HfApi, api: HfApi, repo: str) -> None:
    api.auth_check(repo, write=True)
    stranger.auth_check(repo)

    with pytest.raises(HfHubHTTPError) as caught:
        stranger.auth_check(repo, write=True)

    assert status_of(caught) == 403


def test_a_password_that_a_browser_adds_by_itself_writes_nothing(hub: FaultyHub) -> None:
    credentials = base64.b64encode(f"local:{hub.token}".encode()).decode()

    answer = httpx.post(
        f"{hub.endpoint}/api/repos/create",
        content='{"name": "model"}',
        headers={"Authorization": f"Basic {credentials}", "Content-Type": "text/plain"},
    )

    assert answer.status_code == 401


def test_a_foreign_host_name_gets_no_answer(hub: FaultyHub) -> None:
    answer = httpx.get(f"{hub.endpoint}/api/models", headers={"Host": "evil.example"})

    assert answer.status_code == 400


def test_a_name_is_a_user_or_an_organization_but_not_both(tmp_path: Path) -> None:
    add_user(tmp_path, "ann")

    with pytest.raises(ValueError, match="already the name of a user"):
        add_org(tmp_path, "Ann", ["ann"])
