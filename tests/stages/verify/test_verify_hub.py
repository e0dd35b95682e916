"""A release that is verified where it lies on a Hub, and what the command says of it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from attested_release import REPO, laid_out, measured_run, released, replaced
from click.testing import CliRunner
from faulty_hub import FaultyHub, faulty_hub
from huggingface_hub import CommitOperationAdd
from unloaded import publish

from hubq.cli import cli
from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.records.report import Report
from hubq.records.run_folder import REPORT
from hubq.stages.verify.base_checks import base, base_license
from hubq.stages.verify.findings import Finding, applied
from hubq.stages.verify.gather import Trust, folder_subject, repo_subject
from hubq.stages.verify.verify import Verification, verify

BASE = "acme/tiny"
CARD = b"---\nlicense: apache-2.0\n---\n# Tiny\n"


class Place(NamedTuple):
    """A hub with a release and its base."""

    hub: FaultyHub
    client: Client
    run: Path
    base: str  # the commit
    release: str  # the commit


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Publish a release and its base; who changes something names a commit of before."""
    folder = tmp_path_factory.mktemp("place")
    with faulty_hub(folder / "hub", user="ann", org="acme", wait=False) as hub:
        client = Client(hub.endpoint, hub.token, RetryPolicy(first=0.01))
        client.api().create_repo(BASE)
        made = put(client, BASE, "README.md", CARD)
        report = of_base(folder / "run", made)
        commit = publish(report, folder / "run", client).commit
        yield Place(hub, client, folder / "run", made, commit)


def put(client: Client, repo: str, path: str, content: bytes) -> str:
    operations = [CommitOperationAdd(path, content)]
    oid: str = client.api().create_commit(repo, operations, commit_message="By hand").oid
    return oid


def of_base(run: Path, commit: str, **plan: Any) -> Report:
    """Fill a run folder with what was made of the base at a commit."""
    recipe = json.loads(
        (Path(__file__).parents[2] / "fixtures/made_before/run/plan.json").read_text()
    )["recipe"]
    recipe["model"] |= {"hub": BASE, "folder": None, "license": None}
    return measured_run(run, source=f"{BASE}@{commit}", recipe=recipe, **plan)


def failed(found: Verification) -> set[str]:
    return {each.check for each in found.failed}


def test_a_release_is_verified_by_what_the_hub_lists(place: Place) -> None:
    found = verify(repo_subject(f"{REPO}@{place.release}", place.client, Trust()))

    unknown = {each.check for each in found.findings if each.status == "unknown"}
    assert found.release == f"{REPO}@{place.release}"
    assert (failed(found), unknown) == (set(), {"signature"})


def test_no_weights_are_downloaded_unless_that_is_asked_for(place: Place) -> None:
    name = f"{REPO}@{place.release}"
    listed = repo_subject(name, place.client, Trust())
    whole = repo_subject(name, place.client, Trust(), whole=True)

    assert "model.safetensors" not in listed.places
    assert "model.safetensors" in whole.places
    assert listed.files == whole.files
    assert failed(verify(whole)) == set()


def test_weights_that_were_replaced_are_found_by_the_hubs_hash(place: Place) -> None:
    content = bytearray((place.run / "model" / "model.safetensors").read_bytes())
    content[-1] ^= 1
    commit = put(place.client, REPO, "model.safetensors", bytes(content))

    found = verify(repo_subject(f"{REPO}@{commit}", place.client, Trust()))

    assert failed(found) == {"attested-files", "measured-files"}


def judged(check: Any, place: Place, run: Path, commit: str, **plan: Any) -> Finding:
    """Apply a check to a release that was made of the base at this commit."""
    report = of_base(run, commit, **plan)
    folder = run.parent / "release"
    (folder / "hubq").mkdir(parents=True)
    shutil.copy(run / REPORT, folder / "hubq" / REPORT)
    assert report.plan.source.endswith(commit)
    return applied(check, folder_subject(folder, place.client, Trust()))


def test_a_base_without_that_commit_is_found(place: Place, tmp_path: Path) -> None:
    found = judged(base, place, tmp_path / "run", "0" * 40)

    assert (found.status, found.reason) == ("failed", f"{BASE} has no commit {'0' * 40}")


def test_a_base_that_is_not_there_is_found(place: Place, tmp_path: Path) -> None:
    report = measured_run(tmp_path / "run", source=f"acme/none@{'0' * 40}")
    folder = laid_out(released(report, tmp_path / "run"), tmp_path / "repo")

    found = applied(base, folder_subject(folder, place.client, Trust()))

    assert found.status == "failed"
    assert "has no acme/none, or does not show it" in found.reason


def test_a_license_that_is_not_the_bases_is_found(place: Place, tmp_path: Path) -> None:
    found = judged(base_license, place, tmp_path / "run", place.base, license="mit")

    assert (found.status, found.reason) == (
        "failed",
        "the base says apache-2.0, and the report mit",
    )


def test_the_command_says_what_each_check_found(place: Place) -> None:
    words = ["verify", f"{REPO}@{place.release}", "--hub", place.hub.endpoint, "--json"]

    result = CliRunner(env={"HF_TOKEN": place.hub.token, "HF_ENDPOINT": place.hub.endpoint}).invoke(
        cli, words
    )

    said = json.loads(result.stdout)
    assert result.exit_code == 0
    assert said["failed"] == 0
    assert {"check": "bits", "status": "ok"}.items() <= said["checks"][8].items()


def test_the_command_ends_with_3_where_a_check_failed(tmp_path: Path) -> None:
    report = measured_run(tmp_path / "run")
    folder = laid_out(released(report, tmp_path / "run"), tmp_path / "repo")
    replaced(folder / "hubq" / "plan.json", "tiny-GPTQ-4bit", "tiny-GPTQ-3bit")

    result = CliRunner().invoke(cli, ["verify", str(folder)])

    assert result.exit_code == 3
    assert "failed   records         hubq/plan.json is not the plan of the report" in result.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["x/y", "--identity", "ann@acme.org"], "--identity and --issuer belong together"),
        (["x/y", "--key", "none.pub"], "there is no file none.pub"),
        (["./none"], "there is no folder ./none"),
    ],
)
def test_what_can_not_be_verified_is_refused(words: list[str], said: str) -> None:
    result = CliRunner().invoke(cli, ["verify", *words])

    assert result.exit_code in (1, 2)
    assert said in result.stderr
