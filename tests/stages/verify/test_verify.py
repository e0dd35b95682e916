"""Whether a release is what it says: what is sound passes, and what was touched is found."""

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from attested_release import changed, laid_out, measured_run, released, replaced
from made_adaptation import make_adapted
from made_release import sound
from made_run import make_run

from hubq.client.client import Client
from hubq.errors import UserError
from hubq.records.attestation import Statement
from hubq.records.report import Report
from hubq.records.run_folder import VERSIONS
from hubq.records.versions import Version, Versions
from hubq.stages.verify.findings import Finding
from hubq.stages.verify.gather import Trust, folder_subject
from hubq.stages.verify.verify import CHECKS, Verification, verify

NOBODY = Client("http://127.0.0.1:9")  # nobody listens there
REPORT, ATTESTATION, RECIPE = "hubq/report.json", "hubq/attestation.json", "hubq/recipe.yaml"
Touch = Callable[[Path], None]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay a release out; read it, never write."""
    place = tmp_path_factory.mktemp("release")
    report = measured_run(place / "run")
    return laid_out(released(report, place / "run"), place / "repo")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the release to be touched."""
    return Path(shutil.copytree(made, tmp_path / "repo"))


def verified(folder: Path, trust: Trust | None = None) -> Verification:
    return verify(folder_subject(folder, NOBODY, trust or Trust()))


def named(found: Verification, status: str) -> set[str]:
    return {each.check for each in found.findings if each.status == status}


def finding(found: Verification, check: str) -> Finding:
    (one,) = (each for each in found.findings if each.check == check)
    return one


def test_a_release_as_it_was_published_is_what_it_says(made: Path) -> None:
    found = verified(made)

    assert named(found, "failed") == set()
    assert named(found, "unknown") == {"signature", "base", "base-license"}
    assert "to the letter" in finding(found, "card").reason
    assert finding(found, "bits").reason == "4.625 bits a weight in 7 linears"


def test_the_card_of_a_later_version_is_written_again_too(tmp_path: Path) -> None:
    report = measured_run(tmp_path / "run")
    old = Version(
        name="v1",
        date="2026-11-01",
        commit="0" * 40,
        tag="v1",
        recipe="tiny",
        method="rtn",
        form="hubq",
        base="acme/tiny",
    )
    new = old.model_copy(update={"name": "v2", "commit": None, "tag": None})
    Versions(entries=(old, new)).save(tmp_path / "run" / VERSIONS)

    found = verified(laid_out(released(report, tmp_path / "run"), tmp_path / "repo"))

    assert "v2" in (tmp_path / "repo" / "README.md").read_text()
    assert named(found, "failed") == set()
    assert "to the letter" in finding(found, "card").reason


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def other_weights(folder: Path) -> None:
    flip(folder / "model.safetensors")


def other_number_on_the_card(folder: Path) -> None:
    replaced(folder / "README.md", "| text.txt | 20 | 259.0", "| text.txt | 20 | 251.3")


def a_number_from_another_place(folder: Path) -> None:
    replaced(folder / "README.md", "-0.053", "-0.022")


def other_number_in_the_metadata(folder: Path) -> None:
    replaced(folder / "README.md", "value: 259.01708024742004", "value: 259.0")


def other_license_on_the_card(folder: Path) -> None:
    replaced(folder / "README.md", "license: apache-2.0\n", "license: mit\n")


def other_number_in_the_report(folder: Path) -> None:
    changed(folder / REPORT, "measurements", 0, "value", value=251.3)


def more_bits_in_the_report(folder: Path) -> None:
    changed(folder / REPORT, "checkpoint", "layers", 0, "bits", value=4.5)


def other_size_in_the_report(folder: Path) -> None:
    changed(folder / REPORT, "checkpoint", "weight_bytes", value=20_000)


def other_shape_in_the_report(folder: Path) -> None:
    changed(folder / REPORT, "plan", "modules", 0, "shape", value=[130, 64])


def other_format_in_the_recipe(folder: Path) -> None:
    changed(folder / REPORT, "plan", "recipe", "format", value="gptq")


def added_code(folder: Path) -> None:
    (folder / "modeling.py").write_text("print('hello')\n")


def added_record(folder: Path) -> None:
    (folder / "hubq" / "more.json").write_text("{}")


def added_result(folder: Path) -> None:
    (folder / ".eval_results").mkdir()
    (folder / ".eval_results" / "gsm8k.yaml").write_text("- value: 99\n")


def missing_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def missing_card(folder: Path) -> None:
    (folder / "README.md").unlink()


def other_base(folder: Path) -> None:
    for name in ("report", "plan"):
        replaced(folder / f"hubq/{name}.json", "sha256:ccdf7643", "sha256:ccdf7644")
    replaced(folder / "README.md", "ccdf7643", "ccdf7644")


def other_recipe(folder: Path) -> None:
    replaced(folder / RECIPE, "bits: 4", "bits: 3")


def other_plan(folder: Path) -> None:
    changed(folder / "hubq/plan.json", "license", value="mit")


def attested_base(folder: Path) -> None:
    replaced(folder / ATTESTATION, "ccdf7643", "ccdf7644")


def attested_builder(folder: Path) -> None:
    replaced(folder / ATTESTATION, '"hubq": "0.1.0"', '"hubq": "0.2.0"')


def attested_file(folder: Path) -> None:
    changed(folder / ATTESTATION, "subject", 0, "digest", "sha256", value="0" * 64)


def attested_signer(folder: Path) -> None:
    signer = {"how": "key", "name": "a" * 64}
    changed(
        folder / ATTESTATION,
        *("predicate", "runDetails", "metadata", "hubq_signer"),
        value=signer,
    )


def removed_attestation(folder: Path) -> None:
    (folder / ATTESTATION).unlink()


# What is touched, and each check that fails then.
TOUCHED: list[tuple[Touch, set[str]]] = [
    (other_weights, {"attested-files", "measured-files"}),
    (other_number_on_the_card, {"attested-files", "card"}),
    (a_number_from_another_place, {"attested-files", "card"}),
    (other_number_in_the_metadata, {"attested-files", "card-metadata", "card"}),
    (other_license_on_the_card, {"attested-files", "card-metadata"}),
    (other_number_in_the_report, {"attested-files", "card", "card-metadata"}),
    (more_bits_in_the_report, {"attested-files", "bits"}),
    (other_size_in_the_report, {"attested-files", "sizes"}),
    (other_shape_in_the_report, {"attested-files", "parameters", "records"}),
    (other_format_in_the_recipe, {"attested-files", "parameters", "records"}),
    (added_code, {"attested-files", "measured-files"}),
    (added_record, {"attested-files"}),
    (added_result, {"attested-files", "card-metadata"}),
    (missing_tokenizer, {"attested-files", "measured-files"}),
    (missing_card, {"attested-files", "card", "card-metadata"}),
    (other_base, {"attested-files", "attestation"}),
    (other_recipe, {"attested-files", "records"}),
    (other_plan, {"attested-files", "records"}),
    (attested_base, {"attestation"}),
    (attested_builder, {"attestation"}),
    (attested_file, {"attested-files"}),
    (attested_signer, {"signature"}),
]


@pytest.mark.parametrize(("touch", "checks"), TOUCHED, ids=[touch.__name__ for touch, _ in TOUCHED])
def test_what_was_touched_is_found(folder: Path, touch: Touch, checks: set[str]) -> None:
    touch(folder)

    assert named(verified(folder), "failed") >= checks


def test_a_release_without_an_attestation_says_so(folder: Path) -> None:
    (folder / ATTESTATION).unlink()

    found = verified(folder)

    assert named(found, "failed") == set()
    assert "no attestation" in finding(found, "attested-files").reason


def test_what_hubq_did_not_make_is_not_judged_by_what_it_lacks(tmp_path: Path) -> None:
    sound(tmp_path / "theirs").write()

    found = verified(tmp_path / "theirs")

    assert named(found, "unknown") == {each.check for each in found.findings}
    assert "not made by hubq" in finding(found, "measured-files").reason


def test_a_release_must_be_signed_where_that_is_asked_for(made: Path) -> None:
    found = verified(made, Trust(required=True))

    assert named(found, "failed") == {"signature"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"\xff",
        b"[" * 100_000,
        b'{"_type": "https://in-toto.io/Statement/v1"}',
        json.dumps({"subject": [{"name": "../../etc/passwd"}]}).encode(),
    ],
    ids=["nothing", "a list", "no text", "nested", "half", "out of the folder"],
)
@pytest.mark.parametrize("path", [ATTESTATION, REPORT, "model.sig", "README.md"])
def test_a_file_that_is_none_fails_its_checks(folder: Path, path: str, content: bytes) -> None:
    (folder / path).write_bytes(content)

    assert verified(folder).failed


def test_paths_that_lead_out_of_a_folder_are_not_followed(folder: Path) -> None:
    (folder.parent / "theirs").write_text("secret")
    statement = Statement.load(folder / ATTESTATION)
    (folder / ATTESTATION).write_bytes(statement.with_files({"../theirs": "0" * 64}).written())

    assert "../theirs is missing" in finding(verified(folder), "attested-files").reason


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("plan", "recipe"), {}),
        (("plan", "recipe", "method"), {"name": "../../x"}),
        (("plan", "recipe", "method"), {"name": "gptq", "bits": "many"}),
        (("plan", "recipe", "format"), "unheard-of"),
        (("plan", "recipe", "publish"), []),
        (("plan", "parameters"), 0),
        (("plan", "modules"), []),
        (("plan", "source"), "acme/x@" + "0" * 39),
        (("plan", "modules", 0, "shape"), [0, 0]),
        (("checkpoint", "layers"), []),
        (("checkpoint", "calibration_text"), "a" * 200_000),
        (("checkpoint", "files"), {"../../x": "y"}),
        (("checkpoint", "versions"), {"hubq": "x" * 5000}),
        (("measurements",), []),
    ],
)
def test_a_report_with_odd_values_fails_and_breaks_nothing(
    folder: Path, keys: tuple[str | int, ...], value: object
) -> None:
    changed(folder / REPORT, *keys, value=value)

    assert verified(folder).failed


def test_a_card_of_nothing_but_digits_is_read_in_time(folder: Path) -> None:
    (folder / "README.md").write_text("1" * 1_000_000)

    assert finding(verified(folder), "card").status == "failed"


def test_the_docs_name_every_check() -> None:
    page = (Path(__file__).parents[3] / "docs" / "provenance.md").read_text()

    table = page.partition("| check | ok means |")[2]
    names = re.findall(r"^\| `([a-z-]+)` \|", table, re.MULTILINE)
    assert names == [check.__name__.replace("_", "-") for check in CHECKS]


def test_a_run_folder_is_no_release(tmp_path: Path) -> None:
    make_run(tmp_path / "run")

    with pytest.raises(UserError, match="is a run folder, not a release"):
        folder_subject(tmp_path / "run", NOBODY, Trust())


def test_an_adapters_release_is_what_it_says(tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = make_adapted(run, make_run(run))
    folder = laid_out(released(report, run / "adapted"), tmp_path / "repo")

    found = verified(folder)

    judged = {"attested-files", "measured-files", "attestation", "records", "card"}
    assert judged <= named(found, "ok"), found.findings


def test_the_same_run_is_attested_in_the_same_bytes(tmp_path: Path, made: Path) -> None:
    again = partial(measured_run, tmp_path / "again")
    report: Report = again()

    files = released(report, tmp_path / "again")

    assert files[ATTESTATION].path.read_bytes() == (made / ATTESTATION).read_bytes()
