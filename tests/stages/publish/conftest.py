"""What tests of publishing share: a run; under faults one hub for a module, and small releases."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from faulty_hub import FaultyHub, faulty_hub
from made_run import make_run
from small_release import Case, small_run

from hubq.embedded_hub.local import fsck
from hubq.records.report import Report


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def report(run: Path) -> Report:
    return make_run(run)


@pytest.fixture(scope="module")
def hub_of_cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    """Serve one hub for all cases: each has a repo of its own."""
    root = tmp_path_factory.mktemp("faults") / "hub"
    with faulty_hub(root, user="ann", org="acme", wait=False) as running:
        yield running
    fsck(root)


@pytest.fixture(scope="module")
def report_of_cases(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Give the report that the cases' are made of."""
    return make_run(tmp_path_factory.mktemp("faults") / "run")


@pytest.fixture
def case(
    hub_of_cases: FaultyHub,
    report_of_cases: Report,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Case]:
    """Give a small release of its own; nobody waits between tries, and large files go by LFS."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
    small_run(tmp_path / "run")
    repo = f"acme/{tmp_path_factory.getbasetemp().name}-{abs(hash(tmp_path))}"
    plan = report_of_cases.plan.model_copy(update={"repo": repo})
    hub_of_cases.faults.clear()
    made = Case(hub_of_cases, tmp_path / "run", report_of_cases.model_copy(update={"plan": plan}))
    yield made
    made.repair()
