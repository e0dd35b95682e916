"""A small release on its way to a hub whose answers may fail: what tests of faults and kills share.

One hub serves all cases of a module, each with a repo of its own.
"""

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_hub import FaultyHub
from huggingface_hub import CommitOperationAdd, HfApi

from hubq.client.client import Client
from hubq.client.repo_files import LocalFile, head_of
from hubq.client.retries import RetryPolicy
from hubq.embedded_hub.local import mint_token, revoke_token
from hubq.machine.files import sha256_of
from hubq.machine.progress import SILENT
from hubq.records.report import Report
from hubq.stages.publish.downloaded import Downloader
from hubq.stages.publish.publish import Publication, release, verify

SOON = RetryPolicy(tries=4, first=0.001)


class Case:
    """A small release, whose publisher tries again soon."""

    def __init__(self, hub: FaultyHub, run: Path, report: Report) -> None:
        self.hub, self.run, self.report = hub, run, report
        self.files = {
            path.relative_to(run / "model").as_posix(): LocalFile(path)
            for path in (run / "model").rglob("*.*")
        }
        self.repo = report.plan.repo
        self.api = HfApi(hub.endpoint, token=hub.token)
        self.client = Client(hub.endpoint, hub.token, SOON)
        self.disk = pytest.MonkeyPatch()

    def publish(self) -> Publication:
        """Publish it."""
        with Downloader(self.report, self.run, self.client, SILENT, load=False) as downloader:
            return release(self.report, self.files, downloader)

    def start_again(self) -> None:
        """Be a release that was never published."""
        self.delete()
        (self.run / "publication.json").unlink(missing_ok=True)

    def repair(self) -> None:
        """End all faults; the publisher has a new token."""
        self.hub.faults.clear()
        self.disk.undo()
        self.client = Client(self.hub.endpoint, self.hub.token, SOON)

    def revoking(self) -> Callable[[], None]:
        """Give the publisher a token of their own, and return what makes it worthless."""
        token = mint_token(self.hub.root, user="ann", role="write", expires_in=None)
        self.client = Client(self.hub.endpoint, token, SOON)
        return lambda: revoke_token(self.hub.root, token)

    def delete(self) -> None:
        """Delete the repo."""
        self.api.delete_repo(self.repo, missing_ok=True)

    def move(self) -> None:
        """Let somebody write to main."""
        note = CommitOperationAdd("README.md", b"---\nlicense: mit\n---\nmine")
        self.api.create_commit(self.repo, [note], commit_message="By hand")

    def fill(self) -> None:
        """Leave no room on the publisher's disk, which the hub's is not."""
        usage, replace = shutil.disk_usage, os.replace

        def is_here(path: object) -> bool:
            return Path(str(path)).is_relative_to(self.run)

        def replaced(source: Path, target: Path) -> None:
            if is_here(target):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
            replace(source, target)

        full = SimpleNamespace(total=10, used=10, free=0)
        self.disk.setattr("os.replace", replaced)
        self.disk.setattr("shutil.disk_usage", lambda at: full if is_here(at) else usage(at))


def small_run(run: Path) -> None:
    """Fill a run folder with a model of two small files, one of which goes as a large one."""
    model = run / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}" + 600 * " ")
    (model / "model.safetensors").write_bytes(bytes(range(256)) * 8)
    measured = {path.name: sha256_of(path) for path in model.iterdir()}
    (model / "hubq").mkdir()
    (model / "hubq" / "report.json").write_text(json.dumps({"checkpoint": {"files": measured}}))


def is_published(case: Case) -> bool:
    """Tell whether main holds anything of the release."""
    return case.api.file_exists(case.repo, "model.safetensors")


def is_whole(case: Case) -> bool:
    """Tell whether main holds the release, made by one commit; raise UserError if it doesn't."""
    case.hub.faults.clear()
    client = Client(case.hub.endpoint, case.hub.token)
    verify(case.repo, head_of(client, case.repo)[0], case.files, client)
    titles = [each.title for each in case.api.list_repo_commits(case.repo)]
    return sum(title.startswith("Publish") for title in titles) == 1


def require_completed(case: Case) -> None:
    """Publish once more; nothing but one release on main may be left of all that was."""
    case.repair()
    case.publish()
    assert is_whole(case)
    refs = case.api.list_repo_refs(case.repo, include_pull_requests=True)
    assert ([each.name for each in refs.branches], refs.pull_requests) == (["main"], [])
    assert {each.status for each in case.api.get_repo_discussions(case.repo)} <= {"closed"}
    assert {path.name for path in case.run.iterdir()} == {"model", "publication.json"}
