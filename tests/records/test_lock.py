"""The lock of a release: what uv reads of it, and what a stranger's may not say."""

import pytest
from packaging.requirements import Requirement
from pydantic import ValidationError

from hubq.records.lock import Lock, requirements


def lock(**changes: object) -> Lock:
    values: dict[str, object] = {
        "python": "3.11.7",
        "hubq": "0.1.0",
        "packages": {"torch": "2.13.0+cpu", "numpy": "2.4.6"},
        "system": "Linux x86_64",
        "instructions": "AVX512",
        "device": "cpu",
        "threads": 2,
    }
    return Lock.model_validate(values | changes)


def test_each_line_that_is_no_comment_pins_a_package() -> None:
    lines = requirements(lock()).splitlines()

    pins = [Requirement(line) for line in lines if not line.startswith("#")]
    assert {each.name: str(each.specifier) for each in pins} == {
        "numpy": "==2.4.6",
        "torch": "==2.13.0+cpu",
    }


def test_the_comments_say_by_which_commands() -> None:
    text = requirements(lock(), "hubq/requirements.txt")

    assert "# uv venv --python 3.11 hubq-0.1.0\n" in text
    assert "# uv pip sync --python hubq-0.1.0 --torch-backend cpu hubq/requirements.txt\n" in text
    assert "hubq 0.1.0 from its sources" in text


def test_a_torch_of_the_usual_index_needs_no_other() -> None:
    text = requirements(lock(packages={"torch": "2.13.0", "hubq": "0.1.0"}))

    assert "--torch-backend" not in text
    assert "\nhubq==0.1.0\n" in text
    assert "sources" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"packages": {"torch": "2.13.0\n--index-url http://evil.example"}},
        {"packages": {"torch @ http://evil.example/torch.whl": "1"}},
        {"packages": {"-r": "/etc/passwd"}},
        {"packages": {f"package-{number}": "1" for number in range(2001)}},
        {"hubq": "0.1.0; rm -rf ~"},
        {"python": "3.11 && true"},
        {"threads": 10**9},
        {"system": "Linux\n"},
        {"device": "os"},
    ],
)
def test_what_a_stranger_could_smuggle_into_a_command_is_refused(
    changes: dict[str, object],
) -> None:
    with pytest.raises(ValidationError):
        lock(**changes)
