"""The Xet store believes nothing: what it keeps hashes to its name."""

import hashlib
import io
import random
import shutil
import struct
from pathlib import Path

import httpx
import lz4.frame
import pytest
from faulty_hub import FaultyHub
from huggingface_hub import HfApi

from hubq.embedded_hub.refusals import Refusal
from hubq.embedded_hub.storage import Database, Objects
from hubq.embedded_hub.xet import Xet, reconstruct
from hubq.embedded_hub.xet_formats import (
    BOOKEND,
    GROUPED_LZ4,
    HAS_PROOFS,
    HAS_SHA256,
    LZ4,
    PLAIN,
    Node,
    Term,
    hash_chunk,
    hash_file,
    hash_term,
    hash_xorb,
    scan_xorb,
    unpack_xorb,
    write_hash,
)

CHUNKS = [bytes([number]) * (1000 + 333 * number) for number in range(9)]
CONTENT = b"".join(CHUNKS)
NODES = [Node(hash_chunk(chunk), len(chunk)) for chunk in CHUNKS]
XORB = hash_xorb(NODES)


def group(content: bytes) -> bytes:
    return b"".join(content[start::4] for start in range(4))


def pack(chunk: bytes, scheme: int) -> bytes:
    grouped = group(chunk) if scheme == GROUPED_LZ4 else chunk
    data: bytes = chunk if scheme == PLAIN else lz4.frame.compress(grouped)
    sizes = len(data).to_bytes(3, "little"), len(chunk).to_bytes(3, "little")
    return b"\0" + sizes[0] + bytes([scheme]) + sizes[1] + data


def xorb() -> bytes:
    return b"".join(pack(chunk, number % 3) for number, chunk in enumerate(CHUNKS))


def shard(
    sha256: bytes, terms: list[tuple[int, int]], file_hash: bytes, proof: bytes | None = None
) -> bytes:
    """Write a shard of one file made of runs of the chunks."""
    flags = HAS_PROOFS | HAS_SHA256
    records = [struct.pack("<32sIIQ", file_hash, flags, len(terms), 0)]
    for start, end in terms:
        length = sum(map(len, CHUNKS[start:end]))
        records.append(struct.pack("<32sIIII", XORB, 0, length, start, end))
    for start, end in terms:
        records.append((proof or hash_term(NODES[start:end])).ljust(48, b"\0"))
    # The sha256 is written as the hashes are: each group of eight bytes reversed in its hex.
    records.append(bytes.fromhex(write_hash(sha256)).ljust(48, b"\0"))
    end_mark = BOOKEND.ljust(48, b"\0")
    return struct.pack("<32sQQ", b"tag", 2, 0) + b"".join(records) + end_mark + end_mark


def address(xorb: str, first: int, last: int) -> str:
    return f"{xorb}:{first}-{last}"


@pytest.fixture
def store(tmp_path: Path) -> Xet:
    """Make a store that holds the one xorb."""
    database = Database(tmp_path / "hub.sqlite")
    database.prepare()
    xet = Xet(tmp_path / "xet", database, Objects(tmp_path / "objects"))
    with xet.receive() as incoming:
        incoming.write(xorb())
        xet.keep(write_hash(XORB), incoming)
    return xet


def test_chunks_of_every_compression_unpack_to_what_was_packed() -> None:
    assert [content for content, _ in unpack_xorb(io.BytesIO(xorb()))] == CHUNKS


def test_hashes_are_those_of_the_real_client(api: HfApi, repo: str, hub: FaultyHub) -> None:
    content = random.Random(1).randbytes(700_000)

    api.upload_file(path_or_fileobj=content, path_in_repo="a.bin", repo_id=repo)

    (index,) = (hub.root / "xet" / "xorbs").rglob("*.index")
    stored = index.with_suffix("")
    with stored.open("rb") as file:
        nodes = [chunk.node for chunk in scan_xorb(file)]
    (entry,) = api.get_paths_info(repo, ["a.bin"])
    assert len(nodes) > 4
    assert stored.name == write_hash(hash_xorb(nodes))
    assert getattr(entry, "xet_hash", None) == write_hash(hash_file(nodes))


def test_a_file_is_rebuilt_from_runs_in_any_order(store: Xet) -> None:
    runs = [(4, 9), (0, 2), (4, 5)]
    chunks = [chunk for start, end in runs for chunk in CHUNKS[start:end]]
    nodes = [node for start, end in runs for node in NODES[start:end]]
    sha256 = hashlib.sha256(b"".join(chunks))

    store.register(shard(sha256.digest(), runs, hash_file(nodes)))

    assert store.objects.path(sha256.hexdigest()).read_bytes() == b"".join(chunks)


def test_a_xorb_that_hashes_to_something_else_is_refused(store: Xet) -> None:
    changed = bytearray(xorb())
    changed[100] ^= 1  # in the first chunk, which is not compressed

    with store.receive() as incoming:
        incoming.write(bytes(changed))
        with pytest.raises(Refusal, match="hashes to"):
            store.keep("ab" * 32, incoming)

    assert not store.path("ab" * 32).exists()


@pytest.mark.parametrize("cut", [4, 50, -1])
def test_a_xorb_that_ends_too_early_is_refused(cut: int) -> None:
    with pytest.raises(Refusal):
        scan_xorb(io.BytesIO(xorb()[:cut]))


def test_a_chunk_that_unpacks_to_more_than_it_says_is_refused() -> None:
    bomb = lz4.frame.compress(bytes(10_000_000))
    header = b"\0" + len(bomb).to_bytes(3, "little") + bytes([LZ4]) + (100).to_bytes(3, "little")

    with pytest.raises(Refusal, match="wrong size"):
        scan_xorb(io.BytesIO(header + bomb))


def test_a_file_with_a_wrong_sha256_is_refused_and_not_kept(store: Xet) -> None:
    sha256 = hashlib.sha256(b"something else")

    with pytest.raises(Refusal, match="as claimed"):
        store.register(shard(sha256.digest(), [(0, 9)], hash_file(NODES)))

    assert store.objects.size(sha256.hexdigest()) is None


def test_a_file_cannot_take_the_sha256_of_another_that_is_here(store: Xet) -> None:
    store.register(shard(hashlib.sha256(CONTENT).digest(), [(0, 9)], hash_file(NODES)))
    victim = hashlib.sha256(CONTENT)

    with pytest.raises(Refusal, match="as claimed"):
        store.register(shard(victim.digest(), [(0, 3)], hash_file(NODES[:3])))

    assert store.hash_of(victim.hexdigest()) == write_hash(hash_file(NODES))
    assert store.objects.path(victim.hexdigest()).read_bytes() == CONTENT


def test_a_file_with_a_wrong_xet_hash_is_refused(store: Xet) -> None:
    sha256 = hashlib.sha256(CONTENT).digest()

    with pytest.raises(Refusal, match="have another hash"):
        store.register(shard(sha256, [(0, 9)], hash_file(NODES[:3])))


def test_a_file_whose_sender_cannot_prove_the_chunks_is_refused(store: Xet) -> None:
    sha256 = hashlib.sha256(CONTENT).digest()

    with pytest.raises(Refusal, match="range hashes"):
        store.register(shard(sha256, [(0, 9)], hash_file(NODES), proof=bytes(32)))


def test_a_file_of_chunks_that_are_not_here_is_refused(store: Xet) -> None:
    with pytest.raises(Refusal, match="no such range"):
        store.register(shard(bytes(32), [(0, 10)], hash_file(NODES)))


def test_a_file_of_an_empty_range_is_refused(store: Xet) -> None:
    sha256 = hashlib.sha256(CONTENT).digest()

    with pytest.raises(Refusal, match="no such range"):
        store.register(shard(sha256, [(0, 9), (3, 3)], hash_file(NODES)))


def test_a_file_larger_than_the_disk_is_refused_before_it_is_written(store: Xet) -> None:
    runs = [(0, 9)] * 2000
    sha256 = hashlib.sha256(CONTENT * 2000).digest()
    file = shard(sha256, runs, hash_file(NODES * 2000))
    usage = shutil.disk_usage(store.folder)
    small = usage._replace(free=sum(map(len, CHUNKS)) * 1999)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: small)
        with pytest.raises(Refusal) as caught:
            store.register(file)

    assert caught.value.status == 507


@pytest.mark.parametrize("length", [0, 40, 48, 100, 200])
def test_a_shard_that_ends_too_early_is_refused(store: Xet, length: int) -> None:
    whole = shard(hashlib.sha256(CONTENT).digest(), [(0, 9)], hash_file(NODES))

    with pytest.raises(Refusal):
        store.register(whole[:length])


@pytest.mark.parametrize("seed", range(40))
def test_any_range_of_a_file_can_be_put_together(store: Xet, seed: int) -> None:
    dice = random.Random(seed)
    runs = [(2, 7), (0, 1), (8, 9), (0, 9)]
    content = b"".join(b"".join(CHUNKS[start:end]) for start, end in runs)
    terms = [
        Term(write_hash(XORB), start, end, sum(map(len, CHUNKS[start:end]))) for start, end in runs
    ]
    first = dice.randrange(len(content))
    last = dice.randrange(first, len(content))

    answer = reconstruct(store, terms, (first, last), address)

    got = b"".join(
        b"".join(CHUNKS[term["range"]["start"] : term["range"]["end"]]) for term in answer["terms"]
    )
    skipped = answer["offset_into_first_range"]
    assert got[skipped : skipped + last - first + 1] == content[first : last + 1]
    assert skipped < len(CHUNKS[answer["terms"][0]["range"]["start"]])


def test_a_range_after_the_end_of_a_file_is_refused(store: Xet) -> None:
    with pytest.raises(Refusal) as caught:
        reconstruct(store, [Term(write_hash(XORB), 0, 1, 1000)], (1000, None), address)

    assert caught.value.status == 416


def test_a_token_for_one_repo_does_not_open_another_repos_file(
    api: HfApi, stranger: HfApi, http: httpx.Client
) -> None:
    api.create_repo("acme/secret", private=True)
    api.upload_file(path_or_fileobj=bytes(5000), path_in_repo="a.bin", repo_id="acme/secret")
    (entry,) = api.get_paths_info("acme/secret", ["a.bin"])
    stranger.create_repo("eve/own")
    headers = {"Authorization": f"Bearer {stranger.token}"}
    token = http.get("/api/models/eve/own/xet-read-token/main", headers=headers).json()

    answer = httpx.get(
        f"{token['casUrl']}/v1/reconstructions/{getattr(entry, 'xet_hash', '')}",
        headers={"Authorization": f"Bearer {token['accessToken']}"},
    )

    assert answer.status_code == 404


def ask_for_file(http: httpx.Client, repo: str, token: dict[str, str]) -> httpx.Response:
    """Ask how a repo's file is put together, with some Xet token."""
    (entry,) = http.post(f"/api/models/{repo}/paths-info/main", data={"paths": "a.bin"}).json()
    return httpx.get(
        f"{token['casUrl']}/v1/reconstructions/{entry['xetHash']}",
        headers={"Authorization": f"Bearer {token['accessToken']}"},
    )


@pytest.mark.parametrize("query", ["", "?create_pr=1"])
def test_a_token_for_uploads_reads_nothing(
    api: HfApi, repo: str, http: httpx.Client, query: str
) -> None:
    api.upload_file(path_or_fileobj=bytes(5000), path_in_repo="a.bin", repo_id=repo)
    token = http.get(f"/api/models/{repo}/xet-write-token/main{query}").json()

    assert ask_for_file(http, repo, token).status_code == 403


def test_a_token_for_downloads_ends_when_the_repo_closes(
    api: HfApi, stranger: HfApi, repo: str, http: httpx.Client
) -> None:
    api.upload_file(path_or_fileobj=bytes(5000), path_in_repo="a.bin", repo_id=repo)
    eve = {"Authorization": f"Bearer {stranger.token}"}
    token = http.get(f"/api/models/{repo}/xet-read-token/main", headers=eve).json()
    before = ask_for_file(http, repo, token).status_code

    api.update_repo_settings(repo, gated="manual")

    assert (before, ask_for_file(http, repo, token).status_code) == (200, 403)


def test_the_address_of_a_range_opens_no_other_files_chunks(store: Xet) -> None:
    terms = [Term(write_hash(XORB), 2, 4, sum(map(len, CHUNKS[2:4])))]

    answer = reconstruct(store, terms, None, address)

    ((fetched,),) = answer["fetch_info"].values()
    chunks = store.chunks(write_hash(XORB))
    assert fetched["url"] == address(write_hash(XORB), chunks[2].start, chunks[3].end - 1)


@pytest.mark.parametrize("wanted", [None, "bytes=0-", "bytes=0-999999", "bytes=0-1,2-3"])
def test_the_address_of_a_range_sends_no_more_than_that(
    api: HfApi, repo: str, http: httpx.Client, wanted: str | None
) -> None:
    api.upload_file(path_or_fileobj=bytes(5000), path_in_repo="a.bin", repo_id=repo)
    token = http.get(f"/api/models/{repo}/xet-read-token/main").json()
    ((fetch,),) = ask_for_file(http, repo, token).json()["fetch_info"].values()

    answer = httpx.get(fetch["url"], headers={"Range": wanted} if wanted else {})

    assert answer.status_code == 403


def test_a_read_token_uploads_nothing(http: httpx.Client, repo: str) -> None:
    token = http.get(f"/api/models/{repo}/xet-read-token/main").json()

    answer = httpx.post(
        f"{token['casUrl']}/v1/xorbs/default/{'ab' * 32}",
        headers={"Authorization": f"Bearer {token['accessToken']}"},
        content=b"x",
    )

    assert answer.status_code == 403


def test_the_address_of_one_xorb_does_not_open_another(
    api: HfApi, repo: str, http: httpx.Client
) -> None:
    api.upload_file(path_or_fileobj=bytes(5000), path_in_repo="a.bin", repo_id=repo)
    (entry,) = api.get_paths_info(repo, ["a.bin"])
    token = http.get(f"/api/models/{repo}/xet-read-token/main").json()
    answer = httpx.get(
        f"{token['casUrl']}/v1/reconstructions/{getattr(entry, 'xet_hash', '')}",
        headers={"Authorization": f"Bearer {token['accessToken']}"},
    ).json()
    ((xorb_name, (fetch,)),) = answer["fetch_info"].items()

    url, last = fetch["url"], fetch["url_range"]["end"]

    own, other = (
        httpx.get(place, headers={"Range": f"bytes=0-{last}"})
        for place in (url, url.replace(xorb_name, "ab" * 32))
    )

    assert (own.status_code, other.status_code) == (206, 403)
