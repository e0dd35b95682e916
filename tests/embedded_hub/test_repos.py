"""Repos of every kind: made, described, renamed, deleted; their branches and tags."""

import pytest
from faulty_hub import FaultyHub
from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

KINDS = ["model", "dataset", "space"]


def make(api: HfApi, kind: str, name: str = "acme/thing") -> str:
    sdk = "gradio" if kind == "space" else None
    return str(api.create_repo(name, repo_type=kind, space_sdk=sdk).repo_id)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_repo_takes_and_gives_files(api: HfApi, kind: str) -> None:
    repo = make(api, kind)

    api.upload_file(path_or_fileobj=b"hi", path_in_repo="d/a.txt", repo_id=repo, repo_type=kind)

    assert "d/a.txt" in api.list_repo_files(repo, repo_type=kind)
    info = api.repo_info(repo, repo_type=kind)
    assert info.sha == api.list_repo_commits(repo, repo_type=kind)[0].commit_id


def test_the_same_name_may_be_of_three_kinds(api: HfApi) -> None:
    assert [make(api, kind) for kind in KINDS] == ["acme/thing"] * 3


def test_a_taken_name_says_where_the_repo_is(api: HfApi, repo: str, hub: FaultyHub) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(repo)

    assert caught.value.response.status_code == 409
    assert caught.value.response.json()["url"] == f"{hub.endpoint}/{repo}"
    assert api.create_repo(repo, exist_ok=True).repo_id == repo


def test_a_name_that_differs_in_case_is_the_same_name(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        api.create_repo(repo.upper().replace("ACME", "acme"))

    assert caught.value.response.status_code == 409
    assert api.model_info("ACME/Model").id == repo


def test_a_deleted_repo_is_gone_and_its_name_is_free(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    api.delete_repo(repo)

    with pytest.raises(RepositoryNotFoundError):
        api.model_info(repo)
    api.create_repo(repo)
    assert api.list_repo_files(repo) == [".gitattributes"]


def test_a_moved_repo_keeps_its_history(api: HfApi, repo: str) -> None:
    before = api.model_info(repo).sha

    api.move_repo(repo, "local/renamed")

    assert api.model_info("local/renamed").sha == before


def test_a_duplicate_has_the_files_and_goes_its_own_way(api: HfApi, repo: str) -> None:
    api.upload_file(path_or_fileobj=bytes(3000), path_in_repo="a.bin", repo_id=repo)

    api.duplicate_repo(repo, "local/copy")
    api.delete_file("a.bin", "local/copy")

    assert "a.bin" in api.list_repo_files(repo)
    assert "a.bin" not in api.list_repo_files("local/copy")
    assert len(api.list_repo_commits("local/copy")) == 3


def test_info_says_what_the_card_and_the_config_say(api: HfApi, repo: str) -> None:
    card = b"---\nlicense: mit\nbase_model: a/b\nbase_model_relation: quantized\n---\n# Hi\n"
    config = b'{"model_type": "llama", "quantization_config": {"bits": 4}, "hidden_size": 8}'
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)
    api.upload_file(path_or_fileobj=config, path_in_repo="config.json", repo_id=repo)

    info = api.model_info(repo)

    assert info.card_data is not None
    assert info.card_data.license == "mit"
    assert {"transformers", "license:mit", "base_model:quantized:a/b"} <= set(info.tags or [])
    assert info.config == {"model_type": "llama", "quantization_config": {"bits": 4}}


def test_models_are_found_by_author_name_and_tag(api: HfApi, repo: str) -> None:
    api.create_repo("local/other")
    card = b"---\ntags: [tiny]\n---\n"
    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)

    assert [model.id for model in api.list_models(author="acme")] == [repo]
    assert [model.id for model in api.list_models(search="OTHER")] == ["local/other"]
    assert [model.id for model in api.list_models(filter="tiny")] == [repo]


def test_a_branch_with_a_slash_is_one_name(api: HfApi, repo: str) -> None:
    api.create_branch(repo, branch="feat/w4")

    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo, revision="feat/w4")

    assert "a.txt" in api.list_repo_files(repo, revision="feat/w4")
    assert "a.txt" not in api.list_repo_files(repo)


@pytest.mark.parametrize(
    "revision",
    ["../../../../../etc/passwd", "refs/../config", "refs/heads/../../HEAD", "a..b", "-x"],
)
def test_a_revision_that_leads_out_of_the_refs_is_unknown(
    api: HfApi, repo: str, revision: str
) -> None:
    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision=revision)


@pytest.mark.parametrize("digits", [5, 12, 40])
def test_a_commit_is_found_by_its_first_digits(api: HfApi, repo: str, digits: int) -> None:
    head = str(api.model_info(repo).sha)

    assert api.model_info(repo, revision=head[:digits]).sha == head


def test_a_deleted_branch_is_unknown(api: HfApi, repo: str) -> None:
    api.create_branch(repo, branch="old")

    api.delete_branch(repo, branch="old")

    with pytest.raises(RevisionNotFoundError):
        api.model_info(repo, revision="old")


def test_main_cannot_be_deleted(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError):
        api.delete_branch(repo, branch="main")

    assert api.model_info(repo).sha


@pytest.mark.parametrize("message", [None, "First release"])
def test_a_tag_leads_to_its_commit(api: HfApi, repo: str, message: str | None) -> None:
    head = api.model_info(repo).sha
    api.create_tag(repo, tag="v1.0", tag_message=message)
    api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    assert api.model_info(repo, revision="v1.0").sha == head
    assert [ref.target_commit for ref in api.list_repo_refs(repo).tags] == [head]


def test_a_tag_that_exists_is_a_conflict(api: HfApi, repo: str) -> None:
    api.create_tag(repo, tag="v1.0")

    with pytest.raises(HfHubHTTPError) as caught:
        api.create_tag(repo, tag="v1.0")

    assert caught.value.response.status_code == 409
    api.create_tag(repo, tag="v1.0", exist_ok=True)


def test_a_deleted_tag_is_unknown(api: HfApi, repo: str) -> None:
    api.create_tag(repo, tag="v1.0")

    api.delete_tag(repo, tag="v1.0")

    assert api.list_repo_refs(repo).tags == []


def test_a_space_has_a_runtime_and_its_variables(api: HfApi) -> None:
    repo = make(api, "space")
    api.add_space_variable(repo, "MODEL", "acme/model")

    assert api.get_space_runtime(repo).stage == "STOPPED"
    assert api.get_space_variables(repo)["MODEL"].value == "acme/model"
    assert api.space_info(repo).sdk == "gradio"


def test_a_secrets_value_is_never_shown_nor_kept(api: HfApi, hub: FaultyHub) -> None:
    repo = make(api, "space")

    api.add_space_secret(repo, "TOKEN", "open-sesame")

    assert list(api.get_space_secrets(repo)) == ["TOKEN"]
    kept = [path for path in hub.root.rglob("*") if path.is_file()]
    assert not any(b"open-sesame" in path.read_bytes() for path in kept)
