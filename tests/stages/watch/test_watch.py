"""What became of releases since: each change is found, and what is as it was isn't one."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from faulty_hub import FaultyHub, refuse
from huggingface_hub import CommitOperationAdd, CommitOperationDelete
from made_run import REPO, make_run

from hubq.cli import cli
from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.plan import BaseCard
from hubq.records.run_folder import REPORT_IN_A_REPO
from hubq.stages.card.card import render
from hubq.stages.watch.findings import Watch
from hubq.stages.watch.watch import watch

BASE, SECOND = "acme/Base", "acme/Tiny-Llama-GPTQ-3bit"
CARD = b"---\nlicense: mit\n---\n# Base\n"
Files = dict[str, bytes | None]
Publish = Callable[[str], None]


def put(client: Client, repo: str, files: Files) -> str:
    """Commit files; None deletes one."""
    operations = [
        CommitOperationDelete(path) if content is None else CommitOperationAdd(path, content)
        for path, content in files.items()
    ]
    return client.api().create_commit(repo, operations, commit_message="A change").oid


@pytest.fixture
def published(client: Client, tmp_path: Path) -> Publish:
    """Publish a release of a base; return what publishes another."""
    client.api().create_repo(BASE)
    base: Files = {"README.md": CARD, "model.safetensors": b"one", "tokenizer.json": b"{}"}
    commit = put(client, BASE, base)

    def release(repo: str) -> None:
        run = tmp_path / repo.rpartition("/")[2]
        report = make_run(run, repo, seed=len(repo))
        source = {"source": f"{BASE}@{commit}", "base_model": BASE, "license": "mit"}
        plan = report.plan.model_copy(update={**source, "base_card": BaseCard(license="mit")})
        report = report.model_copy(update={"plan": plan})
        client.api().create_repo(repo)
        files: Files = {path.name: path.read_bytes() for path in (run / "model").iterdir()}
        files |= {REPORT_IN_A_REPO: report.model_dump_json().encode()}
        put(client, repo, {**files, "README.md": render(report).encode()})

    release(REPO)
    return release


def told(client: Client) -> list[tuple[str, str, bool]]:
    """List what is found of the one release."""
    (only,) = watch("acme", client).releases
    assert only.failed is None
    return [(each.kind, each.what, each.due) for each in only.changes]


def rules(client: Client) -> list[str]:
    return [what.split(",")[0] for kind, what, _ in told(client) if kind == "rules"]


def edit_report(client: Client, old: str, new: str) -> None:
    """Replace a text in the release's report."""
    report = client.api().hf_hub_download(REPO, REPORT_IN_A_REPO)
    put(client, REPO, {REPORT_IN_A_REPO: re.sub(old, new, Path(report).read_text()).encode()})


def asked(hub: FaultyHub, *options: object) -> Result:
    words = ["watch", "acme", "--hub", hub.endpoint, *map(str, options)]
    return CliRunner().invoke(cli, words)


@pytest.mark.usefixtures("published")
def test_what_is_as_it_was_is_no_change(client: Client, hub: FaultyHub) -> None:
    assert told(client) == []
    done = asked(hub)
    assert (done.exit_code, done.stdout) == (
        0,
        "1 releases: 0 to be looked after, 0 could not be looked at\n",
    )


@pytest.mark.usefixtures("published")
@pytest.mark.parametrize(
    ("files", "kind", "what", "due"),
    [
        ({"model.safetensors": b"two"}, "base", "other weights, model.safetensors", True),
        ({"tokenizer.json": b"[]"}, "base", "tokenizer.json", True),
        ({"LICENSE": b"Other terms"}, "license", "LICENSE", True),
        ({"README.md": CARD + b"More"}, "base", "only README.md", False),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_base_that_moved_is_judged_by_what_changed(
    client: Client, files: Files, kind: str, what: str, due: bool
) -> None:
    put(client, BASE, files)

    ((found, said, is_due),) = told(client)

    assert (found, is_due) == (kind, due)
    assert said.startswith(f"{BASE} moved from ")
    assert said.endswith(f": {what}")


@pytest.mark.usefixtures("published")
def test_another_license_of_the_base_is_told(client: Client) -> None:
    put(client, BASE, {"README.md": b"---\nlicense: llama3\n---\n"})

    said = [what for kind, what, _ in told(client) if kind == "license"]

    assert said == [f"{BASE} says license: llama3, and said mit"]


@pytest.mark.usefixtures("published")
def test_a_gate_is_told(client: Client) -> None:
    client.api().update_repo_settings(BASE, gated="manual")

    assert told(client) == [("gate", f"{BASE} is gated by now, and was open to everybody", True)]


@pytest.mark.usefixtures("published")
def test_a_base_that_is_gone_is_told(client: Client) -> None:
    client.api().delete_repo(BASE)

    assert told(client) == [("base", f"{BASE} is gone: deleted, or private by now", True)]


@pytest.mark.usefixtures("published")
def test_a_history_without_the_commit_is_told(client: Client) -> None:
    edit_report(client, r"acme/Base@[0-9a-f]{40}", f"{BASE}@{'f' * 40}")

    assert told(client) == [
        ("base", f"{BASE} no longer holds the commit {'f' * 12}, which was used", True)
    ]


@pytest.mark.usefixtures("published")
def test_files_that_are_not_those_that_were_measured_are_told(client: Client) -> None:
    put(client, REPO, {"tokenizer.json": b"{}", "LICENSE": None, "more.txt": b"By hand"})

    assert [what for kind, what, _ in told(client) if kind == "files"] == [
        "main lacks LICENSE: not what hubq published",
        "main changed tokenizer.json: not what hubq published",
        "main holds besides more.txt: not what hubq published",
    ]


@pytest.mark.usefixtures("published")
def test_warnings_count_that_the_version_of_a_release_did_not_know(client: Client) -> None:
    put(client, REPO, {"pytorch_model.bin": b"\x80\x04N."})
    of_this_version = rules(client)

    edit_report(client, '"hubq":"0.1.0"', '"hubq":"0.0.9"')

    assert of_this_version == []
    assert "warning pickles" in rules(client)


@pytest.mark.usefixtures("published")
def test_errors_by_todays_rules_count_always(client: Client) -> None:
    put(client, REPO, {"config.json": b"{"})

    assert rules(client)[0].startswith("error ")


def test_a_release_that_can_not_be_looked_at_does_not_stop_the_others(
    client: Client, hub: FaultyHub, published: Publish
) -> None:
    published(SECOND)
    put(client, SECOND, {REPORT_IN_A_REPO: b'{"version": 99}'})
    put(client, BASE, {"model.safetensors": b"two"})

    damaged, sound = watch("acme", client).releases

    assert "does not hold a Report" in str(damaged.failed)
    assert (damaged.changes, len(sound.changes)) == ((), 1)


@pytest.mark.usefixtures("published")
def test_what_fails_in_part_is_told_beside_what_was_found(client: Client, hub: FaultyHub) -> None:
    hub.faults.add(refuse("GET", f"/api/models/{BASE}$", 403, times=9))
    put(client, REPO, {"more.txt": b"By hand"})

    (found,) = watch("acme", client).releases

    assert str(found.failed).startswith(f"looking up {BASE} failed: ")
    assert [each.kind for each in found.changes] == ["files"]


@pytest.mark.usefixtures("published")
def test_a_look_since_another_tells_only_what_is_new(
    client: Client, hub: FaultyHub, tmp_path: Path
) -> None:
    put(client, BASE, {"model.safetensors": b"two"})
    last = tmp_path / "last.json"
    first = asked(hub, "--json", "--since", last)
    last.write_text(first.stdout)

    again = asked(hub, "--since", last)
    put(client, REPO, {"more.txt": b"By hand"})
    more = asked(hub, "--since", last, "--json")

    assert [each.exit_code for each in (first, again, more)] == [3, 0, 3]
    assert "moved" not in again.stdout
    assert len(json.loads(more.stdout)["releases"][0]["changes"]) == 2


@pytest.mark.usefixtures("published")
def test_a_release_that_could_not_be_looked_at_is_exit_code_1(hub: FaultyHub) -> None:
    hub.faults.add(refuse("GET", f"/api/models/{BASE}$", 403, times=9))

    assert asked(hub).exit_code == 1


def test_a_file_that_is_no_look_is_refused(tmp_path: Path) -> None:
    (tmp_path / "last.json").write_text("[]")

    with pytest.raises(UserError, match="does not hold a Watch"):
        Watch.load(tmp_path / "last.json")


def test_an_organization_that_can_not_be_listed_is_refused(hub: FaultyHub) -> None:
    hub.faults.add(refuse("GET", "/api/models$", 403, times=9))

    done = asked(hub)

    assert (done.exit_code, "for the releases of acme failed" in done.stderr) == (1, True)
