"""What licenses ask of whoever passes a changed model on, and the files that they want beside it.

The one table, a row a license, is taken from the texts as their owners publish them. Meta's
licenses, section 1.b: a copy of the agreement, "Built with ..." on a related page, a name that
begins with "Llama", and a text file called "Notice". Gemma's terms, section 3.1: a copy, the
restrictions of 3.2 passed on, changed files marked, and such a file. Qwen's and Tongyi Qianwen's,
sections 3 and 4: the same but for the restrictions, and "Built with Qwen" in the newer two. Apache,
section 4: a copy, changed files marked, NOTICE kept. MIT: its copyright notice, which only the base
can hold.

Whether a mere quantization is an "improved" model, whose name Meta wants to begin with "Llama", is
a question for lawyers; hubq obeys. It is a tool, no advice on the law.

The files are copies of the base's, and notices. What the base holds is copied byte for byte, its
agreement and its policy of use above all. An agreement that the base lacks is never made up: only
the Apache License has a text that is the same for everybody, so that hubq can write it; of any
other, a file tells where its owner publishes it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hubq.records.plan import Plan

_META = "Copyright © Meta Platforms, Inc. All Rights Reserved."
_ALIBABA = "Copyright (c) Alibaba Cloud. All Rights Reserved."
_QWEN = "https://huggingface.co/Qwen/Qwen2.5-72B/blob/main/LICENSE"
_QWEN_RESEARCH = "https://huggingface.co/Qwen/Qwen2.5-3B/blob/main/LICENSE"
_TONGYI = (
    "https://github.com/QwenLM/Qwen/blob/main/Tongyi%20Qianwen%20LICENSE%20AGREEMENT",
    "https://github.com/QwenLM/Qwen/blob/main/Tongyi%20Qianwen%20RESEARCH%20LICENSE%20AGREEMENT",
)
_RESEARCH = (
    "Research and evaluation are the only uses that it allows; any other needs a license of its "
    "own from Alibaba Cloud."
)
LICENSE_FILE = re.compile(r"(licen[cs]e|notice|use_policy)[^/]*", re.IGNORECASE)
TEXT_SUFFIXES = ("", ".md", ".txt", ".pdf")
APACHE = Path(__file__).with_name("apache-2.0.txt")
NOTICE = "Notice.txt"
CHANGES = "MODIFICATIONS.txt"
WHEREABOUTS = "ABOUT_THE_LICENSE.txt"  # where the agreement is that the base does not hold
# How agreements word what the file must say: ... a "Notice" text file ...: "Llama 3.1 is ...".
_WORDING = re.compile(
    r"[\"“']notice[\"”'] text file[^:\"“]*:\s*[\"“](.{20,300}?)[\"”]", re.IGNORECASE | re.DOTALL
)


@dataclass(frozen=True)
class Terms:
    """One license: what must go along with a changed copy, and what must be said about it."""

    title: str
    address: str  # where its owner publishes the text
    policy: str | None = None  # the address of the acceptable-use policy that binds users too
    start: str | None = None  # how the name of a derived model must begin
    built_with: str | None = None  # to be displayed prominently
    notice: str | None = None  # the line of the file "Notice"
    marks_changes: bool = False  # changed files must carry prominent notices of it
    stays: bool = True  # whoever changed the model can't put it under another license
    limits: str | None = None  # what else users must be told


def _llama(version: str) -> Terms:
    """Return the terms of Llama 3.1 and later, which differ in nothing else."""
    place = f"https://www.llama.com/llama{version.replace('.', '_')}"
    return Terms(
        title=f"Llama {version} Community License Agreement",
        address=f"{place}/license",
        policy=f"{place}/use-policy",
        start="Llama",
        built_with="Built with Llama",
        notice=f"Llama {version} is licensed under the Llama {version} Community License, {_META}",
    )


def _alibaba(title: str, address: str, *, built_with: str | None, limits: str | None) -> Terms:
    """Return the terms of one of Alibaba Cloud's agreements."""
    name = "Tongyi Qianwen" if title.startswith("Tongyi") else "Qwen"
    return Terms(
        title=title,
        address=address,
        built_with=built_with,
        notice=f"{name} is licensed under the {title}, {_ALIBABA}",
        marks_changes=True,
        limits=limits,
    )


TERMS: Mapping[str, Terms] = {
    "llama2": Terms(
        title="Llama 2 Community License Agreement",
        address="https://ai.meta.com/llama/license",
        policy="https://ai.meta.com/llama/use-policy",
        notice="Llama 2 is licensed under the LLAMA 2 Community License, "
        "Copyright (c) Meta Platforms, Inc. All Rights Reserved.",
    ),
    "llama3": Terms(
        title="Meta Llama 3 Community License Agreement",
        address="https://llama.meta.com/llama3/license",
        policy="https://llama.meta.com/llama3/use-policy",
        start="Llama-3",
        built_with="Built with Meta Llama 3",
        notice=f"Meta Llama 3 is licensed under the Meta Llama 3 Community License, {_META}",
    ),
    **{f"llama{version}": _llama(version) for version in ("3.1", "3.2", "3.3", "4")},
    "gemma": Terms(
        title="Gemma Terms of Use",
        address="https://ai.google.dev/gemma/terms",
        policy="https://ai.google.dev/gemma/prohibited_use_policy",
        notice="Gemma is provided under and subject to the Gemma Terms of Use found at "
        "ai.google.dev/gemma/terms",
        marks_changes=True,
        limits="The use restrictions in section 3.2 of these terms bind whoever receives this "
        "model, and must be passed on with it.",
    ),
    "tongyi-qianwen": _alibaba(
        "Tongyi Qianwen LICENSE AGREEMENT", _TONGYI[0], built_with=None, limits=None
    ),
    "tongyi-qianwen-research": _alibaba(
        "Tongyi Qianwen RESEARCH LICENSE AGREEMENT", _TONGYI[1], built_with=None, limits=_RESEARCH
    ),
    "qwen": _alibaba("Qwen LICENSE AGREEMENT", _QWEN, built_with="Built with Qwen", limits=None),
    "qwen-research": _alibaba(
        "Qwen RESEARCH LICENSE AGREEMENT",
        _QWEN_RESEARCH,
        built_with="Built with Qwen",
        limits=_RESEARCH,
    ),
    "apache-2.0": Terms(
        title="Apache License, Version 2.0",
        address="https://www.apache.org/licenses/LICENSE-2.0",
        marks_changes=True,
        stays=False,
    ),
    "mit": Terms(
        title="MIT License",
        address="https://opensource.org/license/mit",
        stays=False,
        limits="Every copy must carry its copyright notice.",
    ),
}


def terms_of(license: str | None) -> Terms | None:
    """Return the terms of a license by its id or by a name that cards give it; None if unknown."""
    return None if license is None else TERMS.get(plain(license))


def governing(base: str | None, published: str | None) -> str | None:
    """Return the license whose duties are to be done: the base's, where hubq knows its terms."""
    return base if terms_of(base) else published or base


def sentences(license: str | None) -> tuple[str, ...]:
    """Return what a card must say of a model under this license, besides "Built with ..."."""
    terms = terms_of(license)
    if terms is None:
        return ()
    return tuple(
        sentence
        for sentence in (
            terms.notice and f"{terms.notice.rstrip('.')}.",
            terms.policy and f"Its use must follow the policy at {terms.policy}.",
            terms.limits,
            "The files of this model are not the base's: they were changed by quantizing it."
            if terms.marks_changes
            else None,
        )
        if sentence
    )


def plain(license: str) -> str:
    """Spell a license as the table does: Llama-3.3-Community-License is llama3.3."""
    name = re.sub(r"[\s_]+", "-", license.strip().lower())
    name = re.sub(r"(-community)?(-licen[cs]e)?(-agreement)?(-terms-of-use)?$", "", name)
    return re.sub(r"^(?:meta-)?llama-?(?=\d)", "llama", name)


def published_license(plan: Plan) -> str | None:
    """Return the license id: the recipe's word, else the base's."""
    return plan.recipe["publish"].get("license") or plan.license


def governing_license(plan: Plan) -> str | None:
    """Return the license whose duties the card has to do, such as "Built with Llama"."""
    return governing(plan.license, plan.recipe["publish"].get("license"))


@dataclass(frozen=True)
class LicenseFiles:
    """The files to write, and a sentence on each for the card."""

    files: dict[str, bytes]
    facts: tuple[str, ...]


def is_license_file(path: str) -> bool:
    """Tell whether a file of a repo holds terms or notices that travel along."""
    return bool(LICENSE_FILE.fullmatch(path)) and Path(path).suffix.lower() in TEXT_SUFFIXES


def license_files(base: Path, license: str | None, changes: Sequence[str] = ()) -> LicenseFiles:
    """Write what a license asks for and the folder `base` does not hold already.

    `changes` are sentences on files other than the weights and config.json that were changed.
    """
    held = sorted(
        path.name for path in base.iterdir() if path.is_file() and is_license_file(path.name)
    )
    agreement = agreement_in(held)
    text = (base / agreement).read_text("utf-8", "replace") if agreement else ""
    return owed(license, held, text, changes)


def agreement_in(held: Sequence[str]) -> str | None:
    """Return which of the files of a license is its text."""
    return next((name for name in held if re.match("licen[cs]e", name, re.IGNORECASE)), None)


def owed(
    license: str | None, held: Sequence[str], agreement: str, changes: Sequence[str] = ()
) -> LicenseFiles:
    """Return what a license asks for beside the files of it that are `held`, and its `agreement`.

    `changes` are sentences on files other than the weights and config.json that were changed.
    """
    terms = terms_of(license)
    if terms is None:
        return LicenseFiles({}, ())
    parts = [
        _notice(terms, license, agreement, held),
        _agreement(terms, license) if agreement_in(held) is None else None,
        _changes(changes) if terms.marks_changes else None,
    ]
    found = [part for part in parts if part is not None]
    policy = _policy_fact(terms, held)
    return LicenseFiles(
        files={name: content for name, content, _ in found},
        facts=(*(fact for _, _, fact in found), *((policy,) if policy else ())),
    )


def _notice(
    terms: Terms, license: str | None, agreement: str, held: Sequence[str]
) -> tuple[str, bytes, str] | None:
    """Write the Notice that the license asks for, unless the base has one to copy."""
    if terms.notice is None or any(name.lower().startswith("notice") for name in held):
        return None
    worded = _WORDING.search(agreement)  # the base's own agreement knows its words best
    line = " ".join(worded[1].split()) if worded else terms.notice
    return NOTICE, f"{line}\n".encode(), f"{NOTICE} was written, as the license {license} requires."


def _agreement(terms: Terms, license: str | None) -> tuple[str, bytes, str]:
    """Write the Apache License, or where to find the agreement that the base does not hold."""
    if terms.title.startswith("Apache"):
        return (
            "LICENSE",
            APACHE.read_bytes(),
            f"LICENSE, the text of the {terms.title}, was written, since the base has no copy.",
        )
    lacks = f"There is no copy of the {license} agreement here, since the base has none."
    if terms.title == "MIT License":
        lacks = (
            "The base has no copy of its MIT License, so the copyright notice that every copy "
            "must carry is missing here; ask the base's authors for it."
        )
    lines = [f"This model is under the {terms.title}. {lacks}", f"Its text: {terms.address}"]
    if terms.policy:
        lines.append(f"The use policy that is part of it: {terms.policy}")
    lines += [terms.limits] if terms.limits else []
    return WHEREABOUTS, ("\n".join(lines) + "\n").encode(), f"{lacks} Its text: {terms.address}."


def _changes(changes: Sequence[str]) -> tuple[str, bytes, str]:
    """Write the notice that files were changed, and which."""
    lines = [
        "The files of this model are not those of its base. hubq changed them:",
        "- the weights (*.safetensors and their index) were quantized or packed in another format;",
        "- config.json describes that format;",
        *(f"- {change}" for change in changes),
        "README.md, the model card, tells how. All other files of the base are copied unchanged.",
    ]
    return CHANGES, ("\n".join(lines) + "\n").encode(), f"{CHANGES} names the files that changed."


def _policy_fact(terms: Terms, held: Sequence[str]) -> str | None:
    """Say where a policy that is part of the license has no copy in the base."""
    if terms.policy is None or any(name.lower().startswith("use_policy") for name in held):
        return None
    return f"The base does not include its use policy; read it at {terms.policy}."
