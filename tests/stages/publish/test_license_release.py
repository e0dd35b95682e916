"""A release of a model under each license: what the Hub holds in the end, and what its card says.

Each test starts a hub: about half a second.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from faulty_hub import faulty_hub
from huggingface_hub import ModelCard
from made_run import make_run
from unloaded import publish

from hubq.client.client import Client
from hubq.client.retries import RetryPolicy
from hubq.machine.files import sha256_of
from hubq.sources.auxiliary_files import beside_config
from hubq.sources.license_terms import TERMS
from hubq.stages.plan.conditions import required_start

PICTURES = {f"images/{name}{way}.png" for name in ("recovery", "errors") for way in ("", "-dark")}
NAMES = ("attestation.json", "plan.json", "recipe.yaml", "report.json", "siblings.json")
RECORDS = {f"hubq/{name}" for name in NAMES}
REMOTE = {".gitattributes", "README.md"} | RECORDS | PICTURES
MODEL = {"config.json", "model.safetensors", "tokenizer.json"}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with faulty_hub(tmp_path / "hub", user="ann", org="acme", wait=False) as hub:
        yield Client(hub.endpoint, hub.token, RetryPolicy(first=0.01))


def released(license: str, base: Path, run: Path, client: Client) -> str:
    """Publish a made-up run of a base with these files; return the repo."""
    repo = f"acme/{required_start(license) or 'Tiny'}-Test-GPTQ-4bit"
    report = make_run(run, repo, license=None)
    found = beside_config(base, license)
    for name, content in found.files.items():
        (run / "model" / name).write_bytes(content)
    digests = {path.name: sha256_of(path) for path in sorted((run / "model").iterdir())}
    checkpoint = report.checkpoint.model_copy(update={"files": digests, "facts": found.facts})
    plan = report.plan.model_copy(update={"license": license})
    changed = report.model_copy(update={"plan": plan, "checkpoint": checkpoint})
    plan.save(run / "plan.json")
    checkpoint.save(run / "checkpoint.json")
    changed.save(run / "report.json")
    publish(changed, run, client)
    return repo


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


@pytest.mark.parametrize(
    ("license", "files"),
    [
        ("llama2", {"LICENSE", "Notice.txt", "USE_POLICY.md"}),
        ("llama3", {"LICENSE", "Notice.txt", "USE_POLICY.md"}),
        ("llama3.1", {"LICENSE", "Notice.txt", "USE_POLICY.md"}),
        ("llama3.2", {"LICENSE", "Notice.txt", "USE_POLICY.md"}),
        ("llama3.3", {"LICENSE", "Notice.txt", "USE_POLICY.md"}),
        ("llama4", {"LICENSE", "Notice.txt", "USE_POLICY.md"}),
        ("gemma", {"LICENSE", "Notice.txt", "USE_POLICY.md", "MODIFICATIONS.txt"}),
        ("qwen", {"LICENSE", "Notice.txt", "USE_POLICY.md", "MODIFICATIONS.txt"}),
        ("apache-2.0", {"LICENSE", "USE_POLICY.md", "MODIFICATIONS.txt"}),
        ("mit", {"LICENSE", "USE_POLICY.md"}),
    ],
)
def test_a_base_with_its_papers_hands_them_on(
    base: Path, tmp_path: Path, client: Client, license: str, files: set[str]
) -> None:
    (base / "LICENSE").write_bytes(b"the agreement,\r\n byte for byte \xe9")
    (base / "USE_POLICY.md").write_text("the policy")

    repo = released(license, base, tmp_path / "run", client)

    assert set(client.api().list_repo_files(repo)) == REMOTE | MODEL | files
    held = Path(client.api().hf_hub_download(repo, "LICENSE"))
    assert held.read_bytes() == (base / "LICENSE").read_bytes()


@pytest.mark.parametrize(
    ("license", "files"),
    [
        ("llama2", {"ABOUT_THE_LICENSE.txt", "Notice.txt"}),
        ("llama3.1", {"ABOUT_THE_LICENSE.txt", "Notice.txt"}),
        ("gemma", {"ABOUT_THE_LICENSE.txt", "Notice.txt", "MODIFICATIONS.txt"}),
        ("qwen-research", {"ABOUT_THE_LICENSE.txt", "Notice.txt", "MODIFICATIONS.txt"}),
        ("apache-2.0", {"LICENSE", "MODIFICATIONS.txt"}),
        ("mit", {"ABOUT_THE_LICENSE.txt"}),
    ],
)
def test_a_base_without_papers_is_made_up_for_as_far_as_that_is_honest(
    base: Path, tmp_path: Path, client: Client, license: str, files: set[str]
) -> None:
    repo = released(license, base, tmp_path / "run", client)

    assert set(client.api().list_repo_files(repo)) == REMOTE | MODEL | files


@pytest.mark.parametrize("license", sorted(TERMS))
def test_the_card_says_what_the_license_wants_said(
    base: Path, tmp_path: Path, client: Client, license: str
) -> None:
    repo = released(license, base, tmp_path / "run", client)

    card = ModelCard(Path(client.api().hf_hub_download(repo, "README.md")).read_text("utf-8"))

    terms = TERMS[license]
    assert terms.built_with is None or f"**{terms.built_with}**" in card.text
    assert terms.notice is None or terms.notice in card.text
    assert license in (card.data.to_dict()["license"], card.data.to_dict().get("license_name"))
