"""A release over an older one: asked for, tagged, told, and never over what nobody looked at."""

import json
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, drop, refuse
from huggingface_hub import CommitOperationAdd
from made_adaptation import OWN_REPO, make_adapted
from made_run import REPO, full_report, make_run, measurement
from unloaded import publish, publish_adapted

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.report import Interval, Report
from hubq.records.run_folder import ADAPTED
from hubq.records.versions import Versions
from hubq.stages.card.check import differences
from hubq.stages.publish.changelog import changelog
from hubq.stages.publish.changes import numbers, settings
from hubq.stages.publish.publish import Publication
from hubq.stages.publish.versions import mention, prepare, refuse_to_replace, standing

TAG = r"/tag/"
COMMIT = r"/commit/main"
PUSH = r"/git-receive-pack"
SAID = r"(.|\n)*"


@pytest.fixture
def old(tmp_path: Path, client: Client) -> Publication:
    return publish(make_run(tmp_path / "old"), tmp_path / "old", client)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "new"


@pytest.fixture
def report(run: Path) -> Report:
    """A release of other weights, by another recipe, whose perplexity grew beyond the noise."""
    return changed(make_run(run, seed=1), run, 35.0)


def changed(made: Report, run: Path, perplexity: float) -> Report:
    made.plan.recipe["method"]["group_size"] = 128
    made.plan.save(run / "plan.json")
    first, *others = made.measurements
    worse = first.model_copy(update={"value": perplexity})
    report = made.model_copy(update={"measurements": (worse, *others)})
    report.save(run / "report.json")
    return report


def tags(client: Client, repo: str = REPO) -> dict[str, str]:
    return {each.name: each.target_commit for each in client.api().list_repo_refs(repo).tags}


def head(client: Client, repo: str = REPO) -> str:
    return str(client.api().model_info(repo).sha)


def put(client: Client, path: str, content: bytes) -> None:
    client.api().create_commit(REPO, [CommitOperationAdd(path, content)], commit_message="By hand")


def held(client: Client, path: str, repo: str = REPO) -> str:
    return Path(client.api().hf_hub_download(repo, path, revision=head(client, repo))).read_text()


def updated(report: Report, run: Path, client: Client) -> Publication:
    prepare(report, run, client, update=True)
    return publish(report, run, client)


def test_another_release_is_refused_before_anything_is_sent(
    old: Publication, report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    asked = len(hub.faults.requests("POST", "/preupload/"))
    there = rf"another release of hubq \(recipe tiny_gptq_4bit: gptq at 4.312 .*{old.commit[:8]}"

    with pytest.raises(UserError, match=f"{there}{SAID}--update{SAID}publish.name"):
        prepare(report, run, client, update=False)
    with pytest.raises(UserError, match=there):
        publish(report, run, client)

    assert len(hub.faults.requests("POST", "/preupload/")) == asked
    assert (head(client), tags(client)) == (old.commit, {})


def test_another_recipe_is_refused_before_hours_are_spent(
    old: Publication, report: Report, run: Path, client: Client, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="--update"):
        refuse_to_replace(report.plan, REPO, run, client)

    refuse_to_replace(make_run(tmp_path / "same", seed=2).plan, REPO, run, client)
    refuse_to_replace(report.plan, "acme/nothing", run, client)


def test_a_plan_says_what_lies_there(old: Publication, report: Report, client: Client) -> None:
    assert old.commit[:8] in (mention(report.plan, client) or "")
    elsewhere = report.plan.model_copy(update={"repo": "acme/nothing"})
    assert mention(elsewhere, client) is None


def test_the_old_release_is_tagged_and_the_new_one_says_what_changed(
    old: Publication, report: Report, run: Path, client: Client
) -> None:
    warnings = prepare(report, run, client, update=True)
    new = publish(report, run, client)

    assert tags(client) == {"v1": old.commit}
    assert head(client) == new.commit
    text = held(client, "CHANGELOG.md")
    assert f"tag `v1`, commit `{old.commit}`" in text
    assert "- `method.group_size: 64 → 128`" in text
    spelled = "29.58 (28.85 to 30.31) → 35 (34.27 to 35.73)"
    assert f"- perplexity on xsum: {spelled}" in text
    assert "| piqa acc_norm | 0.6758 (0.6540 to 0.6976) | 0.6758 (0.6540 to 0.6976) | with" in text
    assert warnings == [f"{REPO} v2 is worse than v1 in perplexity on xsum: {spelled}"]
    card = held(client, "README.md")
    assert "This is version v2" in card
    assert "](CHANGELOG.md)" in card


def test_the_card_is_that_of_its_records_and_the_first_says_nothing_of_versions(
    old: Publication, report: Report, run: Path, client: Client
) -> None:
    assert "hubq/versions.json" not in old.files
    assert "version v" not in held(client, "README.md")

    updated(report, run, client)

    assert differences(run) == []


def test_publishing_an_update_again_makes_no_commit(
    old: Publication, report: Report, run: Path, client: Client
) -> None:
    new = updated(report, run, client)

    assert prepare(report, run, client, update=False) == []
    assert publish(report, run, client) == new
    (run / "versions.json").unlink()
    (run / "publication.json").unlink()
    prepare(report, run, client, update=False)  # which takes the history from the Hub
    assert publish(report, run, client).commit == new.commit


def test_older_entries_are_kept(
    old: Publication, report: Report, run: Path, client: Client, tmp_path: Path
) -> None:
    second = updated(report, run, client)
    third = changed(make_run(tmp_path / "third", seed=3), tmp_path / "third", 29.58)
    prepare(third, tmp_path / "third", client, update=True)
    publish(third, tmp_path / "third", client)

    text = held(client, "CHANGELOG.md")

    assert tags(client) == {"v1": old.commit, "v2": second.commit}
    assert [line[3:5] for line in text.splitlines() if line.startswith("## ")] == ["v3", "v2", "v1"]
    assert "- `method.group_size: 64 → 128`" in text
    assert "| perplexity on xsum | 35 (34.27 to 35.73) | 29.58 (28.85 to 30.31) | better |" in text


@pytest.mark.parametrize("after", [False, True], ids=["lost request", "lost reply"])
def test_an_interrupted_update_goes_on_without_being_asked_for_again(
    report: Report, run: Path, client: Client, hub: FaultyHub, after: bool
) -> None:
    old = publish(make_run(run.with_name("old")), run.with_name("old"), client)
    prepare(report, run, client, update=True)
    refused = (refuse("POST", each, 403, times=9) for each in (PUSH, COMMIT))
    hub.faults.add(*refused, drop("POST", TAG, after=after))
    with pytest.raises(UserError):
        publish(report, run, client)
    assert (tags(client), head(client)) == ({"v1": old.commit}, old.commit)
    hub.faults.clear()

    prepare(report, run, client, update=False)
    new = publish(report, run, client)

    assert (tags(client), head(client)) == ({"v1": old.commit}, new.commit)


def test_a_tag_that_somebody_made_is_never_moved(
    old: Publication, report: Report, run: Path, client: Client
) -> None:
    founding = client.api().list_repo_commits(REPO)[-1].commit_id
    client.api().create_tag(REPO, tag="v1", revision=founding)

    updated(report, run, client)

    assert tags(client) == {"v1": founding, f"v1-{old.commit[:8]}": old.commit}


def test_a_tag_that_somebody_makes_meanwhile_stops_the_update(
    old: Publication, report: Report, run: Path, client: Client
) -> None:
    prepare(report, run, client, update=True)
    founding = client.api().list_repo_commits(REPO)[-1].commit_id
    client.api().create_tag(REPO, tag="v1", revision=founding)

    with pytest.raises(UserError, match="the tag v1"):
        publish(report, run, client)

    assert (tags(client), head(client)) == ({"v1": founding}, old.commit)


def test_an_edit_after_the_update_was_asked_for_is_not_overwritten(
    old: Publication, report: Report, run: Path, client: Client
) -> None:
    prepare(report, run, client, update=True)
    put(client, "notes.txt", b"mine")

    with pytest.raises(UserError, match="--update"):
        publish(report, run, client)

    said = prepare(report, run, client, update=True)
    assert any("was changed since v1 was published (By hand)" in each for each in said)
    edited = head(client)
    publish(report, run, client)
    assert tags(client) == {"v1": edited}


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 10_000,
        b'{"entries": []}',
        json.dumps(
            {
                "entries": [
                    {
                        **dict.fromkeys(("recipe", "method", "form", "base"), "x"),
                        "name": name,
                        "date": "2026-01-01",
                        "commit": "a" * 40,
                        "tag": "v1",
                        "settings": ["`<script>"],
                    }
                    for name in ("v1", "v2")
                ]
            }
        ).encode(),
    ],
    ids=["deep", "empty", "ends a code span"],
)
def test_a_history_that_is_not_ours_is_not_carried_on(
    old: Publication, report: Report, run: Path, client: Client, content: bytes
) -> None:
    put(client, "hubq/versions.json", content)
    put(client, "CHANGELOG.md", b"<b>mine</b>")

    said = prepare(report, run, client, update=True)
    publish(report, run, client)

    assert any("is not hubq's" in each for each in said)
    text = held(client, "CHANGELOG.md")
    assert text == changelog(Versions.load(run / "versions.json"))
    assert "mine" not in text
    assert "script" not in text


def test_a_report_that_cannot_be_read_is_replaced_too(
    old: Publication, report: Report, run: Path, client: Client
) -> None:
    put(client, "hubq/report.json", b'{"of": "another version"}')

    said = prepare(report, run, client, update=True)
    publish(report, run, client)

    assert any("can't be read" in each for each in said)
    assert "- recipe `unknown`" in held(client, "CHANGELOG.md")


def test_an_adapter_is_updated_with_what_it_is_loaded_on(client: Client, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    before = publish_adapted(make_adapted(first, make_run(first)), first, client)
    report = make_adapted(second, changed(make_run(second, seed=1), second, 35.0))
    for each, folder in ((Report.load(second / "report.json"), second), (report, second / ADAPTED)):
        prepare(each, folder, client, update=True)

    publish_adapted(report, second, client)

    assert tags(client) == {"v1": before[0].commit}
    assert "This is version v2" in held(client, "README.md")
    assert standing(OWN_REPO, client) is not None


def gap(low: float, high: float) -> dict[str, object]:
    return {"difference": Interval(value=(low + high) / 2, low=low, high=high), "paired": True}


@pytest.mark.parametrize(
    ("old", "new", "verdict"),
    [
        ({"value": 30.0}, {"value": 30.3}, "within noise"),
        ({"value": 30.0}, {"value": 33.0}, "worse"),
        ({"value": 30.0}, {"value": 27.0}, "better"),
        # In pairs with the same base, less than either's own noise is told apart.
        ({"value": 30.0, **gap(4.0, 4.06)}, {"value": 30.3, **gap(4.3, 4.36)}, "worse"),
        ({"value": 30.0, **gap(4.0, 4.06)}, {"value": 30.3, "base": 27.0, **gap(3, 3.6)}, "with"),
        ({"value": 30.0, "stderr": None}, {"value": 33.0}, "noise not known"),
        ({"value": 30.0}, {"value": 33.0, "version": "sha256:6e2b"}, "measured otherwise"),
        ({"value": 0.2, "better": "zero"}, {"value": -3.0, "better": "zero"}, "worse"),
    ],
)
def test_a_number_is_worse_only_beyond_the_noise_and_on_the_same_items(
    old: dict[str, object], new: dict[str, object], verdict: str
) -> None:
    before, after = (full_report(measurements=(measurement(**each),)) for each in (old, new))

    first, *_ = numbers(before, after)

    assert (first.verdict or "").startswith(verdict)


def test_every_number_of_a_report_is_told() -> None:
    told = {each.title for each in numbers(None, full_report())}

    assert told == {
        *("perplexity on xsum", "piqa acc", "boolq acc", "truthfulqa_mc1 acc", "mean accuracy"),
        *("KL divergence from the base", "same likeliest next token as the base"),
        *("tokens per second", "seconds to the first token", "peak memory, bytes"),
    }


def test_folders_of_the_makers_machine_are_not_told() -> None:
    before, after = full_report(), full_report()
    after.plan.recipe["calibration"]["dataset"] = {"folder": "/home/ann/texts"}

    assert "/home" not in "".join(settings(before, after))
