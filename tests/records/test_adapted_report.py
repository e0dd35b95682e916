"""Which kind of report a file holds: read as what it is, whoever asks."""

import json
from pathlib import Path

import pytest
from made_adaptation import adapted_report
from made_measurements import assessed
from made_run import made_report

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.adapted_report import load_report
from hubq.records.report import Measured
from hubq.stages.card.check import report_in
from hubq.stages.compare.reports import gather


@pytest.mark.parametrize(
    "report",
    [made_report(), adapted_report(), assessed("acme/base")],
    ids=["quantized", "adapted", "any"],
)
def test_a_record_is_read_as_what_it_is(report: Measured, tmp_path: Path) -> None:
    report.save(tmp_path / "report.json")

    assert gather([str(tmp_path)], Client()) == [report]


def test_an_adapted_models_card_is_made_of_its_own_report(tmp_path: Path) -> None:
    report = adapted_report()
    report.save(tmp_path / "report.json")

    assert report_in(tmp_path) == report


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"adaptation": {}}', b"\xff"])
def test_a_damaged_report_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_bytes(content)

    with pytest.raises(UserError, match="does not hold a"):
        load_report(tmp_path / "report.json")


def test_an_adapted_report_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    values = {**adapted_report().model_dump(mode="json"), "another": 1}
    (tmp_path / "report.json").write_text(json.dumps(values))

    with pytest.raises(UserError, match=r"AdaptedReport of this version of hubq \(another\)"):
        load_report(tmp_path / "report.json")
