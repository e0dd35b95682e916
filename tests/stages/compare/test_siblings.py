from pathlib import Path

from faulty_hub import FaultyHub, refuse
from made_adaptation import OWN_REPO, make_adapted
from made_run import REPO, made_plan, made_report, make_run
from unloaded import publish, publish_adapted

from hubq.client.client import Client
from hubq.records.adapted_report import load_report
from hubq.records.report import Report
from hubq.records.run_folder import SIBLINGS
from hubq.stages.compare.reports import Siblings, beside, on_hub, siblings_in, siblings_of

OTHER = "acme/Tiny-Llama-GPTQ-3bit"
BASE = "acme/Base"


def quiet(sentence: str) -> None:
    raise AssertionError(sentence)


def reported(repo: str = OTHER, bits: float = 4.0, base: str | None = "acme/Base") -> Report:
    report = made_report(plan=made_plan(repo, base_model=base))
    checkpoint = report.checkpoint.model_copy(update={"linear_bits": bits, "model_bits": bits + 2})
    return report.model_copy(update={"checkpoint": checkpoint})


def test_siblings_are_of_the_same_base_and_come_with_the_fewest_bits_first() -> None:
    others = [
        reported("acme/eight", 8.4),
        reported("acme/two", 2.3),
        reported("acme/stranger", 1.0, base="acme/Another"),
    ]

    siblings = siblings_of(reported(REPO), others)

    assert [each.name for each in siblings.entries] == ["acme/two", "acme/eight"]


def test_a_model_is_no_sibling_of_itself() -> None:
    assert siblings_of(reported(REPO), [reported(REPO, 3.0)]) == Siblings()


def test_one_name_is_one_sibling_and_the_last_word_counts() -> None:
    siblings = siblings_of(reported(REPO), [reported(OTHER, 3.0), reported(OTHER, 5.0)])

    assert [each.stored_bits for each in siblings.entries] == [5.0]


def test_a_private_model_is_not_shown_on_the_card_of_a_public_one() -> None:
    public = reported(REPO)
    public.plan.recipe["publish"]["private"] = False

    assert siblings_of(public, [reported(OTHER)]) == Siblings()


def test_a_run_beside_counts_once_it_is_published(tmp_path: Path) -> None:
    run, other = tmp_path / "this", tmp_path / "other"
    make_run(run)
    report = make_run(other, OTHER)
    before = list(beside(run, quiet))

    (other / "publication.json").write_text("{}")

    assert (before, list(beside(run, quiet))) == ([], [report])


def test_what_another_run_adapted_counts_and_lies_beside_as_a_run_does(tmp_path: Path) -> None:
    run, other = tmp_path / "this", tmp_path / "other"
    own = make_adapted(run, make_run(run))
    report = make_adapted(other, make_run(other, OTHER))
    for folder in (run, other):
        (folder / "adapted" / "publication.json").write_text("{}")

    assert list(beside(run, quiet)) == [report, own]
    assert list(beside(run / "adapted", quiet)) == [report]


def test_an_adapter_and_its_quantized_model_are_no_siblings(tmp_path: Path) -> None:
    own = make_adapted(tmp_path, make_run(tmp_path))
    quantized = load_report(tmp_path / "report.json")

    assert siblings_of(own, [quantized]) == siblings_of(quantized, [own]) == Siblings()


def test_a_card_that_lies_beside_counts(tmp_path: Path) -> None:
    report = reported(OTHER)
    report.save(tmp_path / "other" / "report.json")
    (tmp_path / "this").mkdir()

    assert list(beside(tmp_path / "this", quiet)) == [report]


def test_a_copy_of_a_repo_that_lies_beside_counts(tmp_path: Path) -> None:
    report = reported(OTHER)
    report.save(tmp_path / "other" / "hubq" / "report.json")
    (tmp_path / "this").mkdir()

    assert list(beside(tmp_path / "this", quiet)) == [report]


def test_a_report_that_can_not_be_read_is_told_and_left_out(tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / "this").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "report.json").write_text('{"version": 99}')

    found = list(beside(tmp_path / "this", told.append))

    assert found == []
    assert "other/report.json does not hold a Report" in told[0]


def test_the_hub_tells_what_the_organization_published_of_the_base(
    tmp_path: Path, client: Client
) -> None:
    for number, repo in enumerate((REPO, OTHER)):
        run = tmp_path / f"run{number}"
        publish(make_run(run, repo, seed=number), run, client)

    found = list(on_hub(Report.load(tmp_path / "run0" / "report.json"), client, quiet))

    assert [each.plan.repo for each in found] == [OTHER]


def test_adapters_of_the_base_and_of_what_was_made_from_it_are_told_too(
    tmp_path: Path, client: Client
) -> None:
    own, run = tmp_path / "own", tmp_path / "run"
    publish_adapted(make_adapted(run, make_run(run, OTHER)), run, client)

    found = list(on_hub(make_run(own), client, quiet))

    assert [each.plan.repo for each in found] == [OTHER, OWN_REPO]


def test_a_repo_that_was_made_private_is_not_shown_on_a_public_card(
    tmp_path: Path, client: Client
) -> None:
    own, run = tmp_path / "own", tmp_path / "run"
    publish(make_run(run, OTHER, private=False), run, client)
    public = make_run(own, private=False)
    before = list(on_hub(public, client, quiet))

    client.api().update_repo_settings(OTHER, private=True)

    assert (len(before), list(on_hub(public, client, quiet))) == (1, [])


def test_other_repos_of_the_organization_are_left_alone(tmp_path: Path, client: Client) -> None:
    run = tmp_path / "run"
    client.api().create_repo("acme/by-hand")

    found = list(on_hub(make_run(run), client, quiet))

    assert found == []


def test_a_release_that_may_not_be_read_is_told_and_left_out(
    tmp_path: Path, client: Client, hub: FaultyHub
) -> None:
    told: list[str] = []
    run, other = tmp_path / "run", tmp_path / "other"
    publish(make_run(other, OTHER), other, client)
    hub.faults.add(refuse(".*", f"/{OTHER}/resolve/", 403, times=9))

    found = list(on_hub(make_run(run), client, told.append))

    assert found == []
    assert told[0].startswith(f"{OTHER} is left out of the related models: ")


def test_saved_siblings_are_read_back_from_a_folder_or_a_repo(tmp_path: Path) -> None:
    siblings = siblings_of(reported(REPO), [reported(OTHER)])
    siblings.save(tmp_path / "folder" / SIBLINGS)
    siblings.save(tmp_path / "repo" / "hubq" / SIBLINGS)

    assert siblings_in(tmp_path / "folder") == siblings
    assert siblings_in(tmp_path / "repo") == siblings
    assert siblings_in(tmp_path) == Siblings()
