"""Reports of other versions: read as what they were, or refused."""

import json
from pathlib import Path

import pytest
from made_run import made_report

from hubq.errors import UserError
from hubq.records.report import Report

NEW = {"overall", "left_out", "fidelity", "efficiency"}


def of_version_1(path: Path) -> None:
    """Save a report as hubq wrote it first: its difference has a standard error alone."""
    values = made_report().model_dump(mode="json", exclude=NEW)
    new = {"dimension", "difference", "recovery", "paired", "p_value", "flips", "chance"}
    values["measurements"] = [
        {key: each for key, each in measurement.items() if key not in new}
        for measurement in values["measurements"]
    ]
    values["measurements"][0]["difference_stderr"] = 0.1
    path.write_text(json.dumps(values | {"version": 1}))


def test_a_report_of_version_1_keeps_its_values(tmp_path: Path) -> None:
    of_version_1(tmp_path / "report.json")

    report = Report.load(tmp_path / "report.json")

    expected = [(each.base, each.value) for each in made_report().measurements]
    assert [(each.base, each.value) for each in report.measurements] == expected
    recoveries = [each.recovery for each in made_report().measurements]
    assert [each.recovery for each in report.measurements] == recoveries


def test_its_paired_error_becomes_an_interval(tmp_path: Path) -> None:
    of_version_1(tmp_path / "report.json")

    perplexity, accuracy = Report.load(tmp_path / "report.json").measurements

    assert perplexity.paired
    assert perplexity.difference is not None
    assert perplexity.difference.low == pytest.approx(29.58 - 25.97 - 0.196)
    assert accuracy.difference is None


def test_what_version_1_did_not_measure_is_not_made_up(tmp_path: Path) -> None:
    of_version_1(tmp_path / "report.json")

    report = Report.load(tmp_path / "report.json")

    assert (report.fidelity, report.efficiency) == (None, None)


def test_a_report_is_read_back_as_it_was(tmp_path: Path) -> None:
    measured = made_report()
    measured.save(tmp_path / "report.json")

    assert Report.load(tmp_path / "report.json") == measured


@pytest.mark.parametrize("version", [0, 3, "2", None])
def test_a_report_of_another_version_is_refused(tmp_path: Path, version: object) -> None:
    values = made_report().model_dump(mode="json") | {"version": version}
    (tmp_path / "report.json").write_text(json.dumps(values))

    with pytest.raises(UserError, match=r"a Report of this version of hubq \(version"):
        Report.load(tmp_path / "report.json")


def test_a_report_that_is_no_json_is_refused(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{")

    with pytest.raises(UserError, match="does not hold a Report"):
        Report.load(tmp_path / "report.json")
