"""Files go up and come down unchanged, by Xet, by LFS and by plain HTTP."""

import hashlib
import json
import random
from pathlib import Path

import httpx
import pytest
from faulty_hub import FaultyHub, cut, flip
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def pull(api: HfApi, repo: str, path: str, folder: Path) -> bytes:
    return Path(api.hf_hub_download(repo, path, local_dir=folder)).read_bytes()


def large_file(path: str, oid: str, size: int) -> str:
    return json.dumps({"key": "lfsFile", "value": {"path": path, "oid": oid, "size": size}})


def post_commit(http: httpx.Client, repo: str, *lines: str) -> httpx.Response:
    header = '{"key": "header", "value": {"summary": "try"}}'
    body = "\n".join([header, *lines])
    return http.post(f"/api/models/{repo}/commit/main", content=body)


@pytest.mark.usefixtures("transfer")
def test_a_large_file_comes_down_as_it_went_up(api: HfApi, repo: str, tmp_path: Path) -> None:
    content = noise(3_000_000) + b"much alike " * 200_000

    api.upload_file(path_or_fileobj=content, path_in_repo="model.safetensors", repo_id=repo)

    assert pull(api, repo, "model.safetensors", tmp_path) == content


def test_both_ways_were_really_taken(
    api: HfApi, repo: str, transfer: str, hub: FaultyHub, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=noise(9000), path_in_repo="a.bin", repo_id=repo)

    pull(api, repo, "a.bin", tmp_path)

    by_xet = hub.faults.requests("POST", "/v1/shards") + hub.faults.requests("GET", "/v1/xorbs/")
    by_lfs = hub.faults.requests("PUT", "^/lfs/objects/")
    assert (by_xet, by_lfs) == (([200, 206], []) if transfer == "xet" else ([], [200]))


@pytest.mark.usefixtures("transfer")
def test_a_file_of_many_parts_comes_down_as_it_went_up(
    api: HfApi, repo: str, tmp_path: Path
) -> None:
    file = tmp_path / "model.safetensors"  # takes 2 s: multipart starts at 64 MiB
    file.write_bytes(noise(70_000_000))

    api.upload_file(path_or_fileobj=file, path_in_repo=file.name, repo_id=repo)

    got = pull(api, repo, file.name, tmp_path / "down")
    assert hashlib.sha256(got).digest() == hashlib.sha256(file.read_bytes()).digest()


@pytest.mark.usefixtures("transfer")
def test_a_second_upload_of_the_same_folder_makes_no_commit(
    api: HfApi, repo: str, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(noise(5000))
    first = api.upload_folder(folder_path=folder, repo_id=repo)

    second = api.upload_folder(folder_path=folder, repo_id=repo)

    assert second.oid == first.oid


def test_an_empty_file_has_a_size_of_zero_and_an_etag(
    api: HfApi, repo: str, http: httpx.Client, tmp_path: Path
) -> None:
    api.upload_file(path_or_fileobj=b"", path_in_repo="empty.bin", repo_id=repo)

    answer = http.head(f"/{repo}/resolve/main/empty.bin")

    assert (answer.status_code, answer.headers["Content-Length"]) == (200, "0")
    assert answer.headers["ETag"] == '"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"'
    assert pull(api, repo, "empty.bin", tmp_path) == b""


def test_ids_in_the_tree_are_those_of_git_and_sha256(api: HfApi, repo: str) -> None:
    large, small = noise(3000), b"hello\n"
    adds = {"a.bin": large, "b.txt": small}
    operations = [CommitOperationAdd(path, content) for path, content in adds.items()]
    api.create_commit(repo, operations, commit_message="two")

    listed = {entry.path: entry for entry in api.get_paths_info(repo, list(adds))}

    assert listed["a.bin"].lfs.sha256 == hashlib.sha256(large).hexdigest()  # type: ignore[union-attr]
    assert listed["b.txt"].blob_id == hashlib.sha1(b"blob 6\0" + small).hexdigest()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["small.txt", "large.bin"])
def test_a_range_is_that_range(api: HfApi, repo: str, http: httpx.Client, name: str) -> None:
    api.upload_file(path_or_fileobj=b"0123456789", path_in_repo=name, repo_id=repo)
    expected = {"bytes=2-4": b"234", "bytes=7-": b"789", "bytes=-2": b"89", "bytes=8-99": b"89"}

    got = {
        wanted: http.get(f"/{repo}/resolve/main/{name}", headers={"Range": wanted})
        for wanted in expected
    }

    assert {wanted: answer.content for wanted, answer in got.items()} == expected
    assert {answer.status_code for answer in got.values()} == {206}


def test_a_range_after_the_end_is_refused(api: HfApi, repo: str, http: httpx.Client) -> None:
    api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="a.txt", repo_id=repo)

    answer = http.get(f"/{repo}/resolve/main/a.txt", headers={"Range": "bytes=10-"})

    assert (answer.status_code, answer.headers["Content-Range"]) == (416, "bytes */10")


def test_a_file_that_was_never_uploaded_cannot_be_committed(http: httpx.Client, repo: str) -> None:
    oid = "ab" * 32
    line = large_file("a.bin", oid, 5)

    answer = post_commit(http, repo, line)

    assert answer.status_code == 400
    assert "LFS pointer pointed to a file that does not exist" in answer.json()["error"]


def test_a_file_of_another_size_cannot_be_committed(
    api: HfApi, http: httpx.Client, repo: str
) -> None:
    content = noise(50)
    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id=repo)
    oid = hashlib.sha256(content).hexdigest()
    line = large_file("b.bin", oid, 51)

    assert post_commit(http, repo, line).status_code == 400


def test_a_pointer_written_by_hand_does_not_open_another_repos_file(
    api: HfApi, stranger: HfApi
) -> None:
    api.create_repo("acme/secret", private=True)
    content = noise(50)
    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id="acme/secret")
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 50\n"
    stranger.create_repo("eve/thief")

    with pytest.raises(BadRequestError):
        stranger.upload_file(
            path_or_fileobj=pointer.encode(), path_in_repo="a.txt", repo_id="eve/thief"
        )


def batch(http: httpx.Client, repo: str, content: bytes) -> str:
    wanted = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    body = {"operation": "upload", "transfers": ["basic"], "objects": [wanted]}
    answer = http.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()
    return str(answer["objects"][0]["actions"]["upload"]["href"])


@pytest.mark.parametrize("sent", [b"truncate", b"different!", b"too long!!!"])
def test_an_upload_that_is_not_what_was_announced_is_refused_and_gone(
    http: httpx.Client, repo: str, hub: FaultyHub, sent: bytes
) -> None:
    href = batch(http, repo, b"announced!")

    answer = http.put(href, content=sent)

    assert answer.status_code in (400, 413)
    assert [path for path in (hub.root / "objects").rglob("*") if path.is_file()] == []


def test_completing_an_upload_without_its_parts_does_not_open_another_repos_file(
    api: HfApi, stranger: HfApi, http: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hubq.embedded_hub.api.large_files.MULTIPART_FROM", 1000)
    content = noise(5000)
    api.create_repo("acme/secret", private=True)
    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id="acme/secret")
    stranger.create_repo("eve/thief")
    http.headers["Authorization"] = f"Bearer {stranger.token}"
    oid, size = hashlib.sha256(content).hexdigest(), len(content)
    wanted = [{"oid": oid, "size": size}]
    body = {"operation": "upload", "transfers": ["multipart"], "objects": wanted}
    answer = http.post("/eve/thief.git/info/lfs/objects/batch", json=body).json()
    href = answer["objects"][0]["actions"]["upload"]["href"]

    completed = http.post(href, json={"parts": [{"partNumber": 1}]})

    assert completed.status_code == 400
    taken = post_commit(http, "eve/thief", large_file("a.bin", oid, size))
    assert taken.status_code == 400


def test_git_lfs_downloads_what_the_repo_holds_and_nothing_else(
    api: HfApi, repo: str, http: httpx.Client
) -> None:
    content = noise(3000)
    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id=repo)
    oids = [hashlib.sha256(content).hexdigest(), "ab" * 32]
    wanted = [{"oid": oid, "size": 3000} for oid in oids]
    body = {"operation": "download", "objects": wanted}

    held, absent = http.post(f"/{repo}.git/info/lfs/objects/batch", json=body).json()["objects"]

    assert httpx.get(held["actions"]["download"]["href"]).content == content
    assert absent["error"]["code"] == 404


def test_a_forged_ticket_uploads_nothing(http: httpx.Client, repo: str) -> None:
    href = batch(http, repo, b"announced!")
    forged = href[:-1] + ("0" if href[-1] != "0" else "1")

    assert http.put(forged, content=b"announced!").status_code == 403


def test_a_copy_between_repos_sends_no_bytes(api: HfApi, repo: str, tmp_path: Path) -> None:
    content = noise(5000)
    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id=repo)
    target = api.create_repo("acme/copy").repo_id
    copy = CommitOperationCopy("a.bin", "b.bin", src_repo_id=repo, src_repo_type="model")

    api.create_commit(target, [copy], commit_message="copy")

    assert pull(api, target, "b.bin", tmp_path) == content


@pytest.mark.usefixtures("transfer")
def test_a_download_that_breaks_off_is_resumed(
    api: HfApi, repo: str, hub: FaultyHub, tmp_path: Path
) -> None:
    content = noise(400_000)  # takes 2 s: the client waits before it asks again
    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id=repo)
    hub.faults.add(cut("GET", "resolve|v1/xorbs", sent=100_000))

    assert pull(api, repo, "a.bin", tmp_path) == content


def test_a_flipped_byte_passes_the_client_unnoticed(
    api: HfApi, repo: str, hub: FaultyHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    api.upload_file(path_or_fileobj=b"0123456789", path_in_repo="a.bin", repo_id=repo)
    hub.faults.add(flip("GET", "resolve", offset=3))

    assert pull(api, repo, "a.bin", tmp_path) == b"012" + bytes([0x33 ^ 0xFF]) + b"456789"


def test_files_that_gitignore_names_stay_out(api: HfApi, repo: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "keep.txt").write_text("a")
    (folder / "drop.log").write_text("b")
    api.upload_file(path_or_fileobj=b"*.log\n", path_in_repo=".gitignore", repo_id=repo)

    api.upload_folder(folder_path=folder, repo_id=repo)

    assert sorted(api.list_repo_files(repo)) == [".gitattributes", ".gitignore", "keep.txt"]


def test_patterns_size_and_content_decide_what_is_large(api: HfApi, repo: str) -> None:
    small = {"notes.txt": b"text", "text": "naïve".encode() * 80}
    big = b"x" * (10 * 1024 * 1024 + 1)
    large = {"weights.bin": b"text", "blob": b"\0\1\2", "big.txt": big}
    adds = [CommitOperationAdd(path, content) for path, content in (small | large).items()]

    api.create_commit(repo, adds, commit_message="five")

    listed = api.get_paths_info(repo, [*small, *large])
    assert {entry.path for entry in listed if getattr(entry, "lfs", None)} == set(large)


def test_a_missing_file_names_its_commit(api: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as caught:
        api.hf_hub_download(repo, "absent.txt")

    assert caught.value.response.headers["X-Repo-Commit"] == api.model_info(repo).sha
