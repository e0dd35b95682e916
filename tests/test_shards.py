"""Safetensors folders: read as the library reads them, and refused when they are damaged."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from hubq.errors import UserError
from hubq.shards import INDEX, Weights, index, merge, pieces, write

TENSORS = {
    "odd": torch.arange(5, dtype=torch.uint8),
    "half": torch.randn(3, 4).bfloat16(),
    "long": torch.arange(3),
    "empty": torch.zeros(0, 2),
}


def test_what_is_written_is_what_the_library_reads(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", TENSORS)

    found = load_file(tmp_path / "model.safetensors")

    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], TENSORS[name]) for name in TENSORS)


def test_what_the_library_writes_is_read_tensor_by_tensor(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")

    weights = Weights(tmp_path)

    assert all(torch.equal(weights.read(name), TENSORS[name]) for name in TENSORS)


def test_every_tensor_starts_at_a_multiple_of_its_width(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", TENSORS)

    info = index(tmp_path)

    assert all(info[name].begin % TENSORS[name].dtype.itemsize == 0 for name in TENSORS)


def test_merged_shards_hold_all_parts_and_an_index(tmp_path: Path) -> None:
    write(tmp_path / "one", TENSORS)
    write(tmp_path / "two", {"more": torch.ones(4)})
    folder = tmp_path / "model"
    folder.mkdir()

    merge([*pieces(tmp_path / "one"), *pieces(tmp_path / "two")], folder, shard_bytes=32)

    listed = json.loads((folder / INDEX).read_text())["weight_map"]
    assert listed.keys() == {*TENSORS, "more"}
    assert len(set(listed.values())) > 1
    assert all(torch.equal(Weights(folder).read(name), TENSORS[name]) for name in TENSORS)


def test_one_shard_needs_no_index(tmp_path: Path) -> None:
    write(tmp_path / "part", TENSORS)
    folder = tmp_path / "model"
    folder.mkdir()

    merge(pieces(tmp_path / "part"), folder)

    assert [path.name for path in folder.iterdir()] == ["model.safetensors"]


def test_rows_are_read_without_the_rest(tmp_path: Path) -> None:
    table = torch.randn(7, 3).bfloat16()
    write(tmp_path / "model.safetensors", {"table": table})

    rows = Weights(tmp_path).rows("table", torch.tensor([5, 0, 5]))

    assert torch.equal(rows, table[[5, 0, 5]])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_tensor_that_is_not_finite_is_noticed(bad: float, tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"good": torch.ones(9), "bad": torch.tensor([1.0, bad])})

    weights = Weights(tmp_path)

    assert weights.finite("good")
    assert not weights.finite("bad")


def test_a_truncated_file_is_refused_with_its_sizes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write(path, TENSORS)
    path.write_bytes(path.read_bytes()[:-3])

    with pytest.raises(UserError, match=r"model.safetensors is truncated: .* promises .* bytes"):
        index(tmp_path)


def test_a_file_that_is_no_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"not a model at all")

    with pytest.raises(UserError, match="damaged or no safetensors file"):
        index(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    listed = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(listed))

    with pytest.raises(UserError, match=r"model-00001-of-00001.safetensors, which is not there"):
        index(tmp_path)


def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))

    with pytest.raises(UserError, match="not a file of its own folder"):
        index(tmp_path)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")

    with pytest.raises(UserError, match=r"no \.safetensors files"):
        index(tmp_path)
