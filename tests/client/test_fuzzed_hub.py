"""A Hub whose answers are damaged at random: hubq ends with a result or a sentence, never else.

Each seed damages about half of the answers to one action: values of other types, numbers without
bounds, names that are paths, nesting, pages of HTML, statuses, headers, redirects. A failure prints
its action and seed, with which it happens again.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from hostile_hub import COMMIT, REPO, Asked, HostileHub, Said, hostile_hub
from made_run import make_run
from unloaded import publish

from hubq.cli.diagnosis import ask
from hubq.client.border import Limits, make_client
from hubq.client.client import Client
from hubq.client.pull import pull
from hubq.client.repo_files import gate_of, history_of
from hubq.errors import UserError
from hubq.records.recipe_inputs import DatasetSection, ModelSection
from hubq.sources.hub import card_on_hub, find_on_hub
from hubq.sources.texts.hub import hub_corpus
from hubq.stages.compare.reports import report_on_hub
from hubq.stages.publish.publish import remember_destination
from hubq.stages.publish.space.settings import Settings, reads_private, request, settle
from hubq.stages.publish.space.showcase import look

# Stands for an absolute path in the test's own folder: a test that fails must do no harm either.
OUTSIDE = "/OUTSIDE"
SEEDS = 24  # for each action
ATOMS: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    10**30,
    1e308,
    float("nan"),
    "",
    "../../../../x",
    OUTSIDE,
    "x\x00\x1b[2J",
    "\ud800",
    "9" * 5000,
    "http://127.0.0.1:9/x",
    f"local://{OUTSIDE}",
    COMMIT,
    [],
    {},
    [[]],
    {"a": {"b": []}},
    ["x"] * 50,
)
BODIES = (
    b"",
    b"null",
    b"[",
    b"\xff\xfe\x00",
    b"<html><body>Welcome</body></html>",
    b"[" * 3000 + b"]" * 3000,
    b'{"a":' * 3000 + b"1" + b"}" * 3000,
    b"1" * 5000,
    b'"' + b"x" * 100_000 + b'"',
)
STATUSES = (200, 204, 206, 300, 304, 400, 401, 402, 403, 404, 409, 410, 412, 416, 429, 500, 503)
HEADERS = {
    "X-Repo-Commit": ("../x", "f" * 40, "", "a b"),
    "ETag": ('"../x"', "W/", f'"{OUTSIDE}"', ""),
    "X-Linked-Size": ("-1", "9" * 30, "1e3", "٣", "7"),
    "X-Linked-Etag": ("../x", "W/W/W//x"),
    "X-Xet-Hash": ("x", "a" * 64),
    "X-Xet-Refresh-Route": ("/", f"file://{OUTSIDE}", "http://127.0.0.1:9/"),
    "Link": ('</>; rel="next"', "<x>; rel=next", "<", "<http://[>; rel=next", "<>; rel=xet-auth"),
    "Location": ("/", "", f"file://{OUTSIDE}", "http://[", "//127.0.0.1:9/", "http://a:99999999/"),
    "Retry-After": ("99999999999", "²", "soon", "1"),
    "RateLimit": ('"a";r=0;t=' + "9" * 40, '"a";r=0;t=1', "r"),
    "Content-Range": ("bytes */*", "bytes 0-1/x", "x/-5"),
    "Content-Encoding": ("gzip", "br", "identity"),
    "X-Error-Code": ("GatedRepo", "EntryNotFound", "RevisionNotFound", "RepoNotFound", "x"),
    "X-Error-Message": ("no\x9b2J", "Access to this resource is disabled."),
    "X-HF-Warning": ("a; b", ";", "x" * 2000),
}


def damaged(value: Any, chance: random.Random) -> Any:
    """Return a JSON value with one of its parts replaced or taken out."""
    if isinstance(value, dict) and value and chance.random() < 0.8:
        key = chance.choice(sorted(value))
        rest = {name: each for name, each in value.items() if name != key}
        return rest if chance.random() < 0.2 else rest | {key: damaged(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.8:
        place = chance.randrange(len(value))
        return [damaged(each, chance) if n == place else each for n, each in enumerate(value)]
    return chance.choice(ATOMS)


def worsened(said: Said, chance: random.Random, outside: Path) -> Said:
    """Return an answer with damage of one kind or several; absolute paths lead `outside`."""
    body, status, headers = said.body, said.status, dict(said.headers)
    assert isinstance(body, bytes)
    kind = chance.random()
    if kind < 0.6 and body[:1] in (b"{", b"["):
        body = json.dumps(damaged(json.loads(body), chance)).encode()
    elif kind < 0.8:
        body = chance.choice(BODIES)
    if chance.random() < 0.25:
        status = chance.choice(STATUSES)
    if chance.random() < 0.4:
        name = chance.choice(sorted(HEADERS))
        headers[name] = chance.choice(HEADERS[name]).replace(OUTSIDE, str(outside))
        if name == "Location":
            status = chance.choice((301, 302, 307))
    return Said(body.replace(OUTSIDE.encode(), str(outside).encode()), status, headers)


@pytest.fixture(scope="module")
def hub() -> Iterator[HostileHub]:
    header = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(4)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama"}
    files = {
        "config.json": json.dumps(config).encode(),
        "model.safetensors": weights,
        "train.txt": b"some text",
        "hubq/report.json": b'{"plan": {"source": "acme/tiny@main"}, "checkpoint": {"files": {}}}',
    }
    with hostile_hub(files) as running:
        yield running


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed") / "run"


@pytest.fixture(scope="module")
def deeds(run: Path) -> dict[str, Callable[[Client, Path], object]]:
    """Return what hubq does with a Hub."""
    report = make_run(run)
    data = DatasetSection(hub=REPO)
    space = Settings("acme", hardware="cpu-basic", token="secret", votes="acme/votes")
    return {
        "pull": lambda client, folder: pull(REPO, None, client),
        "pull a folder": lambda client, folder: pull(REPO, folder, client),
        "find": lambda client, folder: find_on_hub(ModelSection(hub=REPO), client),
        "card": lambda client, folder: card_on_hub(REPO, client),
        "report": lambda client, folder: report_on_hub(REPO, client),
        "data": lambda client, folder: hub_corpus(data, client, purpose="calibration"),
        "publish": lambda client, folder: publish(report, run, client),
        "begin": lambda client, folder: remember_destination(REPO, folder, client),
        "showcase": lambda client, folder: look("acme", client),
        "ask": lambda client, folder: (ask(client), client.writable("acme")),
        "look": lambda client, folder: _look(client),
        "settle": lambda client, folder: _settle(client, space),
    }


def _look(client: Client) -> None:
    with client.translate_errors("looking"):
        gate_of(client, REPO)
        history_of(client, REPO)


def _settle(client: Client, settings: Settings) -> None:
    with client.translate_errors("setting up"):
        settle(REPO, settings, client)
        reads_private(REPO, client)
        request(REPO, settings, client)


DEEDS = ("pull", "pull a folder", "find", "card", "report", "data", "publish", "begin")
MORE = ("showcase", "ask", "look", "settle")


@pytest.mark.filterwarnings("ignore::UserWarning")  # huggingface_hub passes a Hub's warnings on
@pytest.mark.parametrize("deed", [*DEEDS, *MORE])
def test_damaged_answers_end_in_a_sentence_and_write_nothing_elsewhere(
    hub: HostileHub,
    deeds: dict[str, Callable[[Client, Path], object]],
    deed: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    Client().api()
    huggingface_hub.set_client_factory(lambda: make_client(Limits(silence=5, pages=20)))

    for seed in range(SEEDS):
        chance = random.Random(f"{deed} {seed}")
        place = tmp_path / f"a/b/{seed}"
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(place / "cache"))

        def answers(asked: Asked, chance: random.Random = chance) -> Said:
            said = hub.honest(asked)
            return worsened(said, chance, tmp_path / "out") if chance.random() < 0.5 else said

        hub.answers = answers
        said = ""
        try:
            deeds[deed](hub.client(), place / "folder")
        except UserError as error:
            said = str(error)
        except BaseException as error:
            raise AssertionError(f"{deed}, seed {seed}: {error!r}") from error
        assert len(said) < 3000, f"seed {seed}"
        assert all(each.isprintable() or each == "\n" for each in said), f"seed {seed}"

    huggingface_hub.set_client_factory(make_client)
    stray = [path for path in tmp_path.rglob("*") if len(path.relative_to(tmp_path).parts) <= 4]
    allowed = {"a", "b", "cache", "folder", "hubq-cache", *map(str, range(SEEDS))}
    assert {path.name for path in stray} <= allowed
    assert max(naps, default=0) <= Limits().waiting + 1
