import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from faulty_hub import FaultyHub, drop, refuse
from huggingface_hub import CommitOperationAdd
from made_models import GPTQ, RTN

from hubq.client.client import Client
from hubq.embedded_hub import add_user, fsck, mint_token
from hubq.errors import UserError
from hubq.records.card_rules import validate
from hubq.stages.publish.space.contents import APP, app_folder, read_pins
from hubq.stages.publish.space.deploy import Deployment, DeploymentOptions, deploy
from hubq.stages.publish.space.settings import Settings, token_from

SPACE = "acme/compare"
PLAIN = Settings(org="acme")


def put_up(client: Client, **settings: Any) -> Deployment:
    return deploy("compare", Settings(org="acme", **settings), client)


def text_of(client: Client, path: str) -> str:
    place = client.api().hf_hub_download(SPACE, path, repo_type="space")
    return Path(place).read_text(encoding="utf-8")


def head_of_readme(client: Client) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load(text_of(client, "README.md").split("---\n")[1])
    return values


def commits(client: Client) -> int:
    return len(client.api().list_repo_commits(SPACE, repo_type="space"))


def test_the_space_holds_the_app_and_hubq(client: Client) -> None:
    put_up(client)

    held = set(client.api().list_repo_files(SPACE, repo_type="space"))
    assert {"app.py", "releases/models.py", "README.md", "requirements.txt", "LICENSE"} <= held
    assert {"hubq/__init__.py", "hubq/sources/apache-2.0.txt", "hubq/runtime/quantizer.py"} <= held


def test_what_no_space_runs_stays_at_home(client: Client) -> None:
    put_up(client)

    held = client.api().list_repo_files(SPACE, repo_type="space")
    rooms = ("cli", "embedded_hub", "stages/recipe/recipes", "stages/publish/space")
    unused = ("constraints.txt", *(f"hubq/{each}/" for each in rooms))
    assert not [path for path in held if path.startswith(unused) or "__pycache__" in path]


def test_all_files_come_in_one_commit(client: Client) -> None:
    done = put_up(client)

    assert commits(client) == 2  # the founding one and ours
    assert done.commit == client.api().space_info(SPACE).sha
    assert done.changed


def test_deploying_twice_makes_no_second_commit(
    client: Client, releases: tuple[str, str], hub: FaultyHub
) -> None:
    first = put_up(client)
    before = len(hub.faults.requests("POST|DELETE", r"/api/spaces/"))

    second = put_up(client)

    assert second == first.model_copy(update={"changed": False})
    assert commits(client) == 2
    assert len(hub.faults.requests("POST|DELETE", r"/api/spaces/")) == before


def test_the_head_of_the_readme_is_what_a_hub_takes(
    client: Client, releases: tuple[str, str]
) -> None:
    put_up(client)

    verdict = validate(text_of(client, "README.md"), "space")
    assert (verdict.errors, verdict.warnings) == ([], [])


def test_the_readme_of_the_source_is_what_a_hub_takes_too() -> None:
    readme = (app_folder() / "README.md").read_text(encoding="utf-8")

    verdict = validate(readme, "space")
    values = yaml.safe_load(readme.split("---\n")[1])
    assert (verdict.errors, verdict.warnings) == ([], [])
    assert f"gradio=={values['sdk_version']}" == read_pins(APP / "constraints.txt")["gradio"]
    assert len(values["short_description"]) <= 60


def test_the_readme_names_what_everybody_may_see(client: Client, releases: tuple[str, str]) -> None:
    put_up(client)

    head = head_of_readme(client)
    assert head["models"] == [RTN]
    commit = client.api().model_info(RTN).sha
    (preload,) = head["preload_from_hub"]
    name, files, revision = preload.split(" ")
    assert (name, revision) == (RTN, commit)
    assert {"model.safetensors", "config.json", "hubq/report.json"} <= set(files.split(","))


def test_an_organization_without_models_has_a_space_too(client: Client) -> None:
    put_up(client)

    assert "models" not in head_of_readme(client)


def test_a_new_release_is_in_the_next_deployment(client: Client, releases: tuple[str, str]) -> None:
    put_up(client)
    client.api().update_repo_settings(GPTQ, private=False)

    done = put_up(client)

    assert done.changed
    assert head_of_readme(client)["models"] == [GPTQ, RTN]


def test_every_requirement_is_pinned_to_what_was_tested(client: Client) -> None:
    put_up(client)

    lines = text_of(client, "requirements.txt").split()
    pins = set(read_pins(APP / "constraints.txt").values())
    assert {"torch", "transformers", "gradio", "huggingface_hub"} <= {
        line.partition("==")[0] for line in lines
    }
    assert [line for line in lines if line not in pins] == ["pydantic>=2.11,<3"]


def test_another_index_can_be_asked_for_packages(client: Client) -> None:
    deploy("compare", PLAIN, client, DeploymentOptions(index="https://example.org/cpu"))

    first = text_of(client, "requirements.txt").splitlines()[0]
    assert first == "--extra-index-url https://example.org/cpu"


def test_the_organization_is_a_variable(client: Client) -> None:
    put_up(client)

    known = client.api().get_space_variables(SPACE)
    assert {name: each.value for name, each in known.items()} == {"HUBQ_SPACE_ORG": "acme"}
    assert client.api().get_space_secrets(SPACE) == {}


def test_the_repo_of_votes_is_a_variable_that_stays(client: Client) -> None:
    put_up(client, votes="acme/votes")

    put_up(client)

    assert client.api().get_space_variables(SPACE)["HUBQ_SPACE_VOTES"].value == "acme/votes"


def test_a_token_becomes_a_secret_and_is_in_no_file(
    client: Client, releases: tuple[str, str], hub: FaultyHub
) -> None:
    token = mint_token(hub.root, user="ann", role="read", expires_in=60)

    done = put_up(client, token=token)

    secrets = client.api().get_space_secrets(SPACE)
    assert list(secrets) == ["HF_TOKEN"]
    assert token not in str(secrets["HF_TOKEN"].description)
    place = Path(client.api().snapshot_download(SPACE, repo_type="space"))
    for path in place.rglob("*"):
        if path.is_file():
            assert token.encode() not in path.read_bytes()
    assert token not in done.model_dump_json()
    assert token not in repr(Settings("acme", token=token))


def test_a_token_is_set_again_only_where_it_is_another(client: Client, hub: FaultyHub) -> None:
    for token in (hub.token, hub.token, "hf_another"):
        put_up(client, token=token)

    assert len(hub.faults.requests("POST", "/secrets")) == 2


def test_a_token_comes_from_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("READER", " hf_abc \n")
    monkeypatch.delenv("NOBODY", raising=False)

    assert token_from("READER") == "hf_abc"
    with pytest.raises(UserError, match="the environment variable NOBODY is empty"):
        token_from("NOBODY")


def test_models_that_the_space_cant_read_are_reported(
    client: Client, releases: tuple[str, str], hub: FaultyHub
) -> None:
    assert put_up(client).hides_models
    assert not put_up(client, token=hub.token).hides_models
    assert not put_up(client).hides_models  # the token of before is still there


def test_hardware_is_asked_for_through_the_api(client: Client) -> None:
    done = put_up(client, hardware="t4-small")

    assert done.hardware == "t4-small"
    assert client.api().get_space_runtime(SPACE).requested_hardware == "t4-small"
    assert head_of_readme(client)["suggested_hardware"] == "t4-small"


def test_hardware_stays_as_it_is_unless_other_is_wanted(client: Client) -> None:
    put_up(client, hardware="t4-small")

    done = put_up(client)

    assert (done.hardware, done.changed) == ("t4-small", False)


def test_zerogpu_gets_a_python_that_it_has(client: Client) -> None:
    put_up(client, hardware="zero-a10g")

    assert head_of_readme(client)["python_version"] == "3.12.12"


def test_unknown_hardware_is_refused_before_anything_is_made(client: Client) -> None:
    with pytest.raises(UserError, match="no hardware t4-smal; did you mean t4-small"):
        put_up(client, hardware="t4-smal")

    assert not list(client.api().list_spaces(author="acme"))


def test_a_private_space_stays_private(client: Client) -> None:
    assert put_up(client, private=True).private
    assert client.api().space_info(SPACE).private

    with pytest.raises(UserError, match=r"is private on the Hub\. Deploy it with --private"):
        put_up(client)


def test_a_space_of_somebody_else_is_left_alone(client: Client) -> None:
    client.api().create_repo(SPACE, repo_type="space", space_sdk="gradio")
    theirs = CommitOperationAdd("app.py", b"print()")
    client.api().create_commit(SPACE, [theirs], repo_type="space", commit_message="By hand")

    with pytest.raises(UserError, match=r"hubq did not put there, such as app\.py"):
        put_up(client)

    assert commits(client) == 2
    assert client.api().get_space_variables(SPACE) == {}


def test_what_the_app_no_longer_has_is_removed(client: Client) -> None:
    put_up(client)
    old = CommitOperationAdd("old.py", b"")
    client.api().create_commit(SPACE, [old], repo_type="space", commit_message="Older")

    put_up(client)

    assert "old.py" not in client.api().list_repo_files(SPACE, repo_type="space")


def test_who_may_not_write_there_is_told_so(hub: FaultyHub) -> None:
    add_user(hub.root, "eve")
    eve = Client(hub.endpoint, mint_token(hub.root, user="eve", role="write", expires_in=60))

    with pytest.raises(UserError, match="eve may not write to acme"):
        deploy("compare", PLAIN, eve)


@pytest.mark.parametrize("fault", [drop, refuse])
def test_a_commit_whose_reply_was_lost_is_not_made_twice(
    client: Client, hub: FaultyHub, fault: Any
) -> None:
    options = {"status": 500} if fault is refuse else {}
    hub.faults.add(fault("POST", r"/commit/main", after=True, **options))

    put_up(client)

    assert commits(client) == 2


def test_git_finds_the_space_sound(client: Client, hub: FaultyHub) -> None:
    put_up(client)

    fsck(hub.root)


def test_a_deployment_is_a_record(client: Client, tmp_path: Path) -> None:
    done = put_up(client)

    assert done.url == f"{client.url}/spaces/{SPACE}"
    assert json.loads(done.model_dump_json())["repo"] == SPACE
