import errno
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx2
import pytest
from faulty_hub import FaultyHub, drop, faulty_hub, refuse

from hubq.client.client import Client
from hubq.client.error_messages import scrub
from hubq.client.retries import RetryPolicy, asked_to_wait
from hubq.embedded_hub.local import add_org, add_user, mint_token
from hubq.errors import UserError

TOKEN = "hf_" + "Ab1" * 11
IMPATIENT = RetryPolicy(tries=1)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyHub]:
    with faulty_hub(tmp_path_factory.mktemp("hub"), user="ann", org="acme") as running:
        yield running


@pytest.fixture
def hub(shared: FaultyHub) -> FaultyHub:
    shared.faults.clear()
    return shared


@pytest.fixture
def client(hub: FaultyHub) -> Client:
    return Client(hub.endpoint, hub.token, IMPATIENT)


def explained(client: Client, action: Callable[[], Any]) -> str:
    """Let an action fail under the client's eyes, and return what the user reads."""
    with pytest.raises(UserError) as told, client.translate_errors("trying it"):
        action()
    return str(told.value)


def test_the_hub_is_the_one_of_the_environment_unless_one_is_given() -> None:
    assert Client().url == "http://127.0.0.1:9"  # what the tests' HF_ENDPOINT says
    assert Client("https://hub.example/").url == "https://hub.example"


def test_a_client_never_shows_its_token() -> None:
    assert TOKEN not in repr(Client("https://hub.example", TOKEN))


def test_whatever_looks_like_a_token_is_blotted_out() -> None:
    assert scrub(f"token {TOKEN} was bad") == "token hf_*** was bad"


def test_the_clients_own_token_is_blotted_out_whatever_it_looks_like() -> None:
    assert scrub("secret sesame", "sesame") == "secret hf_***"


def test_words_that_only_begin_like_a_token_stay() -> None:
    assert scrub("hf_hub_download failed") == "hf_hub_download failed"


def test_an_error_that_quotes_the_token_is_scrubbed(client: Client) -> None:
    def quote() -> None:
        raise ConnectionError(f"Network error: (403 Forbidden) for token {client.token}")

    assert str(client.token) not in explained(client, quote)


def test_the_owner_of_a_token_may_write_to_their_own_name(client: Client) -> None:
    assert client.writable("ann") == "ann"


def test_a_member_may_write_to_the_organization(client: Client) -> None:
    assert client.writable("Acme") == "ann"


def test_a_member_who_only_reads_may_not_write(hub: FaultyHub) -> None:
    add_user(hub.root, "rob")
    add_org(hub.root, "readers", {"rob": "read"})
    token = mint_token(hub.root, user="rob", role="write", expires_in=None)

    with pytest.raises(UserError, match="rob may not write to readers"):
        Client(hub.endpoint, token).writable("readers")


def test_no_token_says_where_to_get_one(hub: FaultyHub) -> None:
    with pytest.raises(UserError, match=rf"no token for .*Make one at {hub.endpoint}/settings"):
        Client(hub.endpoint).writable("acme")


def test_an_expired_token_is_not_accepted(hub: FaultyHub) -> None:
    token = mint_token(hub.root, user="ann", role="write", expires_in=-1)

    with pytest.raises(UserError, match="does not accept the token"):
        Client(hub.endpoint, token).writable("acme")


@pytest.mark.parametrize(
    ("granted", "writes"), [("acme", True), ("others", False)], ids=["covered", "not covered"]
)
def test_a_fine_grained_token_must_cover_the_organization(granted: str, writes: bool) -> None:
    grant = {"entity": {"name": granted, "type": "org"}, "permissions": ["repo.write"]}
    token = {"role": "fineGrained", "fineGrained": {"scoped": [grant]}}

    with whoami({"name": "ann", "orgs": [{"name": "acme"}], "auth": {"accessToken": token}}) as hub:
        client = Client(hub, TOKEN)

        if writes:
            assert client.writable("acme") == "ann"
        else:
            with pytest.raises(UserError, match="fine-grained token of ann does not cover"):
                client.writable("acme")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (403, "does not allow this with this token: a fault of the test"),
        (409, "another commit to this repo is in progress"),
        (412, "the repo changed in the meantime"),
        (413, "refused with status 413: a fault of the test"),
        (429, "too many requests"),
        (500, "has a problem (status 500: a fault of the test)"),
        (504, "finished work is kept"),
    ],
)
def test_a_status_has_a_meaning(client: Client, hub: FaultyHub, status: int, words: str) -> None:
    hub.faults.add(refuse("POST", "/api/repos/create", status))

    assert words in explained(client, lambda: client.api().create_repo("acme/some"))


def test_too_many_requests_say_when_to_come_back(client: Client, hub: FaultyHub) -> None:
    hub.faults.add(refuse("POST", "/api/repos/create", 429, retry_after=40))

    told = explained(client, lambda: client.api().create_repo("acme/some"))

    assert told.endswith("Try again in 40 seconds")


def test_a_connection_that_breaks_is_called_so(client: Client, hub: FaultyHub) -> None:
    hub.faults.add(drop("POST", "/api/repos/create"))

    told = explained(client, lambda: client.api().create_repo("acme/some"))

    assert f"{hub.endpoint} can't be reached (RemoteProtocolError)" in told


def test_an_unknown_repo_is_called_so(client: Client) -> None:
    told = explained(client, lambda: client.api().model_info("acme/nothing"))

    assert "shows no repo acme/nothing to this account" in told


def test_a_file_that_is_not_in_the_repo_is_called_so(client: Client) -> None:
    client.api().create_repo("acme/empty", exist_ok=True)

    told = explained(client, lambda: client.api().hf_hub_download("acme/empty", "x.txt"))

    assert "the repo does not hold that file" in told


def test_the_words_say_what_was_tried(client: Client) -> None:
    told = explained(client, lambda: client.api().model_info("acme/nothing"))

    assert told.startswith("trying it failed: ")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_called_so(client: Client, number: int) -> None:
    def fill() -> None:
        raise OSError(number, "whatever the system says")

    assert "no space left on the disk" in explained(client, fill)


def test_a_full_disk_below_the_xet_client_is_called_so(client: Client) -> None:
    def fill() -> None:
        raise RuntimeError("I/O error: No space left on device (os error 28)")

    assert "no space left on the disk" in explained(client, fill)


def test_a_refusal_below_the_xet_client_is_read_from_its_words(client: Client) -> None:
    def fail() -> None:
        raise ConnectionError("HTTP status client error (403 Forbidden), domain: http://x/xet")

    assert "does not allow this with this token" in explained(client, fail)


def test_the_cause_counts_when_a_wrapper_says_nothing(client: Client, hub: FaultyHub) -> None:
    hub.faults.add(refuse("POST", "/api/repos/create", 403))

    def wrap() -> None:
        try:
            client.api().create_repo("acme/some")
        except OSError as error:
            raise RuntimeError("Error while uploading 'model.safetensors' to the Hub.") from error

    assert "does not allow this with this token" in explained(client, wrap)


def test_offline_mode_is_named(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    told = explained(client, lambda: client.api().model_info("acme/some"))

    assert "HF_HUB_OFFLINE is set" in told


def test_a_mistake_of_our_own_stays_what_it_is(client: Client) -> None:
    with pytest.raises(ValueError, match="a bug"), client.translate_errors("trying it"):
        raise ValueError("a bug")


def test_a_refusal_of_our_own_is_not_wrapped(client: Client) -> None:
    with pytest.raises(UserError, match=r"\Aplain\Z"), client.translate_errors("trying it"):
        raise UserError("plain")


def test_what_passes_by_itself_is_tried_again(hub: FaultyHub) -> None:
    client = Client(hub.endpoint, hub.token, RetryPolicy(first=0.01))
    hub.faults.add(refuse("GET", "whoami", 503, times=3))

    assert client.user()["name"] == "ann"


def test_what_does_not_pass_is_not_tried_again(hub: FaultyHub) -> None:
    client = Client(hub.endpoint, hub.token, RetryPolicy(first=0.01))
    hub.faults.add(refuse("GET", "whoami", 403, times=9))

    with pytest.raises(UserError):
        client.user()

    assert len(hub.faults.requests("GET", "whoami")) == 1


def test_a_missing_network_is_noticed_after_three_tries() -> None:
    tries = 0

    def connect() -> None:
        nonlocal tries
        tries += 1
        raise httpx2.ConnectError("nobody there")

    with pytest.raises(httpx2.ConnectError):
        RetryPolicy(first=0.001).call(connect)

    assert tries == 3


def test_the_hubs_own_wait_goes_before_ours() -> None:
    error = refusal(429, {"RateLimit": '"api";r=0;t=55', "Retry-After": "3"})

    assert asked_to_wait(error) == 56


def test_retry_after_counts_where_a_quota_is_not_exhausted() -> None:
    error = refusal(503, {"RateLimit": '"api";r=9;t=55', "Retry-After": "3"})

    assert asked_to_wait(error) == 3


def test_a_wait_that_is_too_long_is_not_waited() -> None:
    error = refusal(503, {"Retry-After": "3600"})

    assert not RetryPolicy().rest(error, 1)


def refusal(status: int, headers: dict[str, str]) -> Exception:
    """Build the exception of huggingface_hub for an answer."""
    from huggingface_hub.errors import HfHubHTTPError

    request = httpx2.Request("GET", "http://127.0.0.1:9/")
    return HfHubHTTPError("no", response=httpx2.Response(status, headers=headers, request=request))


@contextmanager
def whoami(answer: dict[str, Any]) -> Iterator[str]:
    """Serve one answer to every question: the embedded hub has no fine-grained tokens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
