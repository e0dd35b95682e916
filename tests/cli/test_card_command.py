"""hubq card: of a folder, of a repo, and --check."""

import json
from pathlib import Path

import pytest
from command_line import hubq
from faulty_hub import FaultyHub
from made_run import REPO, full_report, make_run
from unloaded import publish

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.records.report import Report
from hubq.stages.card.card import render
from hubq.stages.compare.reports import siblings_in

OTHER = "acme/Tiny-Llama-GPTQ-3bit"

pytestmark = pytest.mark.usefixtures("own_folder")


@pytest.fixture
def endpoint(hub: FaultyHub, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HF_TOKEN", hub.token)
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    return hub.endpoint


def released(folder: Path, repo: str = REPO) -> Path:
    """Fill a folder of model_cards/ with a report, and no card yet."""
    report = full_report()
    plan = report.plan.model_copy(update={"repo": repo})
    report.model_copy(update={"plan": plan}).save(folder / "report.json")
    return folder


def test_the_card_of_a_folder_is_written_from_its_report(own_folder: Path) -> None:
    folder = released(own_folder / "model_cards" / "one")

    said = hubq("card", folder)

    assert said.output == f"{folder / 'README.md'}\n"
    assert (folder / "README.md").read_text() == render(Report.load(folder / "report.json"))
    assert (folder / "images" / "errors-dark.png").is_file()


def test_cards_that_lie_beside_each_other_are_siblings(own_folder: Path) -> None:
    one = released(own_folder / "model_cards" / "one")
    two = released(own_folder / "model_cards" / "two", OTHER)

    hubq("card", one, two)

    assert [each.name for each in siblings_in(one).entries] == [OTHER]
    assert [each.name for each in siblings_in(two).entries] == [REPO]
    assert f"[3bit](https://huggingface.co/{OTHER})" in (one / "README.md").read_text()


def test_cards_are_printed_as_json(own_folder: Path) -> None:
    folder = released(own_folder / "one")

    said = hubq("card", folder, "--json")

    assert json.loads(said.stdout) == {"cards": [str(folder / "README.md")]}


def test_the_card_of_a_repo_is_written_from_its_report_and_siblings(
    own_folder: Path, endpoint: str, hub: FaultyHub
) -> None:
    client = Client(hub.endpoint, hub.token, RetryPolicy(first=0.01))
    for number, repo in enumerate((REPO, OTHER)):
        run = own_folder / f"run{number}"
        publish(make_run(run, repo, seed=number), run, client)

    said = hubq("card", REPO, "--hub", endpoint, "--out", "there")

    assert (said.exit_code, said.stdout) == (0, "there/README.md\n")
    assert [each.name for each in siblings_in(Path("there")).entries] == [OTHER]
    assert hubq("card", "--check", "there").output == "1 cards match their records\n"


def test_a_repo_that_hubq_did_not_publish_has_nothing_to_write_from(
    endpoint: str, hub: FaultyHub
) -> None:
    client = Client(hub.endpoint, hub.token)
    client.api().create_repo("acme/by-hand")

    said = hubq("card", "acme/by-hand", "--hub", endpoint)

    assert said.exit_code == 1
    assert "acme/by-hand holds no hubq/report.json" in said.stderr


def test_a_card_that_was_edited_fails_the_check(own_folder: Path) -> None:
    good, bad = (released(own_folder / name) for name in ("good", "bad"))
    hubq("card", good, bad)
    card = bad / "README.md"
    card.write_text(card.read_text().replace("29.58", "25.58"))

    said = hubq("card", "--check", good, bad)

    assert said.exit_code == 1
    assert f"{card}, line " in said.stderr
    assert "1 of 2 cards do not match their records" in said.stderr


def test_differences_are_printed_as_json(own_folder: Path) -> None:
    folder = released(own_folder / "one")

    said = hubq("card", "--check", folder, "--json")

    assert said.exit_code == 1
    assert (
        f"{folder / 'README.md'} is missing" in json.loads(said.stdout)["differences"][str(folder)]
    )


def test_what_is_neither_recipe_nor_folder_nor_repo_is_refused() -> None:
    said = hubq("card", "nothing-there")

    assert said.exit_code == 1
    assert "there is no recipe, folder or repo nothing-there" in said.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--fresh",), "--fresh is for recipes"),
        (("--out", "x"), "--out is for a repo"),
    ],
)
def test_options_that_say_nothing_about_a_folder_are_refused(
    own_folder: Path, options: tuple[str, ...], complaint: str
) -> None:
    folder = released(own_folder / "one")

    said = hubq("card", folder, *options)

    assert said.exit_code == 2
    assert complaint in said.stderr


def test_several_cards_do_not_go_to_one_place(own_folder: Path) -> None:
    said = hubq("card", "acme/one", "acme/two", "--out", own_folder)

    assert said.exit_code == 2
    assert "take one target" in said.stderr


def test_the_card_of_a_repo_overwrites_no_file_of_the_users(own_folder: Path) -> None:
    (own_folder / "README.md").write_text("years of work")

    said = hubq("card", "acme/one", "--out", own_folder)

    assert said.exit_code == 1
    assert "no card with its report: nothing was written there" in said.stderr
    assert (own_folder / "README.md").read_text() == "years of work"


def test_writing_a_card_leaves_other_pictures_alone(own_folder: Path) -> None:
    folder = released(own_folder / "one")
    hubq("card", folder)
    (folder / "images" / "me.png").touch()
    (folder / "images" / "bits-dark.png").write_text("of before, when there were siblings")

    hubq("card", folder)

    assert (folder / "images" / "me.png").exists()
    assert not (folder / "images" / "bits-dark.png").exists()
