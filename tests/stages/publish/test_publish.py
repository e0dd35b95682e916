import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_hub import FaultyHub, drop, refuse
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from made_run import REPO, make_run, measurement
from unloaded import publish

from hubq.client.client import Client
from hubq.client.retries import Result, RetryPolicy
from hubq.embedded_hub.local import add_org, add_user, fsck, mint_token
from hubq.errors import UserError
from hubq.machine.files import sha256_of
from hubq.machine.progress import Advance
from hubq.records.attestation import UNSIGNED
from hubq.records.plan import BaseCard
from hubq.records.report import Report
from hubq.stages.card.card import render
from hubq.stages.publish.publish import Publication, remember_destination
from hubq.stages.publish.versions import prepare

COMMIT = r"/commit/refs%2Fpr%2F"


def titles(client: Client, repo: str = REPO) -> list[str]:
    return [commit.title for commit in client.api().list_repo_commits(repo)]


def put(client: Client, path: str, content: bytes, repo: str = REPO) -> None:
    client.api().create_commit(repo, [CommitOperationAdd(path, content)], commit_message="By hand")


def test_the_hub_holds_every_file_of_the_run(report: Report, run: Path, client: Client) -> None:
    publish(report, run, client)

    held = set(client.api().list_repo_files(REPO))

    assert held == {
        ".gitattributes",
        "LICENSE",
        "README.md",
        "config.json",
        "hubq/attestation.json",
        "hubq/plan.json",
        "hubq/recipe.yaml",
        "hubq/report.json",
        "hubq/siblings.json",
        "images/errors-dark.png",
        "images/errors.png",
        "images/recovery-dark.png",
        "images/recovery.png",
        "model.safetensors",
        "tokenizer.json",
    }


def test_results_of_a_benchmark_of_the_hub_are_listed_there(
    run: Path, client: Client, hub: FaultyHub
) -> None:
    report = make_run(run)
    official = measurement(
        task="gsm8k",
        dataset="openai/gsm8k main",
        metric="exact_match",
        better="higher",
        value=0.415,
        samples=1319,
        protocol="5-shot, all items, generated text",
    )
    measured = report.model_copy(update={"measurements": (*report.measurements, official)})
    measured.save(run / "report.json")

    publish(measured, run, client)

    api = HfApi(hub.endpoint, hub.token)
    (entry,) = api.model_info(REPO, expand=["evalResults"]).eval_results or []
    assert (entry.dataset_id, entry.task_id, entry.value) == ("openai/gsm8k", "gsm8k", 41.5)


def test_what_lint_warns_of_is_handed_on(report: Report, run: Path, client: Client) -> None:
    warnings = publish(report, run, client).warnings

    assert any(each.startswith("warning no-generation-config, generation") for each in warnings)


def test_all_files_come_in_one_commit(report: Report, run: Path, client: Client) -> None:
    publish(report, run, client)

    assert len(titles(client)) == 2  # the founding one and ours


def test_the_publication_is_what_the_hub_says(report: Report, run: Path, client: Client) -> None:
    publication = publish(report, run, client)

    assert publication == Publication.load(run / "publication.json")
    assert publication.commit == client.api().model_info(REPO).sha
    assert publication.files["model.safetensors"] == sha256_of(run / "model/model.safetensors")


def test_the_repo_is_private_unless_the_recipe_says_public(
    report: Report, run: Path, client: Client
) -> None:
    publish(report, run, client)

    assert client.api().model_info(REPO).private


def test_a_recipe_can_make_the_repo_public(run: Path, client: Client) -> None:
    publish(make_run(run, private=False), run, client)

    assert not client.api().model_info(REPO).private


def test_publishing_twice_makes_no_second_commit(report: Report, run: Path, client: Client) -> None:
    first = publish(report, run, client)

    second = publish(report, run, client)

    assert second == first
    assert len(titles(client)) == 2


def test_git_finds_the_repo_sound(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    publish(report, run, client)

    fsck(hub.root)


def test_a_new_release_deletes_what_the_old_one_alone_had(
    report: Report, run: Path, client: Client, tmp_path: Path
) -> None:
    publish(report, run, client)
    again = tmp_path / "again"
    newer = make_run(again, seed=1, license=None)
    prepare(newer, again, client, update=True)

    publish(newer, again, client)

    assert "LICENSE" not in client.api().list_repo_files(REPO)
    assert len(titles(client)) == 3


def test_a_lost_reply_does_not_commit_twice(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(drop("POST", COMMIT, after=True))

    publication = publish(report, run, client)

    assert len(titles(client)) == 2
    assert publication.commit == client.api().model_info(REPO).sha


def test_an_error_after_a_commit_that_landed_does_not_commit_twice(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse("POST", COMMIT, 500, after=True))

    publish(report, run, client)

    assert len(titles(client)) == 2


@pytest.mark.parametrize("status", [503, 504, 429, 409])
def test_a_commit_that_the_hub_had_no_time_for_is_tried_again(
    report: Report, run: Path, client: Client, hub: FaultyHub, status: int
) -> None:
    hub.faults.add(refuse("POST", COMMIT, status, times=2))

    publish(report, run, client)

    assert hub.faults.requests("POST", COMMIT) == [None, None, 200]


def test_a_dropped_request_to_commit_is_sent_again(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(drop("POST", COMMIT))

    publish(report, run, client)

    assert len(titles(client)) == 2


def test_a_hub_that_stays_down_ends_in_a_clear_error(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse("POST", COMMIT, 503, times=100))

    with pytest.raises(UserError, match=r"has a problem \(status 503.*\n.*finished work is kept"):
        publish(report, run, client)

    assert not (run / "publication.json").exists()


def test_the_wait_that_the_hub_asks_for_has_a_limit(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse("POST", COMMIT, 429, retry_after=3600, times=100))

    with pytest.raises(UserError, match="Try again in 3600 seconds"):
        publish(report, run, client)


def test_a_run_that_failed_is_published_by_the_next_one(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse("POST", COMMIT, 400))
    with pytest.raises(UserError):
        publish(report, run, client)

    publish(report, run, client)

    assert len(titles(client)) == 2


class Meanwhile:
    """A Progress that does something else once, when the upload begins."""

    def __init__(self, action: Callable[[], object]) -> None:
        self.action = action

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Advance]:
        if title == "Uploading":
            self.action()
        yield lambda steps: None


def test_a_commit_made_in_the_meantime_is_not_overwritten(
    report: Report, run: Path, client: Client
) -> None:
    meanwhile = Meanwhile(lambda: put(client, "notes.txt", b"mine"))

    with pytest.raises(UserError, match="changed during publishing"):
        publish(report, run, client, meanwhile)

    assert titles(client)[0] == "By hand"


def test_a_run_that_another_process_published_in_the_meantime_is_published(
    report: Report, run: Path, client: Client, tmp_path: Path
) -> None:
    twin = shutil.copytree(run, tmp_path / "twin")
    meanwhile = Meanwhile(lambda: publish(report, twin, client))

    publication = publish(report, run, client, meanwhile)

    assert publication.commit == Publication.load(twin / "publication.json").commit
    assert len(titles(client)) == 2


def test_of_two_runs_that_began_together_one_is_published_and_the_other_refused(
    report: Report, run: Path, client: Client, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    newer = make_run(other, seed=1)
    for each in (run, other):
        remember_destination(REPO, each, client)

    first = publish(report, run, client)
    with pytest.raises(
        UserError, match=r"was published by another run since this one began(.|\n)*"
    ):
        publish(newer, other, client)

    assert client.api().model_info(REPO).sha == first.commit
    (other / "destination.json").unlink()  # as the message says
    prepare(newer, other, client, update=True)
    assert publish(newer, other, client).commit != first.commit


@pytest.mark.parametrize("there", [False, True], ids=["a new repo", "a release"])
def test_of_two_runs_published_at_once_one_is_refused(
    report: Report, run: Path, client: Client, tmp_path: Path, there: bool
) -> None:
    if there:
        publish(make_run(tmp_path / "old", seed=2), tmp_path / "old", client)
    runs = {run: report, tmp_path / "other": make_run(tmp_path / "other", seed=1)}
    for each, its in runs.items():
        remember_destination(REPO, each, client)
        prepare(its, each, client, update=True)
    said: list[str] = []

    def work(folder: Path, its: Report) -> None:
        try:
            said.append(publish(its, folder, client).commit)
        except UserError as error:
            said.append(str(error))

    threads = [threading.Thread(target=work, args=pair) for pair in runs.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (refusal,) = (each for each in said if " " in each)
    assert "nothing was overwritten" in refusal or "Nothing was uploaded" in refusal
    assert client.api().model_info(REPO).sha in said
    assert len(titles(client)) == 2 + there


def test_a_run_that_began_is_published_after_a_lost_reply(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    remember_destination(REPO, run, client)
    hub.faults.add(drop("POST", COMMIT, after=True))

    publish(report, run, client)

    assert len(titles(client)) == 2
    assert not (run / "destination.json").exists()


# huggingface_hub's own: it hands bytes to httpx2 in a way that is going out of use.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_large_files_go_through_lfs_where_xet_is_disabled(
    report: Report, run: Path, client: Client, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)

    publish(report, run, client)

    assert hub.faults.requests("POST", "/info/lfs/objects/batch") == [200]
    assert hub.faults.requests("POST", "/xet/") == []


def test_large_files_go_through_xet_otherwise(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    publish(report, run, client)

    assert 200 in hub.faults.requests("POST", "/xet/.*/xorbs/")
    assert hub.faults.requests("POST", "/info/lfs/") == []


def test_what_somebody_changed_since_is_not_overwritten(
    report: Report, run: Path, client: Client
) -> None:
    publish(report, run, client)
    put(client, "notes.txt", b"better")

    with pytest.raises(UserError, match=r"changed on the Hub since .*notes.txt"):
        publish(report, run, client)


def test_a_repo_that_hubq_did_not_make_is_refused(
    report: Report, run: Path, client: Client
) -> None:
    client.api().create_repo(REPO, private=True)
    put(client, "precious.txt", b"mine")

    with pytest.raises(UserError, match=r"files that hubq did not publish, such as precious.txt"):
        publish(report, run, client)


def test_a_repo_that_nobody_filled_is_taken(report: Report, run: Path, client: Client) -> None:
    client.api().create_repo(REPO, private=True)

    publish(report, run, client)

    assert "config.json" in client.api().list_repo_files(REPO)


def test_a_public_repo_is_not_filled_by_a_private_recipe(
    report: Report, run: Path, client: Client
) -> None:
    client.api().create_repo(REPO, private=False)

    with pytest.raises(UserError, match="is public on the Hub, and the recipe wants it private"):
        publish(report, run, client)


class Rival(RetryPolicy):
    """A RetryPolicy that lets somebody else make the public repo right after it was not found."""

    def call(self, action: Callable[[], Result]) -> Result:
        try:
            return super().call(action)
        except RepositoryNotFoundError as error:
            asked = error.response.request
            token = asked.headers["Authorization"].removeprefix("Bearer ")
            HfApi(str(asked.url).partition("/api/")[0], token=token).create_repo(REPO)
            raise


def test_a_public_repo_that_somebody_made_meanwhile_is_not_filled_by_a_private_recipe(
    report: Report, run: Path, client: Client
) -> None:
    with pytest.raises(UserError, match="is public on the Hub, and the recipe wants it private"):
        publish(report, run, Client(client.endpoint, client.token, Rival(first=0.01)))


GATE = f"/api/models/{REPO}/settings"


def gated_run(run: Path, **publish: object) -> Report:
    """Make a run of a gated base, with options of publishing."""
    report = make_run(run, private=False)
    report.plan.recipe["publish"].update(publish)
    card = BaseCard(gate="manual", extra_gated={"extra_gated_prompt": "Agree first."})
    plan = report.plan.model_copy(update={"base_card": card})
    plan.save(run / "plan.json")
    changed = report.model_copy(update={"plan": plan})
    changed.save(run / "report.json")
    return changed


def test_an_open_copy_of_a_gated_base_is_refused_before_anything_is_sent(
    run: Path, client: Client, hub: FaultyHub
) -> None:
    with pytest.raises(UserError, match="is gated: its owners answer each request"):
        publish(gated_run(run), run, client)

    assert hub.faults.requests() == []


def test_a_base_that_was_gated_since_it_was_planned_is_noticed(run: Path, client: Client) -> None:
    report = make_run(run, private=False)
    base = report.plan.model_copy(update={"base_model": "acme/base"})
    base.save(run / "plan.json")
    changed = report.model_copy(update={"plan": base})
    changed.save(run / "report.json")
    client.api().create_repo("acme/base")
    client.api().update_repo_settings("acme/base", gated="auto")

    with pytest.raises(UserError, match="the base acme/base is gated: every request is granted"):
        publish(changed, run, client)


@pytest.mark.parametrize("gated", ["auto", "manual"])
def test_the_repo_gets_its_gate_before_it_holds_anything(
    run: Path, client: Client, hub: FaultyHub, gated: str
) -> None:
    hub.faults.add(refuse("POST", COMMIT, 400))
    report = gated_run(run, gated=gated)
    with pytest.raises(UserError):
        publish(report, run, client)

    info = client.api().model_info(REPO)

    assert (info.gated, info.private) == (gated, False)
    assert "config.json" not in [each.rfilename for each in info.siblings or []]


def test_publishing_a_gated_release_twice_changes_nothing(
    run: Path, client: Client, hub: FaultyHub
) -> None:
    report = gated_run(run, gated="manual")
    first = publish(report, run, client)

    second = publish(report, run, client)

    assert second == first
    assert first.gated == "manual"
    assert len(hub.faults.requests("PUT", GATE)) == 1
    assert len(titles(client)) == 2


def test_strangers_cannot_download_a_gated_release(
    run: Path, client: Client, hub: FaultyHub
) -> None:
    publish(gated_run(run, gated="auto"), run, client)
    add_user(hub.root, "bob")
    token = mint_token(hub.root, user="bob", role="read", expires_in=None)

    with pytest.raises(GatedRepoError):
        HfApi(hub.endpoint, token=token).hf_hub_download(REPO, "config.json")


def test_the_form_of_the_base_is_on_the_card_of_the_release(run: Path, client: Client) -> None:
    publish(gated_run(run, gated="auto"), run, client)

    card = client.api().model_info(REPO).card_data

    assert card is not None
    assert card.to_dict()["extra_gated_prompt"] == "Agree first."


def test_an_open_copy_is_published_when_the_recipe_says_so(run: Path, client: Client) -> None:
    published = publish(gated_run(run, open_although_gated=True), run, client)

    assert published.gated is None
    assert client.api().model_info(REPO).gated is False


def test_a_gate_that_somebody_set_by_hand_stays(report: Report, run: Path, client: Client) -> None:
    client.api().create_repo(REPO, private=True)
    client.api().update_repo_settings(REPO, gated="manual")

    published = publish(report, run, client)

    assert published.gated == "manual"


def test_a_hub_that_did_not_close_the_gate_gets_no_files(
    run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse("PUT", GATE, 200))

    with pytest.raises(UserError, match=r"did not take publish.gated: auto"):
        publish(gated_run(run, gated="auto"), run, client)

    assert "config.json" not in client.api().list_repo_files(REPO)


def test_a_file_that_changed_is_refused_before_anything_is_sent(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    (run / "model/config.json").write_text("{}")

    with pytest.raises(UserError, match=r"config.json changed since it was made"):
        publish(report, run, client)

    assert hub.faults.requests() == []


def test_a_file_that_is_gone_is_refused(report: Report, run: Path, client: Client) -> None:
    (run / "model/tokenizer.json").unlink()

    with pytest.raises(UserError, match=r"tokenizer.json is missing"):
        publish(report, run, client)


def test_a_file_that_nobody_measured_is_refused(report: Report, run: Path, client: Client) -> None:
    (run / "model/modeling_evil.py").write_text("print()")

    with pytest.raises(UserError, match=r"do not belong to the checkpoint: modeling_evil.py"):
        publish(report, run, client)


def test_a_link_out_of_the_run_is_refused(
    report: Report, run: Path, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").write_bytes((run / "model/LICENSE").read_bytes())
    (run / "model/LICENSE").unlink()
    (run / "model/LICENSE").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UserError, match="LICENSE leads out of"):
        publish(report, run, client)


def test_a_token_in_a_text_is_never_published(run: Path, client: Client, hub: FaultyHub) -> None:
    report = make_run(run, license=f"line one\nkey: {hub.token}\n")

    with pytest.raises(UserError, match=r"LICENSE, line 2, holds what looks like a secret") as told:
        publish(report, run, client)

    assert hub.token not in str(told.value)


def test_the_saved_token_is_never_published_either(
    run: Path, hub: FaultyHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "a-token-of-an-unusual-shape")
    report = make_run(run, license="key: a-token-of-an-unusual-shape")

    with pytest.raises(UserError, match=r"LICENSE, line 1, holds what looks like a secret"):
        publish(report, run, Client(hub.endpoint))


def test_what_somebody_changed_is_not_overwritten_when_the_history_was_squashed(
    report: Report, run: Path, client: Client
) -> None:
    publish(report, run, client)
    put(client, "notes.txt", b"better")
    client.api().super_squash_history(REPO)

    with pytest.raises(UserError, match=r"changed on the Hub since .*notes.txt"):
        publish(report, run, client)


def test_a_repo_that_was_made_anew_is_filled(report: Report, run: Path, client: Client) -> None:
    publish(report, run, client)
    client.api().delete_repo(REPO)

    publish(report, run, client)

    assert "config.json" in client.api().list_repo_files(REPO)


def test_a_report_of_another_run_is_refused(report: Report, run: Path, client: Client) -> None:
    other = report.model_copy(update={"seed": 99})

    with pytest.raises(UserError, match="is not the report to publish: it was replaced"):
        publish(other, run, client)


def test_a_bad_token_is_refused_before_the_upload(
    report: Report, run: Path, hub: FaultyHub
) -> None:
    client = Client(hub.endpoint, "hf_" + "x" * 34)

    with pytest.raises(UserError, match="does not accept the token"):
        publish(report, run, client)


def test_a_token_that_only_reads_is_refused(report: Report, run: Path, hub: FaultyHub) -> None:
    token = mint_token(hub.root, user="ann", role="read", expires_in=None)

    with pytest.raises(UserError, match="the token of ann is read-only"):
        publish(report, run, Client(hub.endpoint, token))


def test_a_stranger_to_the_organization_is_refused(
    report: Report, run: Path, hub: FaultyHub
) -> None:
    add_user(hub.root, "bob")
    add_org(hub.root, "bobs", ["bob"])
    token = mint_token(hub.root, user="bob", role="write", expires_in=None)

    with pytest.raises(UserError, match=r"bob may not write to acme(.|\n)*one of: bob, bobs"):
        publish(report, run, Client(hub.endpoint, token))


def test_a_hub_that_refuses_the_write_is_quoted(
    report: Report, run: Path, client: Client, hub: FaultyHub
) -> None:
    hub.faults.add(refuse("POST", "/api/repos/create", 403))

    with pytest.raises(UserError, match="does not allow this with this token: a fault of the test"):
        publish(report, run, client)


def test_no_network_is_called_so(report: Report, run: Path) -> None:
    client = Client("http://127.0.0.1:9", "hf_" + "x" * 34, RetryPolicy(tries=1))

    with pytest.raises(UserError, match=r"http://127.0.0.1:9 can't be reached"):
        publish(report, run, client)


def test_the_published_card_is_the_one_of_the_report(
    report: Report, run: Path, client: Client
) -> None:
    (run / "README.md").write_text("edited by hand")

    publish(report, run, client)

    shown = Path(client.api().hf_hub_download(REPO, "README.md")).read_text(encoding="utf-8")
    assert "| 25.97 ±\u00a00.31 | 29.58 ±\u00a00.37 |" in shown


def test_the_published_report_is_the_runs(report: Report, run: Path, client: Client) -> None:
    publish(report, run, client)

    held = Path(client.api().hf_hub_download(REPO, "hubq/report.json"))
    assert json.loads(held.read_text()) == json.loads((run / "report.json").read_text())


def test_nothing_published_tells_where_the_maker_keeps_files(run: Path, client: Client) -> None:
    report = make_run(run)
    report.plan.recipe["model"] = {"folder": "/home/ann/secret/base"}
    report.plan.save(run / "plan.json")
    report.save(run / "report.json")

    publish(report, run, client)

    for path in ("README.md", "hubq/report.json", "hubq/plan.json", "hubq/recipe.yaml"):
        held = Path(client.api().hf_hub_download(REPO, path)).read_text(encoding="utf-8")
        assert "/home/ann" not in held


def test_the_card_can_be_made_again_from_what_was_published(
    report: Report, run: Path, client: Client
) -> None:
    publish(report, run, client)

    held = Path(client.api().hf_hub_download(REPO, "hubq/report.json"))

    written = render(Report.load(held), signer=UNSIGNED)
    assert written == (run / "README.md").read_text(encoding="utf-8")
