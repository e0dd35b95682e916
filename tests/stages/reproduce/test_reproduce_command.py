"""The command: what it prints of each end, and by which code it ends."""

import json
import os
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_on_a_hub import RTN, Maker

from hubq.cli import cli
from hubq.stages.publish.publish import Publication


@pytest.fixture(scope="module")
def release(maker: Maker) -> Publication:
    return maker.published(
        maker.recipe(RTN, publish={"org": "acme", "name": "Commanded"}), "commanded"
    )


def run_command(*words: str) -> Result:
    return CliRunner().invoke(cli, ["reproduce", *words, "--hub", os.environ["HF_ENDPOINT"]])


@pytest.fixture(autouse=True)
def logged_in(maker: Maker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert maker.client.endpoint is not None
    assert maker.client.token is not None
    monkeypatch.setenv("HF_ENDPOINT", maker.client.endpoint)
    monkeypatch.setenv("HF_TOKEN", maker.client.token)
    monkeypatch.chdir(tmp_path)


def test_the_same_bytes_are_no_error(release: Publication, tmp_path: Path) -> None:
    ended = run_command(release.repo)

    assert ended.exit_code == 0
    assert ended.stdout.splitlines() == [
        "run   runs/Commanded-again",
        f"repo  {release.repo}@{release.commit[:12]}",
        f"the same bytes: all {len(list((tmp_path / 'runs/Commanded-again/model').iterdir()))} "
        "files that were measured",
    ]


def test_what_is_apart_has_an_exit_code_of_its_own(maker: Maker, release: Publication) -> None:
    repo = maker.tamper(
        release.repo, "hubq/recipe.yaml", lambda text: text.replace("bits: 4", "bits: 3")
    )

    ended, as_json = run_command(repo), run_command(repo, "--json")

    assert (ended.exit_code, as_json.exit_code) == (3, 3)
    assert "apart: codes of other widths, in 14 tensors; other bytes in " in ended.stdout
    assert "note  hubq/recipe.yaml is not the recipe that" in ended.stdout
    assert "  and 9 more: --json has all" in ended.stdout
    told = json.loads(as_json.stdout)
    assert (told["verdict"], len(told["tensors_apart"])) == ("apart", 14)


def test_a_name_that_is_none_is_an_error_of_another_code() -> None:
    ended = run_command("acme/a--b")

    assert ended.exit_code == 1
    assert "is not a repo name" in ended.stderr
