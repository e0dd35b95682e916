"""The faults that other tests rely on happen when and as they were planned."""

import httpx
import pytest
from faulty_hub import FaultyHub, cut, drop, flip, refuse
from huggingface_hub import HfApi


@pytest.fixture
def content(api: HfApi, repo: str) -> str:
    """Upload ten bytes and say where they are."""
    api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="a.txt", repo_id=repo)
    return f"/{repo}/resolve/main/a.txt"


def test_only_the_requests_that_were_meant_fail(
    hub: FaultyHub, http: httpx.Client, content: str
) -> None:
    hub.faults.add(refuse("GET", "/resolve/", 503, nth=2, times=2))

    statuses = [http.get(content).status_code for _ in range(4)]

    assert statuses == [200, 503, 503, 200]


def test_a_refusal_can_say_when_to_come_back(
    hub: FaultyHub, http: httpx.Client, content: str
) -> None:
    hub.faults.add(refuse("GET", "/resolve/", 429, retry_after=7))

    answer = http.get(content)

    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "7")


def test_a_dropped_request_never_reached_the_hub(hub: FaultyHub, api: HfApi, repo: str) -> None:
    hub.faults.add(drop("POST", "/commit/"))

    with pytest.raises(Exception, match=r"disconnected|reset by peer"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    assert hub.faults.requests("POST", "/commit/") == [None]
    assert "a.txt" not in api.list_repo_files(repo)


def test_a_commit_whose_answer_is_lost_has_landed(hub: FaultyHub, api: HfApi, repo: str) -> None:
    hub.faults.add(drop("POST", "/commit/", after=True))

    with pytest.raises(Exception, match=r"disconnected|reset by peer"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    assert hub.faults.requests("POST", "/commit/") == [200]
    assert "a.txt" in api.list_repo_files(repo)


def test_a_commit_that_is_refused_afterwards_has_landed(
    hub: FaultyHub, api: HfApi, repo: str
) -> None:
    hub.faults.add(refuse("POST", "/commit/", 500, after=True))

    with pytest.raises(Exception, match="500"):
        api.upload_file(path_or_fileobj=b"x", path_in_repo="a.txt", repo_id=repo)

    assert "a.txt" in api.list_repo_files(repo)


def test_a_flipped_byte_is_the_only_change(
    hub: FaultyHub, http: httpx.Client, content: str
) -> None:
    hub.faults.add(flip("GET", "/resolve/", offset=9))

    first, second = http.get(content), http.get(content)

    assert first.content == b"012345678" + bytes([ord("9") ^ 0xFF])
    assert first.headers["ETag"] == second.headers["ETag"]
    assert second.content == b"0123456789"


def test_a_download_is_cut_where_it_was_planned(
    hub: FaultyHub, http: httpx.Client, content: str
) -> None:
    hub.faults.add(cut("GET", "/resolve/", sent=4))

    with pytest.raises(httpx.TransportError):
        http.get(content)

    assert http.get(content).content == b"0123456789"
