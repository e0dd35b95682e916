"""A repo may hold anything: it is described without what can't be shown, and breaks no list."""

import httpx
import pytest
from dulwich.refs import Ref
from faulty_hub import FaultyHub
from huggingface_hub import HfApi

from hubq.embedded_hub.api.repos import split_name
from hubq.embedded_hub.committing import Change, Message, commit_changes, put_blob
from hubq.embedded_hub.hub import Hub

DEEP = b"[" * 3000 + b"]" * 3000
RESULT = b"- dataset: {id: a/b, task_id: t}\n  value: "
INDEX = b"---\nmodel-index:\n- name: x\n  results:\n  - %s\n---\n"
METRIC = b"{task: {type: t}, dataset: {type: a, name: b}, metrics: [{type: m, value: %s}]}"
DAMAGED = {
    "nan": ("README.md", b"---\nperplexity: .nan\n---\n"),
    "nan in an index": ("README.md", INDEX % (METRIC % b".nan")),
    "infinity": ("README.md", b"---\nperplexity: [-.inf, .inf]\n---\n"),
    "half a character": ("README.md", b'---\ntags: ["\\ud800"]\nlicense: "\\udfff"\n---\n'),
    "no date": ("README.md", b"---\nreleased: 2024-13-45\n---\n"),
    "a date as a key": ("README.md", b"---\n2024-01-02: x\n? [1, 2]\n: y\n---\n"),
    "bytes and sets": ("README.md", b"---\na: !!binary AAEC\nb: !!set {x, y}\n---\n"),
    "tags without values": ("README.md", b'---\na: !!int ""\nb: !!bool maybe\n---\n'),
    "a character out of range": ("README.md", b'---\na: "\\Uffffffff"\n---\n'),
    "a huge number": (
        "README.md",
        b"---\na: " + b"9" * 5000 + b"\nb: 0x" + b"f" * 9000 + b"\n---\n",
    ),
    "deep": ("README.md", b"---\na: " + DEEP + b"\n---\n"),
    "long": ("README.md", b"---\n" + b"a: [" + b"1, " * 200_000 + b"]\n---\n"),
    "lists for names": ("README.md", b"---\nlibrary_name: {a: [b]}\npipeline_tag: [c]\n---\n"),
    "odd kinds": (
        "README.md",
        b"---\ntags: {a: b}\nlanguage: 3\nbase_model: {a: b}\nsdk: [x]\n---\n",
    ),
    "arguments": ("README.md", b"---\nself: 1\nignore_metadata_errors: x\neval_results: 3\n---\n"),
    "no text": ("README.md", b"\xff\xfe---\n\x00---\n"),
    "an address that is none": ("README.md", b"[a](http://[) ![b](http://[) <http://[>\n"),
    "nan in config": (
        "config.json",
        b'{"model_type": NaN, "quantization_config": {"bits": 1e999}}',
    ),
    "half in config": (
        "config.json",
        b'{"model_type": "\\ud800", "architectures": {"\\udc00": 1}}',
    ),
    "deep config": ("config.json", b'{"architectures": ' + DEEP + b"}"),
    "endless config": ("config.json", b"[" * 200_000),
    "huge number in config": ("config.json", b'{"model_type": ' + b"9" * 5000 + b"}"),
    "list for config": ("config.json", b"[1]"),
    "nan in a result": (".eval_results/a.yaml", RESULT + b".nan\n"),
    "infinity in a result": (".eval_results/a.yaml", RESULT + b"-.inf\n"),
    "no date in a result": (".eval_results/a.yaml", RESULT + b"1\n  date: 2024-13-45\n"),
    "a date in a result": (".eval_results/a.yaml", RESULT + b"1\n  notes: 2024-01-02\n"),
    "half in a result": (".eval_results/a.yaml", RESULT + b'1\n  "\\ud800": x\n'),
    "deep result": (".eval_results/a.yaml", RESULT + DEEP),
}


def damage(hub: FaultyHub, repo: str, path: str, content: bytes) -> None:
    """Write a file into a repo as only the hub's owner could: unchecked."""
    stores = Hub.open(hub.root)
    found = stores.repositories.find("model", *split_name(repo))
    assert found is not None
    with stores.histories.open(found.id) as git:
        change = Change(path, put_blob(git, content))
        commit_changes(git, Ref(b"refs/heads/main"), [change], Message("eve", "damage"))


def test_no_damaged_repo_breaks_a_list_a_page_or_a_client(
    hub: FaultyHub, api: HfApi, http: httpx.Client
) -> None:
    # Takes 2 s: a repo for each kind of damage, with its pages.
    for number, (path, content) in enumerate(DAMAGED.values()):
        api.create_repo(f"acme/{number}")
        damage(hub, f"acme/{number}", path, content)

    listed = {model.id for model in api.list_models(author="acme", full=True, cardData=True)}

    assert listed == {f"acme/{number}" for number in range(len(DAMAGED))}
    for number, name in enumerate(DAMAGED):
        repo = f"acme/{number}"
        api.model_info(repo, files_metadata=True)
        pages = [f"/{repo}", f"/{repo}/commit/main", f"/api/models/{repo}/tree/main?expand=true"]
        for page in [*pages, f"/api/models/{repo}?blobs=true", f"/api/models/{repo}/commits/main"]:
            assert http.get(page).status_code == 200, (name, page)


def test_what_is_whole_is_shown_beside_what_is_not(api: HfApi, hub: FaultyHub, repo: str) -> None:
    card = b"---\nlicense: mit\na: [.nan, 1.5, 2024-01-02]\n---\n"
    config = b'{"model_type": "\\ud83d\\ude00\\ud800", "architectures": [NaN, "x"]}'
    damage(hub, repo, "README.md", card)
    damage(hub, repo, "config.json", config)

    info = api.model_info(repo)

    assert info.card_data is not None
    assert info.card_data["license"] == "mit"
    assert info.card_data["a"] == [None, 1.5, "2024-01-02"]
    assert info.config == {"model_type": "\U0001f600\ufffd", "architectures": [None, "x"]}


def test_a_card_with_an_honest_nan_can_be_pushed(api: HfApi, repo: str) -> None:
    card = INDEX % (METRIC % b".nan")

    api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=repo)

    assert [model.id for model in api.list_models(author="acme")] == [repo]


@pytest.mark.parametrize(
    "body",
    [b'{"title": "\\ud800"}', b'{"title": NaN}', b'{"title": 1e999}', b"[" * 100_000, b"\xff"],
)
def test_what_a_request_says_that_cannot_be_said_again_is_refused(
    http: httpx.Client, repo: str, body: bytes
) -> None:
    answer = http.post(f"/api/models/{repo}/discussions", content=body)

    assert answer.status_code == 400
