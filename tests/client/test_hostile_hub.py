"""What a Hub that means harm gets done: nothing."""

import itertools
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import huggingface_hub
import pytest
from hostile_hub import COMMIT, REPO, TOKEN, Asked, HostileHub, Said, hostile_hub
from made_run import REPO as RELEASED
from made_run import make_run
from unloaded import publish

from hubq.client.border import Limits, make_client
from hubq.client.client import Client
from hubq.client.pull import pull
from hubq.client.repo_files import files_of, history_of
from hubq.client.retries import RetryPolicy
from hubq.errors import UserError
from hubq.records.recipe_inputs import DatasetSection, ModelSection
from hubq.sources.hub import config_on_hub, find_on_hub, headers_on_hub
from hubq.sources.texts.hub import hub_corpus
from hubq.stages.compare.reports import report_on_hub
from hubq.stages.publish.space.showcase import look
from releases.catalogue import Sources, find

KEY = "ssh-ed25519 AAAA"
# Stands for an absolute path in the test's own folder: a test that fails must do no harm either.
OUTSIDE = "/OUTSIDE"
OUT = "../../../../../.ssh/authorized_keys"
TIGHT = Limits(answer=200_000, pages=50)
HASTY = Limits(silence=0.3, working=0.3)
LEFT = r"bytes a second|ReadTimeout"  # on a busy machine a pause between two bytes is long, too


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home in whose depths the cache lies."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "home/a/b/cache"))
    return tmp_path / "home"


@pytest.fixture
def hub(home: Path) -> Iterator[HostileHub]:
    files = {"config.json": b'{"model_type": "llama"}', "a/b.txt": b"text", "README.md": b"# Hi"}
    with hostile_hub(files) as running:
        yield running


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Take less and wait less than usual, so that a test sees the end of it."""
    Client().api()  # has the border set up, in whose place comes a tighter one
    huggingface_hub.set_client_factory(lambda: make_client(limits))
    yield
    huggingface_hub.set_client_factory(make_client)


@pytest.fixture
def tight() -> Iterator[None]:
    with limited(TIGHT):
        yield


@pytest.fixture
def hasty() -> Iterator[None]:
    with limited(HASTY):
        yield


def written(home: Path) -> set[str]:
    """Name all files below a home, without those of a cache's own bookkeeping."""
    files = (path for path in home.rglob("*") if not path.is_dir())
    return {path.relative_to(home).as_posix() for path in files}


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(UserError) as told:
        action()
    return str(told.value)


def info_with(**changes: object) -> Callable[[Asked], Said]:
    return lambda asked: Said.json({"id": REPO, "sha": COMMIT, "private": True, **changes})


def actions(client: Client, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """Return all that hubq asks a Hub for, by what it is called."""
    return {
        "pull": lambda: pull(REPO, None, client),
        "pull a folder": lambda: pull(REPO, tmp_path / "folder", client),
        "find": lambda: find_on_hub(ModelSection(hub=REPO), client),
        "config": lambda: config_on_hub(REPO, COMMIT, client),
        "headers": lambda: headers_on_hub(REPO, COMMIT, client),
        "report": lambda: report_on_hub(REPO, client),
        "data": lambda: hub_corpus(DatasetSection(hub=REPO), client, purpose="calibration"),
        "showcase": lambda: look("acme", client),
        "user": lambda: client.writable("acme"),
    }


@pytest.mark.parametrize("action", ["pull", "pull a folder", "find", "report", "data", "showcase"])
def test_a_commit_that_is_a_path_writes_no_file(
    hub: HostileHub, home: Path, tmp_path: Path, action: str
) -> None:
    hub.on("GET", r"^/api/(models|datasets)/", info_with(sha=OUT, siblings=[]))
    hub.on("GET", r"^/api/models$", Said.json([{"id": REPO, "sha": OUT, "siblings": []}]))
    hub.on("HEAD|GET", "/resolve/", Said(b"{}", 200, {"X-Repo-Commit": KEY, "ETag": '"abc"'}))

    told = refused(actions(hub.client(), tmp_path)[action])

    assert "sha: String should match" in told
    assert written(home) == set()


def test_a_commit_that_is_a_path_is_not_published_to(
    hub: HostileHub, home: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    report = make_run(run)
    hub.on("GET", "^/api/models/", info_with(sha=OUT))

    told = refused(lambda: publish(report, run, hub.client()))

    assert "sha: String should match" in told
    assert not (run / "publication.json").exists()


def test_the_space_shows_no_commit_that_is_a_path(hub: HostileHub, home: Path) -> None:
    hub.on("GET", "^/api/models$", Said.json([{"id": REPO, "sha": OUT, "siblings": []}]))
    hub.on("GET", "^/api/models/", info_with(sha=OUT))

    listing = find(Sources("acme", (REPO,)), hub.client())

    assert listing.models == ()
    assert all("sha: String should match" in each.sentence for each in listing.problems)
    assert written(home) == set()


@pytest.mark.parametrize("action", ["pull", "pull a folder", "config", "headers", "report"])
@pytest.mark.parametrize(
    "header",
    [
        {"X-Repo-Commit": OUT},
        {"X-Repo-Commit": KEY},
        {"X-Repo-Commit": "f" * 40},  # of another commit than the one asked for
        {"ETag": f'"{OUTSIDE}"'},
        {"ETag": f'"{OUT}"'},
        {"X-Linked-Etag": f'"{OUTSIDE}"'},
        {"X-Linked-Size": "9" * 20},
        {"X-Linked-Size": "-5"},
        {"Location": f"file://{OUTSIDE}"},
    ],
    ids=str,
)
def test_a_header_that_would_become_a_path_or_a_number_is_refused(
    hub: HostileHub, home: Path, tmp_path: Path, action: str, header: dict[str, str]
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    meant = {name: value.replace(OUTSIDE, str(outside)) for name, value in header.items()}
    headers = {"X-Repo-Commit": COMMIT, "ETag": '"abc"', **meant}
    hub.on("HEAD", "/resolve/", Said(b"", 302 if "Location" in header else 200, headers))

    refused(actions(hub.client(), tmp_path)[action])

    assert written(home) == set()
    assert outside.read_text() == "precious"


def test_a_file_that_is_missing_leaves_no_trace_under_another_commit(
    hub: HostileHub, home: Path
) -> None:
    headers = {"X-Repo-Commit": OUT, "X-Error-Code": "EntryNotFound"}
    hub.on("HEAD", "/resolve/", Said(b"", 404, headers))

    refused(lambda: config_on_hub(REPO, COMMIT, hub.client()))

    assert written(home) == set()


@pytest.mark.parametrize(
    "path",
    [
        *(
            "../x",
            f"{OUTSIDE}/x",
            "a/../../x",
            "a\\..\\x",
            "C:x",
            "a//b",
            "a/./b",
            "x\n",
            "\x1b[2J",
        ),
        *(".git/config", "a/.GIT/hooks/x", ".git./x", "git~1/x", ".g\u200cit/x", ".git::$INDEX/x"),
        "x" * 300,
    ],
)
@pytest.mark.parametrize("listing", ["tree", "siblings"])
def test_a_path_that_leads_elsewhere_is_not_touched(
    hub: HostileHub, home: Path, tmp_path: Path, path: str, listing: str
) -> None:
    path = path.replace(OUTSIDE, str(tmp_path / "outside"))
    entry = {**hub.entry("a/b.txt"), "path": path}
    hub.on("GET", "/tree/", Said.json([entry]))
    hub.on("GET", "^/api/datasets/", info_with(siblings=[{"rfilename": path}]))
    action = "pull a folder" if listing == "tree" else "data"

    told = refused(actions(hub.client(), tmp_path)[action])

    assert "is not a file path" in told or "at most 1024" in told
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("folder", [False, True])
def test_a_file_is_not_downloaded_beyond_its_listed_size(
    hub: HostileHub, home: Path, tmp_path: Path, folder: bool
) -> None:
    sent = 0

    def endless(asked: Asked) -> Said:
        def pieces() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(1000):
                sent += 100_000
                yield bytes(100_000)

        headers = {"X-Repo-Commit": COMMIT, "ETag": '"abc"'}
        return Said(pieces(), 200, headers)

    hub.on("HEAD|GET", "/resolve/.*/a/b.txt", endless)

    told = refused(lambda: pull(REPO, tmp_path / "to" if folder else None, hub.client()))

    assert "more than the 4 bytes that are allowed" in told
    assert sent < 50_000_000  # what fits into the buffers between the two
    assert not any(path.endswith("b.txt") for path in written(tmp_path))


def test_a_size_that_is_announced_beyond_the_listed_one_is_refused_at_once(
    hub: HostileHub, home: Path
) -> None:
    headers = {"X-Repo-Commit": COMMIT, "ETag": '"abc"', "X-Linked-Size": "2500000000"}
    hub.on("HEAD", "/resolve/.*/a/b.txt", Said(b"", 200, headers))
    hub.on("GET", "/resolve/.*/a/b.txt", Said([b"text"], 200, headers))

    told = refused(lambda: pull(REPO, None, hub.client()))

    assert "more than the 4 bytes that are allowed" in told


def test_an_answer_that_was_packed_is_not_unpacked(hub: HostileHub, home: Path) -> None:
    hub.on("GET", "/tree/", Said(b"\x1f\x8b", 200, {"Content-Encoding": "gzip"}))

    told = refused(lambda: pull(REPO, None, hub.client()))

    assert "sends 'gzip' as content-encoding" in told
    assert all(each.headers["Accept-Encoding"] == "identity" for each in hub.asked)


def test_more_of_a_file_than_the_part_that_was_asked_for_is_refused(
    hub: HostileHub, home: Path
) -> None:
    hub.on("HEAD", "/resolve/", Said(b"", 200, {"X-Repo-Commit": COMMIT, "ETag": '"abc"'}))
    hub.on("GET", "/resolve/.*/model.safetensors", Said(bytes(200_000)))

    told = refused(lambda: headers_on_hub(REPO, COMMIT, hub.client()))

    assert "sends more than 100,001 bytes" in told


@pytest.mark.usefixtures("tight")
@pytest.mark.parametrize("next_page", ["same", "new", "two"])
def test_a_listing_without_an_end_is_left(hub: HostileHub, home: Path, next_page: str) -> None:
    count = itertools.count()

    def page(asked: Asked) -> Said:
        cursor = {"same": 0, "new": next(count), "two": next(count) % 2}[next_page]
        link = f"<{hub.endpoint}{asked.path}?cursor={cursor}>; rel=next"
        return Said.json([], headers={"Link": link})

    hub.on("GET", "/tree/|/commits/", page)

    for action in (files_of, lambda client, repo, commit: history_of(client, repo)):
        hub.asked.clear()
        with pytest.raises(UserError, match="endlessly"):
            action(hub.client(), REPO, COMMIT)
        assert len(hub.asked) <= TIGHT.pages


@pytest.mark.usefixtures("tight")
def test_an_answer_of_any_length_is_not_read_to_its_end(hub: HostileHub, home: Path) -> None:
    endless = (b"[" * 10_000 for _ in range(100_000))
    hub.on("GET", "/tree/", Said(endless))

    told = refused(lambda: pull(REPO, None, hub.client()))

    assert "sends more than 200,000 bytes" in told


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("action", ["pull", "find", "data", "showcase", "user"])
def test_a_hub_that_dribbles_is_left(
    hub: HostileHub, home: Path, tmp_path: Path, action: str
) -> None:
    def dribble(asked: Asked) -> Said:
        def bytes_now_and_then() -> Iterator[bytes]:
            for _ in range(100):
                yield b" "
                time.sleep(0.1)

        return Said(bytes_now_and_then())

    hub.on("GET", "^/api/", dribble)

    told = refused(actions(hub.client(), tmp_path)[action])

    assert re.search(LEFT, told)


@pytest.mark.usefixtures("hasty")
def test_a_file_that_dribbles_is_left(hub: HostileHub, home: Path) -> None:
    def dribble(asked: Asked) -> Said:
        pieces = (time.sleep(0.1) or b"x" for _ in range(100))  # type: ignore[func-returns-value]
        return Said(pieces, 200, {"X-Repo-Commit": COMMIT, "ETag": '"abc"', "X-Linked-Size": "100"})

    hub.on("HEAD|GET", "/resolve/.*/README.md", dribble)
    hub.on("GET", "/tree/", Said.json([{**hub.entry("README.md"), "size": 100}]))

    assert re.search(LEFT, refused(lambda: pull(REPO, None, hub.client())))


@pytest.fixture
def slow_headers() -> Iterator[str]:
    """Serve at an address that sends its headers byte by byte."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)
        ended = threading.Event()

        def serve(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                while not ended.wait(0.05):
                    connection.sendall(b"x")

        def accept() -> None:
            while not ended.is_set():
                with suppress(TimeoutError):
                    connection, _ = listener.accept()
                    threading.Thread(target=serve, args=(connection,)).start()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        ended.set()
        thread.join()


@pytest.mark.usefixtures("hasty")
def test_headers_that_dribble_are_left(slow_headers: str) -> None:
    client = Client(slow_headers, TOKEN, RetryPolicy(tries=1))

    assert "can't be reached (ReadTimeout)" in refused(lambda: pull(REPO, None, client))


@pytest.mark.usefixtures("hasty")
def test_a_hub_that_never_answers_is_left(hub: HostileHub, home: Path) -> None:
    hub.on("GET", "^/api/", lambda asked: time.sleep(1) or Said())  # type: ignore[func-returns-value]

    assert "can't be reached (ReadTimeout)" in refused(lambda: pull(REPO, None, hub.client()))


@pytest.mark.parametrize("header", [{"Retry-After": "99999999"}, {"RateLimit": '"a";r=0;t=99999'}])
def test_a_wait_of_days_is_not_waited(hub: HostileHub, home: Path, header: dict[str, str]) -> None:
    hub.on("GET", "/tree/", Said(b"", 429, header))

    assert "asks to wait" in refused(lambda: pull(REPO, None, hub.client()))


def test_a_repo_that_is_always_about_to_be_made_is_left(hub: HostileHub, tmp_path: Path) -> None:
    run = tmp_path / "run"
    report = make_run(run)
    conflict = {"error": "Cannot create repo: another conflicting operation is in progress"}
    hub.on("GET", f"^/api/models/{RELEASED}", Said.json({}, 404, {"X-Error-Code": "RepoNotFound"}))
    hub.on("POST", "/repos/create", Said.json(conflict, 409))

    told = refused(lambda: publish(report, run, hub.client()))

    assert "another conflicting operation is in progress" in told


@pytest.mark.parametrize("target", ["itself", "each other"])
@pytest.mark.parametrize("action", ["pull", "find", "report", "data", "showcase", "user"])
def test_redirects_without_an_end_are_left(
    hub: HostileHub, home: Path, tmp_path: Path, action: str, target: str
) -> None:
    def elsewhere(asked: Asked) -> Said:
        query = "" if target == "itself" else f"?n={asked.query == 'n=1'}"
        return Said(b"", 302, {"Location": f"{asked.path}{query}"})

    hub.on(".*", "", elsewhere)

    assert "endlessly" in refused(actions(hub.client(), tmp_path)[action])


@pytest.mark.parametrize("action", ["pull", "find", "config", "report", "data", "showcase", "user"])
def test_the_login_page_of_a_network_is_called_so(
    hub: HostileHub, home: Path, tmp_path: Path, action: str
) -> None:
    page = b"<!doctype html><html><body>Welcome to our hotel</body></html>"
    hub.on(".*", "", Said(page, 200, {"Content-Type": "text/html"}))

    told = refused(actions(hub.client(), tmp_path)[action])

    assert "network login page" in told


def test_what_a_hub_says_cannot_steer_a_terminal(hub: HostileHub, home: Path) -> None:
    hub.on("GET", "/tree/", Said.json({"error": "\x1b[2J\x1b]0;owned\x07 no\x9b2J"}, 403))

    told = refused(lambda: pull(REPO, None, hub.client()))

    assert "[2J" in told
    assert all(character.isprintable() or character == "\n" for character in told)


def test_xet_may_not_store_in_a_folder_of_this_machine(
    hub: HostileHub, home: Path, tmp_path: Path
) -> None:
    place = tmp_path / "cas"
    ticket = {"casUrl": f"local://{place}", "exp": 4102444800, "accessToken": "x"}
    headers = {
        "X-Xet-Cas-Url": f"local://{place}",
        "X-Xet-Access-Token": "x",
        "X-Xet-Token-Expiration": "4102444800",
    }
    link = f'<{hub.endpoint}/api/models/{REPO}/xet-read-token/{COMMIT}>; rel="xet-auth"'
    hub.on("GET", "xet-read-token", Said.json(ticket, headers=headers))
    known = {"X-Repo-Commit": COMMIT, "ETag": '"abc"', "X-Linked-Size": "4", "Link": link}
    hub.on("HEAD", "/resolve/.*/a/b.txt", Said(b"", 200, {**known, "X-Xet-Hash": "a" * 64}))

    told = refused(lambda: pull(REPO, None, hub.client()))

    assert "as x-xet-cas-url" in told
    assert not place.exists()


class Meeting:
    """Two Hubs: the second is nobody's that the user talks to."""

    def __init__(self, hub: HostileHub, other: HostileHub) -> None:
        self.hub, self.other = hub, other


@pytest.fixture
def meeting(hub: HostileHub) -> Iterator[Meeting]:
    with hostile_hub(hub.files) as other:
        yield Meeting(hub, other)


def test_a_token_does_not_follow_a_next_page_to_another_host(meeting: Meeting) -> None:
    link = f'<{meeting.other.endpoint}/api/models/{REPO}/tree/{COMMIT}>; rel="next"'
    meeting.hub.on("GET", "/tree/", Said.json([], headers={"Link": link}))

    told = refused(lambda: files_of(meeting.hub.client(), REPO, COMMIT))

    assert "continues its list at another host" in told
    assert meeting.other.asked == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_token_does_not_follow_a_redirect_to_another_host(meeting: Meeting, status: int) -> None:
    def elsewhere(asked: Asked) -> Said:
        return Said(b"", status, {"Location": meeting.other.endpoint + asked.path})

    meeting.hub.on(".*", "", elsewhere)

    with pytest.raises(UserError):
        pull(REPO, None, meeting.hub.client())
    files_of(meeting.hub.client(), REPO, COMMIT)

    assert set(meeting.hub.tokens()) == {f"Bearer {TOKEN}"}
    assert meeting.other.tokens() == []


def test_a_token_stays_with_a_redirect_on_the_hub_itself(hub: HostileHub) -> None:
    def renamed(asked: Asked) -> Said:
        return Said(b"", 307, {"Location": asked.path.replace("old/name", REPO)})

    hub.on("GET", "old/name", renamed)

    assert files_of(hub.client(), "old/name", COMMIT).keys() == hub.files.keys()
    assert len(hub.tokens()) == len(hub.asked) == 2


def test_a_token_is_not_given_to_xet_for_another_host(meeting: Meeting) -> None:
    link = f'<{meeting.other.endpoint}/xet-read-token/{COMMIT}>; rel="xet-auth"'
    known = {"X-Repo-Commit": COMMIT, "ETag": '"abc"', "X-Linked-Size": "4", "Link": link}
    said = Said(b"", 200, {**known, "X-Xet-Hash": "a" * 64})
    meeting.hub.on("HEAD", "/resolve/.*/a/b.txt", said)

    told = refused(lambda: pull(REPO, None, meeting.hub.client()))

    assert "asks for the token at another host" in told
    assert meeting.other.asked == []


# huggingface_hub's own: it hands bytes to httpx2 in a way that is going out of use.
@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
def test_a_token_is_not_sent_to_where_an_upload_is_to_be_verified(
    meeting: Meeting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    hub, other = meeting.hub, meeting.other

    def batch(asked: Asked) -> Said:
        objects = json.loads(asked.body)["objects"]
        where = {"href": f"{other.endpoint}/put"}
        return Said.json(
            {
                "objects": [
                    {**each, "actions": {"upload": where, "verify": where}} for each in objects
                ]
            }
        )

    def large(asked: Asked) -> Said:
        sent = json.loads(asked.body)["files"]
        how = {"uploadMode": "lfs", "shouldIgnore": False}
        return Said.json({"files": [{"path": each["path"]} | how for each in sent]})

    hub.on("POST", "/preupload/", large)
    hub.on("POST", "/info/lfs/objects/batch", batch)
    other.on("PUT|POST", "/put", Said.json({}))
    hub.on("GET", "/tree/", Said.json([]))
    run = tmp_path / "run"
    report = make_run(run)

    refused(lambda: publish(report, run, hub.client()))  # nothing of it is there afterwards

    assert "POST" in {each.method for each in other.asked}
    assert other.tokens() == []


@pytest.fixture
def logged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Save a login as `hf auth login` does."""
    path = tmp_path / "token"
    path.write_text("hf_saved")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(path))
    return "hf_saved"


def test_a_saved_login_is_not_sent_to_any_hub(hub: HostileHub, logged_in: str) -> None:
    client = hub.client(token=None)

    pull(REPO, None, client)

    assert hub.tokens() == []
    assert "HF_ENDPOINT=" in refused(lambda: client.writable("acme"))


def test_a_saved_login_is_not_sent_by_libraries_below_hubq(hub: HostileHub, logged_in: str) -> None:
    hub.client().api()

    huggingface_hub.HfApi(endpoint=hub.endpoint).model_info(REPO)

    assert hub.tokens() == []


def test_a_saved_login_is_for_the_real_hub(logged_in: str) -> None:
    assert Client("https://huggingface.co").sent_token == logged_in


def test_a_token_of_the_environment_is_for_the_hub_that_is_named_beside_it(
    hub: HostileHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    pull(REPO, None, hub.client(token=None))
    assert hub.tokens() == []

    monkeypatch.setenv("HF_ENDPOINT", f"{hub.endpoint}/")
    files_of(hub.client(token=None), REPO, COMMIT)

    assert hub.tokens() == [f"Bearer {TOKEN}"]
