"""Cards are checked before they are committed, with the Hub's own complaints."""

import base64
import json
import time

import httpx
import pytest
from huggingface_hub import HfApi

from hubq.hub.card_rules import validate

RESULT = """
model-index:
- name: m
  results:
  - task: {type: text-generation}
    dataset: {type: xsum, name: XSum}
    metrics: [{type: perplexity, value: 25.97}]
"""


def judge(front: str, kind: str = "model") -> tuple[list[str], list[str]]:
    verdict = validate(f"---\n{front.strip()}\n---\n# Title\n", kind)
    return verdict.errors, verdict.warnings


@pytest.mark.parametrize(
    "front",
    [
        "license: apache-2.0",
        "license: other\nlicense_name: my-license\nlicense_link: LICENSE",
        "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\nbase_model_relation: quantized",
        "base_model: [a/b, c/d]\ntags: [gptq, 4-bit]\nlanguage: en",
        "pipeline_tag: text-generation\nlibrary_name: transformers",
        RESULT,
    ],
)
def test_a_sound_card_is_accepted_without_a_word(front: str) -> None:
    assert judge(front) == ([], [])


@pytest.mark.parametrize(
    ("front", "complaint"),
    [
        ("license: my-own", '"license" must be one of'),
        ("license: other", '"license_name" is required'),
        ("base_model: not a model", '"base_model" with value "not a model" is not valid'),
        ("base_model_relation: cousin", '"base_model_relation" must be one of'),
        ("tags: {a: b}", '"tags" must be a string or a list'),
        ("datasets: [null]", '"datasets" must be'),
        ("a: [", "YAML Metadata Error"),
        ("- a", "must be a mapping"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("a: " + "[" * 5000, "nested too deep"),
        ("model-index: [{name: m}]", 'lacks the field "results"'),
        (RESULT.replace("type: xsum, ", ""), 'lacks the field "type"'),
    ],
)
def test_a_broken_card_is_refused_with_the_reason(front: str, complaint: str) -> None:
    errors, _ = judge(front)

    assert any(complaint in error for error in errors)


def test_a_card_without_metadata_gets_a_warning() -> None:
    verdict = validate("# Title\n", "model")

    assert verdict.warnings == ["empty or missing yaml metadata in repo card"]


def test_an_unknown_task_gets_a_warning() -> None:
    errors, warnings = judge("pipeline_tag: text-divination")

    assert errors == []
    assert "not in the official list" in warnings[0]


@pytest.mark.parametrize(
    ("front", "sound"),
    [("sdk: gradio\ncolorFrom: red", True), ("title: x", False), ("sdk: gradio\npinned: 3", False)],
)
def test_a_space_has_rules_of_its_own(front: str, sound: bool) -> None:
    errors, _ = judge(front, "space")

    assert (errors == []) == sound


def test_a_card_that_would_grow_without_end_shows_nothing(
    api: HfApi, repo: str, http: httpx.Client
) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]
    card = "---\n" + "\n".join(lines) + "\n---\n"
    content = base64.b64encode(card.encode()).decode()
    file = {"path": "README.md", "content": content, "encoding": "base64"}
    body = [{"key": "header", "value": {"summary": "Bomb"}}, {"key": "file", "value": file}]
    http.post(f"/api/models/{repo}/commit/main", content="\n".join(map(json.dumps, body)))

    assert api.model_info(repo).card_data is None


def test_a_card_of_many_lines_without_an_end_is_read_in_no_time() -> None:
    started = time.perf_counter()

    validate("---\n" + "\n" * 1_000_000, "model")

    assert time.perf_counter() - started < 1


def test_the_client_refuses_to_upload_a_card_that_the_hub_refuses(api: HfApi, repo: str) -> None:
    with pytest.raises(ValueError, match="Invalid metadata"):
        api.upload_file(
            path_or_fileobj=b"---\nlicense: my-own\n---\n", path_in_repo="README.md", repo_id=repo
        )

    assert "README.md" not in api.list_repo_files(repo)
