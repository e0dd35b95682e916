"""Cards are checked before they are committed, with the Hub's own complaints."""

import base64
import json
import time

import httpx
import pytest
import yaml
from huggingface_hub import EvalResultEntry, HfApi, eval_result_entries_to_yaml

from hubq.records.card_rules import validate

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


FORM = """
extra_gated_heading: Please ask
extra_gated_prompt: You agree to the license.
extra_gated_button_content: Submit
extra_gated_eu_disallowed: true
extra_gated_fields:
  Company: text
  Country: country
  Date of birth: date_picker
  geo: ip_location
  I agree: checkbox
  Job title: {type: select, options: [Student, {label: Other, value: other}]}
"""


@pytest.mark.parametrize(
    "front",
    [
        "license: apache-2.0",
        "license: [apache-2.0, mit]",
        "license: other\nlicense_name: my-license\nlicense_link: LICENSE",
        "license: other\nlicense_name: my-license\nlicense_link: https://example.org/text",
        "base_model: HuggingFaceTB/SmolLM2-135M-Instruct\nbase_model_relation: quantized",
        "base_model: [a/b, c/d]\ntags: [gptq, 4-bit]\nlanguage: en",
        "language: [en, yue, code, multilingual]\nlanguage_bcp47: [zh-CN]",
        "pipeline_tag: text-generation\nlibrary_name: transformers\ninference: false",
        "datasets: squad\nmetrics: [accuracy]\nthumbnail: https://example.org/a.png",
        RESULT,
        FORM,
    ],
)
def test_a_sound_card_is_accepted_without_a_word(front: str) -> None:
    assert judge(front) == ([], [])


@pytest.mark.parametrize(
    ("front", "complaint"),
    [
        ("license: my-own", '"license" must be one of [afl-3.0, '),
        ("license: deepseek-license", '"license" must be one of'),
        ("license: [mit, my-own]", '"license[1]" must be one of'),
        ("license:", '"license" must be one of'),
        ("license_name: My License", '"license_name" with value "My License" fails to match'),
        ("license_link: LICENSE.pdf", '"license_link" must be a valid uri with a scheme matching'),
        ("license_link: http://a.org/b", "with a scheme matching the https pattern"),
        ("base_model: not a model", '"base_model" with value "not a model" is not valid. Use a '),
        ("base_model: [a/b, ./c/d]", '"base_model[1]" with value "./c/d" is not valid'),
        ("base_model:", '"base_model" must be one of [string, array]'),
        ("base_model_relation: cousin", '"base_model_relation" must be one of'),
        ("tags: {a: b}", '"tags" must be an array'),
        ("tags: gptq", '"tags" must be an array'),
        ("tags: [4]", '"tags[0]" must be a string'),
        ("datasets: [null]", '"datasets[0]" must be a string'),
        ("datasets: [a, legal data]", '"datasets[1]" with value "legal data" is not valid. If po'),
        ("datasets: /var/images/", '"datasets" with value "/var/images/" is not valid'),
        ("language: english", '"language" with value "english" is not valid. It must be an ISO'),
        ("language: [en, zh-CN]", '"language[1]" must only contain lowercase characters'),
        ("language:", '"language" must be one of [string, array]'),
        ("language: [no]", '"language[0]" must be a string'),  # in YAML, Norwegian is false
        ("thumbnail: ''", '"thumbnail" is not allowed to be empty'),
        ("pipeline_tag: [a]", '"pipeline_tag" must be a string'),
        ("widget: {text: a}", '"widget" must be an array'),
        ("extra_gated_prompt: [a]", '"extra_gated_prompt" must be a string'),
        ("extra_gated_fields: [a]", '"extra_gated_fields" must be of type object'),
        ("extra_gated_fields: {Age: number}", '"extra_gated_fields.Age" must be one of [text, '),
        ("extra_gated_fields: {Job: select}", '"extra_gated_fields.Job" must be one of [text, '),
        ("extra_gated_fields: {J: {type: select}}", '"extra_gated_fields.J.options" must be'),
        ("a: [", "Invalid YAML in README.md: "),
        ("- a", "must be a mapping"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("model-index: not correct", '"model-index" must be an array'),
        ("model-index: [3]", '"model-index[0]" must be of type object'),
        ("model-index: [{name: m}]", '"model-index[0].results" is required'),
        ("model-index: [{results: []}]", '"model-index[0].name" is required'),
        (RESULT.replace("type: xsum, ", ""), '"model-index[0].results[0].dataset.type" is requir'),
        (RESULT.replace("type: xsum", "type: X Sum"), 'with value "X Sum" fails to match the re'),
        (RESULT.replace("name: XSum", "name: X, config: 3"), '.dataset.config" must be a string'),
        (RESULT.replace(", value: 25.97", ""), '[0].metrics[0].value" is required'),
        (RESULT.replace("[{type: perplexity, value: 25.97}]", "3"), '.metrics" must be an array'),
    ],
)
def test_a_broken_card_is_refused_with_the_reason(front: str, complaint: str) -> None:
    errors, _ = judge(front)

    assert any(complaint in error for error in errors)


def test_a_card_without_metadata_gets_a_warning() -> None:
    verdict = validate("# Title\n", "model")

    (warning,) = verdict.warnings
    assert warning.startswith("empty or missing yaml metadata in repo card (https://")


@pytest.mark.parametrize(
    ("front", "warning"),
    [
        ("pipeline_tag: text-divination", 'The pipeline tag "text-divination" is not in the off'),
        ("license: other", '"license_name" is missing'),
    ],
)
def test_what_is_only_suspicious_gets_a_warning(front: str, warning: str) -> None:
    errors, warnings = judge(front)

    assert errors == []
    assert warnings[0].startswith(warning)


@pytest.mark.parametrize(
    ("front", "sound"),
    [
        ("sdk: gradio\ncolorFrom: red", True),
        ("title: x", False),
        ("sdk: gradio\npinned: 3", False),
        (f"sdk: gradio\nshort_description: {'x' * 60}", True),
        (f"sdk: gradio\nshort_description: {'x' * 61}", False),
    ],
)
def test_a_space_has_rules_of_its_own(front: str, sound: bool) -> None:
    errors, _ = judge(front, "space")

    assert (errors == []) == sound


def committed(http: httpx.Client, repo: str, path: str, text: str) -> httpx.Response:
    """Commit one file past the client, which would check it first."""
    content = base64.b64encode(text.encode()).decode()
    file = {"path": path, "content": content, "encoding": "base64"}
    body = [{"key": "header", "value": {"summary": "Add"}}, {"key": "file", "value": file}]
    return http.post(f"/api/models/{repo}/commit/main", content="\n".join(map(json.dumps, body)))


def test_a_card_that_would_grow_without_end_is_not_committed(
    api: HfApi, repo: str, http: httpx.Client
) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))]

    answer = committed(http, repo, "README.md", "---\n" + "\n".join(lines) + "\n---\n")

    assert answer.status_code == 400
    assert "aliases are not allowed" in answer.json()["error"]
    assert "README.md" not in api.list_repo_files(repo)


def test_a_commit_checks_the_card_as_the_client_does_before(
    api: HfApi, repo: str, http: httpx.Client
) -> None:
    answer = committed(http, repo, "README.md", "---\nlicense: my-own\n---\n")

    assert answer.status_code == 400
    assert answer.json()["error"].startswith('Invalid metadata in README.md:\n- "license" must be')


def test_results_of_benchmarks_are_listed(api: HfApi, repo: str) -> None:
    entry = EvalResultEntry("openai/gsm8k", "gsm8k", 41.5, date="2026-11-25", notes="5-shot")
    content = yaml.safe_dump(eval_result_entries_to_yaml([entry])).encode()

    api.upload_file(path_or_fileobj=content, path_in_repo=".eval_results/gsm8k.yaml", repo_id=repo)

    assert api.model_info(repo, expand=["evalResults"]).eval_results == [entry]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "Invalid YAML"),
        ("a: b", "must be an array"),
        ("- 3", "[0]: must be of type object"),
        ("- value: 3", '"dataset" is required'),
        ("- {dataset: {id: a/b}, value: 3}", '"dataset.task_id" is required'),
        ("- {dataset: {id: a b, task_id: c}, value: 3}", "is not a data set id"),
        ("- {dataset: {id: a/b, task_id: c}, value: x}", '"value" must be a number'),
        ("- {dataset: {id: a/b, task_id: c}, value: 3, source: {name: x}}", '"source.url" is req'),
        ("- {dataset: {id: a/b, task_id: c}, value: 3, date: soon}", '"date" must be in ISO 8601'),
        ("- {dataset: {id: a/b, task_id: c}, value: 3, metric: x}", '"metric" is not allowed'),
    ],
)
def test_a_file_of_results_that_is_not_valid_is_listed_with_the_reason(
    api: HfApi, repo: str, http: httpx.Client, text: str, complaint: str
) -> None:
    committed(http, repo, ".eval_results/x.yaml", text)

    (listed,) = http.get(f"/api/models/{repo}?expand=evalResults").json()["evalResults"]

    assert listed["filename"] == ".eval_results/x.yaml"
    assert complaint in listed["error"]


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
