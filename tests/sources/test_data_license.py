"""What a data set's license means for what was trained on it."""

import pytest

from hubq.records.vocabulary import HUB_LICENSES
from hubq.sources.data_license import duties_of_data

NAMED, COMMERCE, ALIKE, CHANGES = (
    "must name the makers",
    "commercial use",
    "passed on under",
    "forbids to",
)


@pytest.mark.parametrize(
    ("license", "says"),
    [
        ("cc-by-4.0", [NAMED]),
        ("cc-by-nc-4.0", [NAMED, COMMERCE]),
        ("CC BY-NC 4.0", [NAMED, COMMERCE]),
        ("cc-by-sa-3.0", [NAMED, ALIKE]),
        ("cc-by-nc-sa-4.0", [NAMED, COMMERCE, ALIKE]),
        ("cc-by-nc-nd-4.0", [NAMED, COMMERCE, CHANGES]),
        ("odbl", [NAMED, ALIKE]),
        ("gpl-3.0", [ALIKE]),
        ("fair-noncommercial-research-license", [COMMERCE]),
        ("llama3", ['begins with "Llama-3"']),
        ("llama-3.1-community-license", ['begins with "Llama"']),
        ("apache-2.0", []),
        ("MIT License", []),
        ("cc0-1.0", []),
        ("my-own", ["license, my-own, asks of what was trained on it is not known"]),
        ("other", ["license, other, asks of"]),
        (None, ["names no license"]),
    ],
)
def test_a_license_of_data_means_something_for_what_was_trained_on_it(
    license: str | None, says: list[str]
) -> None:
    found = duties_of_data(license)

    assert len(found) == len(says)
    assert all(words in sentence for words, sentence in zip(says, found, strict=True))


@pytest.mark.parametrize("license", HUB_LICENSES)
def test_no_license_of_data_is_passed_over_in_silence(license: str) -> None:
    free = "bsd mit isc apache cc0 cdla-perm unlicense pddl wtfpl zlib ncsa afl bsl ecl postgresql"

    assert duties_of_data(license) or license.startswith(tuple(free.split()))
