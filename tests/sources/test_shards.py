"""Safetensors folders: read as the library reads them, and refused when they are damaged."""

import json
import os
import shutil
from pathlib import Path
from random import Random

import pytest
import torch
from damaged_header import assembled, damaged, taken_apart, whole
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hubq.errors import UserError
from hubq.sources.shards import INDEX, Weights, index, merge, pieces, write
from hubq.sources.weight_files import weight_files

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

    with pytest.raises(UserError, match="damaged or not a safetensors file"):
        index(tmp_path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    listed = {"weight_map": {"a": "model-00001-of-00001.safetensors"}}
    (tmp_path / INDEX).write_text(json.dumps(listed))

    with pytest.raises(UserError, match=r"lacks model-00001-of-00001.safetensors"):
        index(tmp_path)


def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "../secret.safetensors"}}))

    with pytest.raises(UserError, match="not a file in its folder"):
        index(tmp_path)


def test_a_folder_without_safetensors_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")

    with pytest.raises(UserError, match="only pickled weights"):
        index(tmp_path)


def by_library(path: Path) -> dict[str, Tensor] | None:
    """Return what the safetensors library reads; None where it refuses."""
    try:
        return load_file(path)
    except SafetensorError:
        return None


def by_hubq(folder: Path) -> dict[str, Tensor] | None:
    """Return what hubq reads; None where it refuses."""
    try:
        weights = Weights(folder)
        return {name: weights.read(name) for name in weights.info}
    except UserError:
        return None


def as_bytes(tensors: dict[str, Tensor]) -> dict[str, tuple[object, ...]]:
    """Spell tensors so that NaN equals NaN."""
    return {
        name: (each.dtype, each.shape, each.reshape(-1).view(torch.uint8).tolist())
        for name, each in tensors.items()
    }


# So many files are written and read twice: about a second.
def test_a_damaged_file_is_refused_or_read_as_the_library_reads_it(tmp_path: Path) -> None:
    path, read, refused = tmp_path / "model.safetensors", 0, 0
    for seed in range(500):
        path.write_bytes(damaged(Random(seed)))

        library, ours = by_library(path), by_hubq(tmp_path)

        if ours is None:
            refused += 1
        else:
            assert library is not None, f"seed {seed}: the library refuses what hubq reads"
            assert as_bytes(ours) == as_bytes(library), f"seed {seed}"
            read += 1
    assert read > 20
    assert refused > 300


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"a": {"data_offsets": [8, 32]}}, "'a' begins at 8 instead of 0: it leaves a gap"),
        ({"b": {"data_offsets": [16, 24]}}, "'b' begins at 16 instead of 24: it overlaps"),
        ({"a": {"data_offsets": [-24, 0]}}, "'a' has no dtype, shape and data_offsets"),
        ({"a": {"shape": [3, 3]}}, "24 bytes of 'a' can't hold"),
        ({"a": {"dtype": "F31"}}, "dtype 'F31' of 'a' is not one that hubq reads"),
        ({"a": {"shape": None}}, "'a' has no dtype, shape and data_offsets"),
        ({"a": {"nested": 1}}, "'a' has more than dtype, shape, data_offsets"),
    ],
)
def test_a_header_is_told_what_is_wrong_with_it(
    changes: dict[str, dict[str, object]], complaint: str, tmp_path: Path
) -> None:
    header, data = taken_apart(whole())
    entries = json.loads(header)
    changed = {name: entry | changes.get(name, {}) for name, entry in entries.items()}
    content = assembled(json.dumps(changed).encode(), data)
    (tmp_path / "model.safetensors").write_bytes(content)

    with pytest.raises(UserError, match=complaint):
        index(tmp_path)


def test_a_tensor_that_a_header_names_twice_is_refused(tmp_path: Path) -> None:
    header, data = taken_apart(whole())
    entry = b'"a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}'
    twice = header.replace(entry, entry + b", " + entry)
    (tmp_path / "model.safetensors").write_bytes(assembled(twice, data))

    with pytest.raises(UserError, match="its header has 'a' twice"):
        index(tmp_path)


def test_bytes_after_the_last_tensor_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(whole() + b"12345")

    with pytest.raises(UserError, match="5 bytes follow after its last tensor"):
        index(tmp_path)


def test_a_pipe_in_place_of_weights_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")

    with pytest.raises(UserError, match=r"lacks model\.safetensors"):
        index(tmp_path)


@pytest.mark.parametrize(
    "content",
    ["[]", "3", "{}", '{"weight_map": []}', '{"weight_map": {}}', '{"weight_map": {"a": 3}}',
     '{"weight_map": {"a": ["b"]}}', "[" * 9999],
)  # fmt: skip
def test_an_index_of_another_type_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text(content)

    with pytest.raises(UserError, match=r"model\.safetensors\.index\.json"):
        index(tmp_path)


def test_a_tensor_that_two_files_hold_is_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        write(tmp_path / f"model-{number:05d}-of-00002.safetensors", {"a": torch.ones(number)})

    with pytest.raises(UserError, match="both hold a, so hubq can't tell which one is the model's"):
        index(tmp_path)


def test_the_file_that_transformers_reads_comes_before_an_old_index(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", {"new": torch.ones(1)})
    write(tmp_path / "old.safetensors", {"old": torch.ones(1)})
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"old": "old.safetensors"}}))

    assert list(index(tmp_path)) == ["new"]
    assert weight_files(tmp_path).others == (INDEX, "old.safetensors")


@pytest.mark.parametrize(
    "other", ["adapter_model.safetensors", "consolidated.safetensors", "training_args.bin"]
)
def test_weights_beside_the_model_are_left_alone_and_named(other: str, tmp_path: Path) -> None:
    write(tmp_path / "weights.safetensors", {"a": torch.ones(1)})
    shutil.copy(tmp_path / "weights.safetensors", tmp_path / other)

    files = weight_files(tmp_path)

    assert files.names == ("weights.safetensors",)
    assert files.others == (other,)
    assert not files.usual


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("adapter_model.safetensors", "merge it into its base"),
        ("model-q4.gguf", r"name its \.gguf file"),
        ("consolidated.00.pth", "use the version for transformers"),
        ("weights.pt", "other names than transformers gives them"),
        ("notes.txt", "download its weights too"),
    ],
)
def test_a_folder_without_weights_says_what_to_do_instead(
    name: str, way_out: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"")

    with pytest.raises(UserError, match=rf"no \.safetensors files and no .*{way_out}"):
        index(tmp_path)
