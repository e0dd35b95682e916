import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from faulty_hub import FaultyHub, refuse
from huggingface_hub import CommitOperationAdd
from made_models import BASE, full_report, made_model
from made_run import made_plan, made_report, make_run, measurement
from unloaded import publish

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from page.numbers_tab import card_text
from releases.catalogue import Sources, find
from releases.models import Listing, Problem

NOBODY = Client("http://127.0.0.1:9", retries=RetryPolicy(tries=1))


def names(listing: Listing) -> list[str]:
    return [each.name for each in listing.models]


def sentences(listing: Listing) -> str:
    return "\n".join(problem.sentence for problem in listing.problems)


def in_folders(*folders: Path) -> Listing:
    return find(Sources(names=tuple(map(str, folders))), NOBODY)


def saved(folder: Path, **changes: Any) -> Path:
    """Write a report with some values replaced, whatever they are."""
    folder.mkdir(parents=True)
    values = json.loads(full_report().model_dump_json())
    (folder / "report.json").write_text(json.dumps({**values, **changes}))
    return folder


def test_an_organizations_models_are_listed_with_their_base(
    releases: tuple[str, str], client: Client
) -> None:
    listing = find(Sources(org="acme"), client)

    assert names(listing) == [BASE, *sorted(releases)]
    assert not listing.problems


def test_the_weights_of_a_release_are_pinned_to_the_commit_of_its_report(
    releases: tuple[str, str], client: Client
) -> None:
    listing = find(Sources(org="acme"), client)

    places = {each.name: str(each.weights) for each in listing.models}
    assert places[releases[0]] == f"{releases[0]}@{client.api().model_info(releases[0]).sha}"


def test_the_weights_of_a_release_can_be_fetched(releases: tuple[str, str], client: Client) -> None:
    model = find(Sources(org="acme"), client).models[1]
    assert model.weights is not None

    folder = model.weights.fetch(client)

    assert (folder / "model.safetensors").is_file()


def test_a_visitor_without_a_token_sees_the_public_models_only(
    releases: tuple[str, str], stranger: Client
) -> None:
    assert names(find(Sources(org="acme"), stranger)) == [BASE, releases[0]]


def test_private_models_are_marked(releases: tuple[str, str], client: Client) -> None:
    listing = find(Sources(org="acme"), client)

    assert {each.name: each.private for each in listing.models if not each.is_base} == {
        releases[0]: False,
        releases[1]: True,
    }


def test_listing_again_reads_no_report_again(
    releases: tuple[str, str], client: Client, hub: FaultyHub
) -> None:
    find(Sources(org="acme"), client)
    before = len(hub.faults.requests("GET|HEAD", r"/resolve/"))

    find(Sources(org="acme"), client)

    assert len(hub.faults.requests("GET|HEAD", r"/resolve/")) == before


def test_a_repo_can_be_named(releases: tuple[str, str], client: Client) -> None:
    assert names(find(Sources(names=(releases[1],)), client)) == [BASE, releases[1]]


def test_a_repo_that_is_not_there_is_a_sentence(client: Client) -> None:
    listing = find(Sources(names=("acme/gone",)), client)

    assert not listing.models
    assert "shows no repo acme/gone" in sentences(listing)


@pytest.mark.parametrize("name", ["/no/such/folder", "./no-such", "noslash", "a/b/c"])
def test_what_is_neither_folder_nor_repo_is_a_sentence(name: str) -> None:
    listing = find(Sources(names=(name,)), NOBODY)

    assert "is neither a folder here nor org/name" in sentences(listing)


def test_an_organization_without_models_is_a_sentence(client: Client) -> None:
    listing = find(Sources(org="acme"), client)

    assert "acme has no models" in sentences(listing)


def test_a_hub_that_cant_be_reached_is_a_sentence() -> None:
    listing = find(Sources(org="acme"), NOBODY)

    assert "http://127.0.0.1:9 can't be reached" in sentences(listing)


def test_a_repo_without_report_leaves_the_others_in_the_list(
    releases: tuple[str, str], client: Client
) -> None:
    client.api().create_repo("acme/by-hand")

    listing = find(Sources(org="acme"), client)

    assert set(releases) < set(names(listing))
    assert "acme/by-hand has no hubq/report.json" in sentences(listing)


def test_a_base_in_the_same_organization_is_no_problem(client: Client, tmp_path: Path) -> None:
    client.api().create_repo("acme/base")
    report = made_report(plan=made_plan(base_model="acme/base"))
    (tmp_path / "card").mkdir()
    report.save(tmp_path / "card" / "report.json")

    listing = find(Sources(org="acme", names=(str(tmp_path / "card"),)), client)

    assert not listing.problems


def test_a_report_of_a_version_to_come_is_a_sentence(
    releases: tuple[str, str], client: Client
) -> None:
    newer = CommitOperationAdd("hubq/report.json", b'{"version": 9}')
    client.api().create_commit(releases[0], [newer], commit_message="From the future")

    listing = find(Sources(org="acme"), client)

    assert names(listing) == [BASE, releases[1]]
    assert "its report is of version 9; this hubq reads up to 2" in sentences(listing)


def test_a_report_that_the_hub_does_not_give_is_a_sentence(
    releases: tuple[str, str], client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse("HEAD|GET", rf"{releases[0]}/resolve", 403, times=99))

    listing = find(Sources(org="acme"), client)

    assert names(listing) == [BASE, releases[1]]
    assert "does not allow this with this token" in sentences(listing)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is damaged"),
        ("[]", "can't be read"),
        ('"text"', "can't be read"),
        ("null", "can't be read"),
        ("{}", "can't be read"),
        ('{"version": 2, "subject": 1}', "can't be read"),
        ('{"version": "two"}', "can't be read"),
    ],
)
def test_a_damaged_report_is_a_sentence(content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(content)

    listing = in_folders(tmp_path)

    assert words in sentences(listing)


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({}, "plan.recipe.model"),
        ({"model": "acme/base"}, "plan.recipe.model"),
        ({"method": "awq"}, "plan.recipe.method"),
        ({"method": {"name": 4}}, "plan.recipe.method.name"),
        ({"publish": None}, "plan.recipe.publish"),
    ],
)
def test_a_report_with_an_odd_recipe_leaves_the_others_listed(
    recipe: dict[str, Any], words: str, tmp_path: Path
) -> None:
    make_run(tmp_path / "whole", "acme/whole")
    values = json.loads(full_report().model_dump_json())
    written = {**values["plan"]["recipe"], **recipe} if recipe else {}
    saved(tmp_path / "odd", plan={**values["plan"], "recipe": written})

    listing = in_folders(tmp_path)

    assert words in sentences(listing)
    assert "acme/whole" in names(listing)


def test_a_report_that_is_nested_without_end_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("[" * 100_000)

    assert "is damaged" in sentences(in_folders(tmp_path))


def test_models_that_can_not_answer_are_labelled_and_come_last(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "acme/z-with-weights")
    make_run(tmp_path / "gone", "acme/a-report-alone")
    shutil.rmtree(tmp_path / "gone" / "model")

    choices = in_folders(tmp_path).choices

    assert ("acme/z-with-weights", "acme/z-with-weights") in choices
    assert choices[-1] == ("acme/a-report-alone (numbers only)", "acme/a-report-alone")


def test_a_report_of_version_1_is_read(tmp_path: Path) -> None:
    values = json.loads(made_report().model_dump_json())
    (tmp_path / "report.json").write_text(json.dumps({**values, "version": 1}))

    assert len(in_folders(tmp_path).models) == 2


def test_a_folder_of_runs_is_listed_run_by_run(tmp_path: Path) -> None:
    make_run(tmp_path / "runs" / "a", "acme/a")
    make_run(tmp_path / "runs" / "b", "acme/b")

    listing = in_folders(tmp_path / "runs")

    assert names(listing) == [BASE, "acme/a", "acme/b"]
    assert str(listing.models[1].weights) == str((tmp_path / "runs" / "a" / "model").resolve())


def test_a_report_alone_has_no_weights(tmp_path: Path) -> None:
    listing = in_folders(saved(tmp_path / "card"))

    assert listing.models[1].weights is None


def test_a_pulled_repo_is_a_source_too(
    releases: tuple[str, str], client: Client, tmp_path: Path
) -> None:
    client.api().snapshot_download(releases[0], local_dir=tmp_path / "pulled")

    listing = in_folders(tmp_path / "pulled")

    assert str(listing.models[1].weights) == str((tmp_path / "pulled").resolve())


def test_of_a_model_that_is_found_twice_the_one_with_weights_is_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    make_run(run, "acme/a")
    (tmp_path / "card").mkdir()
    shutil.copy(run / "report.json", tmp_path / "card")

    listing = in_folders(tmp_path / "card", run)

    assert names(listing) == [BASE, "acme/a"]
    assert listing.models[1].weights is not None


def test_a_folder_without_reports_is_a_sentence(tmp_path: Path) -> None:
    assert "has no report.json" in sentences(in_folders(tmp_path))


def test_a_folder_that_was_removed_says_so_when_it_is_fetched(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    model = in_folders(tmp_path / "run").models[1]
    shutil.rmtree(tmp_path / "run")

    with pytest.raises(Exception, match="is gone since this list was made"):
        model.weights.fetch(NOBODY)  # type: ignore[union-attr]


def test_a_base_is_what_was_measured_where_that_is_to_be_had(tmp_path: Path) -> None:
    listing = in_folders(saved(tmp_path / "card"))

    base = listing.models[0].weights
    assert base is not None
    assert base.identity == f"{BASE}@8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920"


def test_a_base_in_a_folder_of_somebody_else_is_taken_from_the_hub(tmp_path: Path) -> None:
    report = full_report()
    report.plan.recipe["model"] = {"folder": "Meta-Llama-3-8B", "base_model": BASE}
    (tmp_path / "card").mkdir()
    report.save(tmp_path / "card" / "report.json")

    base = in_folders(tmp_path / "card").models[0].weights

    assert base is not None
    assert str(base) == BASE
    assert base.identity is None


def test_a_base_without_a_name_that_is_not_here_has_no_weights(tmp_path: Path) -> None:
    report = full_report()
    report.plan.recipe["model"] = {"folder": "secret"}
    plan = report.plan.model_copy(update={"base_model": None, "source": "sha256:77"})
    (tmp_path / "card").mkdir()
    report.model_copy(update={"plan": plan}).save(tmp_path / "card" / "report.json")

    base = in_folders(tmp_path / "card").models[0]

    assert base.name == "sha256:77"
    assert base.weights is None


def test_a_tiny_base_in_a_folder_is_fetched_from_there(tmp_path: Path, tiny_model: Any) -> None:
    from hubq.records.recipe_inputs import ModelSection
    from hubq.sources.find import find as find_source
    from releases.models import Weights

    section = ModelSection(folder=tiny_model("llama"))
    weights = Weights(section=section, identity=find_source(section, NOBODY).identity)

    assert weights.fetch(NOBODY) == tiny_model("llama")


def test_the_row_of_a_base_has_its_own_bits_and_perplexity(tmp_path: Path) -> None:
    row = in_folders(saved(tmp_path / "card")).models[0].entry

    assert row.stored_bits == 16.0
    assert row.perplexities == {"xsum": 25.97}
    assert row.divergence is None
    assert row.tokens_per_second == 11.5


def test_models_stand_in_the_order_of_their_stored_bits(tmp_path: Path) -> None:
    for bits in (8.0, 2.0, 4.0):
        report = full_report(f"acme/w{bits:.0f}", stored=bits)
        (tmp_path / f"{bits}").mkdir()
        report.save(tmp_path / f"{bits}" / "report.json")

    assert names(in_folders(tmp_path)) == [BASE, "acme/w2", "acme/w4", "acme/w8"]


def test_recoveries_are_of_one_accuracy_a_task_and_of_perplexity() -> None:
    recoveries = {each.task: each.share for each in made_model().recoveries}

    assert list(recoveries) == ["perplexity xsum", "piqa acc", "boolq acc"]
    assert recoveries["piqa acc"].low is not None


def test_a_second_accuracy_of_a_task_is_left_out() -> None:
    report = full_report()
    twice = (*report.measurements, measurement(task="piqa", metric="acc_norm", better="higher"))

    model = made_model(measurements=twice)

    assert "piqa acc_norm" not in {each.task for each in model.recoveries}


def test_what_was_not_measured_is_none() -> None:
    model = made_model(divergence=None, efficiency=None, overall=None)

    assert model.divergence is None
    assert model.tokens_per_second is None
    assert model.entry.recovery is None


def test_a_license_is_shown_with_the_words_that_it_asks_for() -> None:
    assert made_model().license_line == "llama3. Built with Meta Llama 3"


def test_a_releases_card_is_read_from_its_repo(releases: tuple[str, str], client: Client) -> None:
    model = find(Sources(org="acme"), client).models[1]

    text = card_text(model, client)

    assert text.startswith("# Tiny-Llama")
    assert model.card_url == f"{client.url}/{model.name}"


def test_a_runs_card_is_read_from_the_folder(tmp_path: Path) -> None:
    make_run(tmp_path / "run")
    (tmp_path / "run" / "README.md").write_text("---\nlicense: mit\n---\n\n# Title\n")

    assert card_text(in_folders(tmp_path / "run").models[1], NOBODY) == "# Title\n"


def test_a_card_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    model = in_folders(saved(tmp_path / "card")).models[1]

    assert "There is no card" in card_text(model, NOBODY)


def test_sources_come_from_the_environment() -> None:
    named = {"HUBQ_SPACE_ORG": "acme", "HUBQ_SPACE_MODELS": "runs/a\nacme/b"}

    assert Sources.of(named) == Sources("acme", ("runs/a", "acme/b"))


def test_a_bare_space_shows_its_own_account() -> None:
    assert Sources.of({"SPACE_AUTHOR_NAME": "acme"}) == Sources("acme")


def test_a_problem_has_the_name_of_what_it_is_about(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{")

    problem = in_folders(tmp_path).problems[0]

    assert isinstance(problem, Problem)
    assert problem.name == str(tmp_path)


def test_a_private_release_is_read_with_a_token(client: Client, tmp_path: Path) -> None:
    run = tmp_path / "run"
    publish(make_run(run), run, client)

    assert "acme/Tiny-Llama-GPTQ-4bit" in names(find(Sources(org="acme"), client))
