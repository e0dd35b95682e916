"""What the license of a data set asks of whoever passes on what was trained on it."""

import re

from hubq.sources.license_terms import TERMS, plain

# What licenses of data ask of those who pass on what they made of it.
OF_DATA = (
    (
        re.compile(r"^cc-by\b|^odc-by|^cdla-sharing|^odbl"),
        "Whoever passes this on must name the makers of the data that it was trained on, and the "
        "data's license.",
    ),
    (
        re.compile(r"-nc\b|noncommercial|research|^apple-amlr"),
        "The data's license forbids commercial use, so what was trained on it is for "
        "non-commercial use only.",
    ),
    (
        re.compile(r"-sa\b|^odbl|^cdla-sharing|^[al]?gpl|^gfdl"),
        "Whatever is made of the data must be passed on under the license of the data.",
    ),
    (
        re.compile(r"-nd\b"),
        "The data's license forbids to pass changed copies of it on; whether that covers what was "
        "trained on it is a question for lawyers.",
    ),
)
ASKS_NOTHING = frozenset(
    {
        *("apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "isc", "ncsa", "zlib"),
        *("cc0-1.0", "pddl", "unlicense", "wtfpl", "cdla-permissive-1.0", "cdla-permissive-2.0"),
        *("afl-3.0", "bsl-1.0", "ecl-2.0", "postgresql"),
    }
)


def duties_of_data(license: str | None) -> tuple[str, ...]:
    """Return what a data set's license means for what was trained on it, a sentence each.

    Empty: the license asks nothing of that. Whether a model is a changed copy of its data is a
    question for lawyers; hubq says what the license asks for such copies.
    """
    if license is None:
        return (
            "The data names no license, so what may be done with what was trained on it is not "
            "known.",
        )
    name = plain(license)
    if name in ASKS_NOTHING:
        return ()
    found = tuple(says for words, says in OF_DATA if words.search(name))
    start = TERMS[name].start if name in TERMS else None
    if start:
        found = (f'A model that was trained on this data needs a name that begins with "{start}".',)
    return found or (
        f"What the data's license, {license}, asks of what was trained on it is not known to "
        "hubq: read it before you use this.",
    )
