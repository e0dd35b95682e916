"""What lies beside the weights for the license's sake, family by family."""

from pathlib import Path

import pytest

from hubq.sources.license_terms import TERMS, LicenseFiles, license_files

LLAMAS = ["llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4"]
NOTICED = sorted(name for name, terms in TERMS.items() if terms.notice)
MARKED = sorted(name for name, terms in TERMS.items() if terms.marks_changes)


def said(found: LicenseFiles) -> str:
    return " ".join(found.facts)


@pytest.mark.parametrize("license", NOTICED)
def test_the_notice_that_the_license_asks_for_is_written(tmp_path: Path, license: str) -> None:
    found = license_files(tmp_path, license)

    assert found.files["Notice.txt"].decode() == f"{TERMS[license].notice}\n"
    assert f"Notice.txt was written, as the license {license} requires." in found.facts


@pytest.mark.parametrize("name", ["NOTICE", "Notice.txt"])
def test_the_bases_own_notice_stands(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"theirs")

    found = license_files(tmp_path, "llama3")

    assert "Notice.txt" not in found.files


@pytest.mark.parametrize(
    ("license", "agreement", "notice"),
    [
        (
            "qwen-research",
            'You shall retain the following attribution notices within a "Notice" text file '
            'distributed\nas a part of such copies: "Qwen is licensed under the Qwen RESEARCH '
            'LICENSE\nAGREEMENT, Copyright (c) 2026 Somebody Else. All Rights Reserved."; and\n',
            "Qwen is licensed under the Qwen RESEARCH LICENSE AGREEMENT, Copyright (c) 2026 "
            "Somebody Else. All Rights Reserved.",
        ),
        (
            "llama3.1",
            "the following attribution notice within a “Notice” text file distributed as a part "
            "of such copies: “Llama 3.1 is\nlicensed under the Llama 3.1 Community License, "
            "Copyright © Meta Platforms,\nInc. All Rights Reserved.”\n",
            TERMS["llama3.1"].notice,
        ),
        ("gemma", "An agreement that says nothing of it: “or so”.", TERMS["gemma"].notice),
    ],
)
def test_the_words_of_the_bases_agreement_go_before_those_of_the_table(
    tmp_path: Path, license: str, agreement: str, notice: str
) -> None:
    (tmp_path / "LICENSE").write_text(agreement)

    found = license_files(tmp_path, license)

    assert found.files["Notice.txt"].decode() == f"{notice}\n"


def test_a_folder_that_is_called_so_is_no_agreement(tmp_path: Path) -> None:
    (tmp_path / "LICENSE").mkdir()

    assert "LICENSE" in license_files(tmp_path, "apache-2.0").files


@pytest.mark.parametrize("license", [*LLAMAS, "gemma", "qwen", "qwen-research", "tongyi-qianwen"])
def test_an_agreement_that_the_base_lacks_is_named_and_never_made_up(
    tmp_path: Path, license: str
) -> None:
    found = license_files(tmp_path, license)

    assert not [name for name in found.files if name.upper().startswith("LICENSE")]
    text = found.files["ABOUT_THE_LICENSE.txt"].decode()
    assert TERMS[license].title in text
    assert TERMS[license].address in text
    assert f"There is no copy of the {license} agreement here, since the base has none." in said(
        found
    )


@pytest.mark.parametrize("name", ["LICENSE", "LICENSE.txt", "License.md", "LICENCE"])
@pytest.mark.parametrize("license", sorted(TERMS))
def test_a_base_with_a_copy_of_its_agreement_needs_no_pointer(
    tmp_path: Path, license: str, name: str
) -> None:
    (tmp_path / name).write_text("the agreement")

    found = license_files(tmp_path, license)

    assert not {"ABOUT_THE_LICENSE.txt", "LICENSE"} & set(found.files)
    assert "has no copy" not in said(found)


@pytest.mark.parametrize("license", [*LLAMAS, "gemma"])
def test_a_policy_that_the_base_lacks_is_told_with_its_address(
    tmp_path: Path, license: str
) -> None:
    without = license_files(tmp_path, license)

    (tmp_path / "USE_POLICY.md").write_text("the policy")

    assert f"read it at {TERMS[license].policy}." in said(without)
    assert "use policy; read it" not in said(license_files(tmp_path, license))


def test_an_apache_model_gets_the_text_that_its_base_lacks(tmp_path: Path) -> None:
    found = license_files(tmp_path, "apache-2.0")

    ours = Path(__file__).parents[2] / "LICENSE"
    assert found.files["LICENSE"] == ours.read_bytes()
    assert "LICENSE, the text of the Apache License, Version 2.0, was written" in said(found)


def test_the_copyright_notice_of_an_mit_model_is_missed_and_not_made_up(tmp_path: Path) -> None:
    found = license_files(tmp_path, "mit")

    assert set(found.files) == {"ABOUT_THE_LICENSE.txt"}
    assert "the copyright notice that every copy must carry is missing here" in said(found)


@pytest.mark.parametrize("license", MARKED)
def test_changed_files_are_marked_where_the_license_asks(tmp_path: Path, license: str) -> None:
    found = license_files(tmp_path, license, ["generation_config.json lacks top_k."])

    text = found.files["MODIFICATIONS.txt"].decode()
    assert "hubq changed them" in text
    assert "- generation_config.json lacks top_k." in text


@pytest.mark.parametrize("license", sorted(set(TERMS) - set(MARKED)))
def test_no_file_is_written_that_the_license_does_not_ask_for(tmp_path: Path, license: str) -> None:
    assert "MODIFICATIONS.txt" not in license_files(tmp_path, license).files


@pytest.mark.parametrize("license", [None, "other", "cc-by-4.0", "unknown"])
def test_a_license_without_known_terms_gets_nothing(tmp_path: Path, license: str | None) -> None:
    assert license_files(tmp_path, license) == LicenseFiles({}, ())


def test_the_same_base_gives_the_same_bytes(tmp_path: Path) -> None:
    assert license_files(tmp_path, "gemma") == license_files(tmp_path, "gemma")
