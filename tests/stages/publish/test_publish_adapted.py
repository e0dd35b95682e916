"""A recipe that adapts: which repos are published, in which order, and what they say of another."""

import json
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, refuse
from huggingface_hub import CommitOperationAdd
from made_adaptation import OWN_REPO, make_adapted
from made_run import REPO, make_run
from unloaded import publish, publish_adapted

from hubq.client.client import Client
from hubq.client.pull import pull
from hubq.errors import UserError
from hubq.records.adapted_report import AdaptedReport, load_report
from hubq.records.plan import Plan
from hubq.stages.publish.adapted import remember_destinations
from hubq.stages.publish.publish import Publication

BASE, COMMIT = "meta-llama/Meta-Llama-3-8B", "8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920"


@pytest.fixture
def report(run: Path) -> AdaptedReport:
    return make_adapted(run, make_run(run))


def commits(client: Client, repo: str) -> int:
    return len(client.api().list_repo_commits(repo))


def config_of(client: Client, repo: str = OWN_REPO) -> dict[str, object]:
    path = client.api().hf_hub_download(repo, "adapter_config.json")
    return json.loads(Path(path).read_text())  # type: ignore[no-any-return]


def test_the_quantized_model_comes_first_and_the_adapter_is_pinned_to_its_commit(
    report: AdaptedReport, run: Path, client: Client
) -> None:
    first, second = publish_adapted(report, run, client)

    config = config_of(client)
    assert (first.repo, second.repo) == (REPO, OWN_REPO)
    assert (config["base_model_name_or_path"], config["revision"]) == (REPO, first.commit)
    assert first == Publication.load(run / "publication.json")
    assert second == Publication.load(run / "adapted" / "publication.json")
    card = (run / "adapted" / "README.md").read_text()
    assert f"`{REPO}@{first.commit}`" in card
    assert second.files["adapter_model.safetensors"] in card
    assert OWN_REPO in (run / "README.md").read_text()


def test_an_adapters_repo_holds_its_two_files_the_card_the_records_and_the_license(
    report: AdaptedReport, run: Path, client: Client
) -> None:
    publish_adapted(report, run, client)

    held = {path for path in client.api().list_repo_files(OWN_REPO) if "images/" not in path}
    assert held == {
        ".gitattributes",
        "LICENSE",
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "hubq/attestation.json",
        "hubq/plan.json",
        "hubq/recipe.yaml",
        "hubq/report.json",
        "hubq/siblings.json",
    }


def test_a_second_time_makes_no_commit_in_either(
    report: AdaptedReport, run: Path, client: Client
) -> None:
    before = publish_adapted(report, run, client)

    again = publish_adapted(load_adapted(run), run, client)

    assert again == before
    assert [commits(client, repo) for repo in (REPO, OWN_REPO)] == [2, 2]


def load_adapted(run: Path) -> AdaptedReport:
    found = load_report(run / "adapted" / "report.json")
    assert isinstance(found, AdaptedReport)
    return found


def test_a_kill_between_the_two_goes_on_with_the_second(
    report: AdaptedReport, run: Path, client: Client, hub: FaultyHub
) -> None:
    remember_destinations(report.plan.model_copy(update={"repo": REPO}), run, client)
    stopped = refuse("POST", f"{OWN_REPO}/commit/", 400)
    hub.faults.add(stopped)
    with pytest.raises(UserError):
        publish_adapted(report, run, client)

    first, second = publish_adapted(load_adapted(run), run, client)

    assert commits(client, REPO) == 2
    assert config_of(client)["revision"] == first.commit
    assert second.repo == OWN_REPO


def test_what_is_pulled_is_what_was_measured_but_for_the_name_of_its_base(
    report: AdaptedReport, run: Path, client: Client
) -> None:
    publish_adapted(report, run, client)

    folder = pull(OWN_REPO, None, client)

    weights = "adapter_model.safetensors"
    measured = run / "adapted" / "model" / "adapter" / weights
    assert (folder / weights).read_bytes() == measured.read_bytes()
    found = load_report(folder / "hubq" / "report.json")
    assert found.files.keys() == {"LICENSE", "adapter_config.json", weights}


@pytest.mark.parametrize("path", ["adapter_config.json", "tokenizer.json"])
def test_an_adapter_that_was_changed_on_the_hub_is_not_pulled(
    report: AdaptedReport, run: Path, client: Client, path: str
) -> None:
    publish_adapted(report, run, client)
    change = CommitOperationAdd(path, b"{}")
    client.api().create_commit(OWN_REPO, [change], commit_message="By hand")

    with pytest.raises(UserError, match=rf"{path} of .* was changed after hubq published it"):
        pull(OWN_REPO, None, client)


def test_a_whole_model_is_published_alone(run: Path, client: Client) -> None:
    report = make_adapted(run, make_run(run), "checkpoint")

    (published,) = publish_adapted(report, run, client)

    assert published.repo == OWN_REPO
    assert {"config.json", "model.safetensors", "LICENSE"} <= published.files.keys()
    assert not client.api().repo_exists(REPO)


def test_a_quantized_repo_that_is_named_is_not_published_again(run: Path, client: Client) -> None:
    made = make_run(run)
    there = publish(made, run, client)
    (run / "publication.json").unlink()
    report = make_adapted(run, made, quantized=REPO)

    (published,) = publish_adapted(report, run, client)

    assert published.repo == OWN_REPO
    assert commits(client, REPO) == 2
    assert config_of(client)["revision"] == there.commit


def test_a_named_repo_of_other_files_is_refused_before_anything_is_sent(
    run: Path, client: Client, tmp_path: Path
) -> None:
    publish(make_run(tmp_path / "other", seed=1), tmp_path / "other", client)
    report = make_adapted(run, make_run(run), quantized=REPO)

    with pytest.raises(UserError, match=r"does not hold the model in .*: model.safetensors differ"):
        publish_adapted(report, run, client)

    assert not client.api().repo_exists(OWN_REPO)


def test_a_file_that_a_loader_reads_makes_a_named_repo_another_model(
    run: Path, client: Client
) -> None:
    made = make_run(run)
    publish(made, run, client)
    change = CommitOperationAdd("generation_config.json", b"{}")
    client.api().create_commit(REPO, [change], commit_message="By hand")
    report = make_adapted(run, made, quantized=REPO)

    with pytest.raises(UserError, match=r"generation_config.json differ"):
        publish_adapted(report, run, client)


def test_an_adapter_of_the_16_bit_base_names_it_and_says_how_it_was_quantized(
    run: Path, client: Client
) -> None:
    made = make_run(run)
    settings = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    config = run / "model" / "config.json"
    config.write_text(json.dumps({"quantization_config": settings}))
    report = make_adapted(run, made, adapter_of="base")

    publish_adapted(report, run, client)

    found = config_of(client)
    assert (found["base_model_name_or_path"], found["revision"]) == (BASE, COMMIT)
    path = client.api().hf_hub_download(OWN_REPO, "quantization_config.json")
    assert json.loads(Path(path).read_text()) == settings
    assert not client.api().repo_exists(REPO)
    pull(OWN_REPO, None, client)


def test_what_is_required_is_required_of_the_adapted_model_alone(run: Path, client: Client) -> None:
    made = make_run(run)
    made.plan.recipe["evaluate"]["require"] = {"stored_bits": 4.5}  # quantized: 4.3, adapted: 4.8
    report = make_adapted(run, made)

    with pytest.raises(UserError, match=r"is not published: the adapted model .*\n.*4\.81"):
        publish_adapted(report, run, client)

    assert not client.api().repo_exists(REPO)
    assert publish(load_report(run / "report.json"), run, client).repo == REPO


def test_a_changed_adapter_is_not_published(
    report: AdaptedReport, run: Path, client: Client
) -> None:
    path = run / "adapted" / "model" / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes() + b"0")

    with pytest.raises(UserError, match=r"adapter_model\.safetensors changed since it was made"):
        publish_adapted(report, run, client)


def test_no_file_of_either_repo_names_a_folder_of_this_machine(
    run: Path, client: Client, tmp_path: Path
) -> None:
    made = make_run(run)
    made.plan.recipe["model"] = {"folder": str(tmp_path / "base"), "base_model": "acme/base"}
    report = make_adapted(run, made)
    lessons = {"file": str(tmp_path / "pairs.jsonl")}
    for folder in (run, run / "adapted"):
        plan = Plan.load(folder / "plan.json")
        plan.recipe["adapt"] |= {"dataset": lessons}
        plan.save(folder / "plan.json")
        load_report(folder / "report.json").model_copy(update={"plan": plan}).save(
            folder / "report.json"
        )
    adapter = run / "adapted" / "model" / "adapter" / "adapter_config.json"
    assert str(tmp_path) not in adapter.read_text()

    publish_adapted(load_adapted(run), run, client)

    for repo in (REPO, OWN_REPO):
        place = pull(repo, None, client)
        texts = [path for path in place.rglob("*") if path.suffix in (".md", ".json", ".yaml")]
        named = [path.name for path in texts if str(tmp_path) in path.read_text()]
        assert texts
        assert named == []
    assert report.plan.repo == OWN_REPO
