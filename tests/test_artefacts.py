"""A file that a later stage reads says when any of its bits is not as it was written."""

import json

import numpy as np
import polars as pl
import pytest

from spectramind.artefacts import (
    Kind,
    load_json,
    load_table,
    load_tensors,
    save_json,
    save_table,
    save_tensors,
)
from spectramind.errors import ArtefactError, WriteError

KIND = Kind("thing", "spectramind make")
FACTS = {"planet": 7, "names": ["é", "b"], "nested": {"x": None}}
ARRAYS = {
    "matrix": np.arange(6.0).reshape(2, 3).T,
    "number": np.array(3, dtype=np.int64),
    "none": np.zeros((0, 4), dtype=np.float32),
    "flags": np.array([True, False]),
}
TABLE = pl.DataFrame({"planet_id": [1, 2], "reasons": [["odd"], []]})
WRITERS = {
    "json": lambda path: save_json(path, FACTS),
    "table": lambda path: save_table(path, TABLE),
    "tensors": lambda path: save_tensors(path, ARRAYS, FACTS),
}
READERS = {"json": load_json, "table": load_table, "tensors": load_tensors}


@pytest.fixture(params=WRITERS)
def kind(request, tmp_path):
    """A kind of file and one such file."""
    WRITERS[request.param](tmp_path / "file")
    return READERS[request.param], tmp_path / "file"


def test_what_is_saved_is_loaded(tmp_path):
    save_json(tmp_path / "a", FACTS)
    assert load_json(tmp_path / "a", KIND) == FACTS
    save_table(tmp_path / "b", TABLE)
    assert load_table(tmp_path / "b", KIND).equals(TABLE)
    save_tensors(tmp_path / "c", ARRAYS, FACTS)
    facts, arrays = load_tensors(tmp_path / "c", KIND)
    assert facts == FACTS
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert (arrays[name].shape, arrays[name].dtype) == (array.shape, array.dtype)
        np.testing.assert_array_equal(arrays[name], array)
    digest = save_tensors(tmp_path / "d", ARRAYS, FACTS)
    assert save_tensors(tmp_path / "d", dict(reversed(ARRAYS.items())), FACTS) == digest


def test_the_same_content_gives_the_same_bytes(kind):
    read, path = kind
    before = path.read_bytes()
    name = next(name for name, own in READERS.items() if own is read)
    WRITERS[name](path)
    assert path.read_bytes() == before


def test_any_flipped_bit_is_seen(kind):
    read, path = kind
    whole = path.read_bytes()
    for at in range(len(whole)):
        changed = bytearray(whole)
        changed[at] ^= 1 << (at % 8)
        path.write_bytes(changed)
        with pytest.raises(
            ArtefactError, match=r"is no whole thing.*Run `spectramind make` again"
        ):
            read(path, KIND)


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"\xff\xfe\x00", b"[" * 100_000, b"PAR1", b'{"checksum": 1}'],
    ids=["empty", "object", "null", "no text", "deep", "parquet", "no checksum"],
)
def test_other_content_is_refused(kind, content):
    read, path = kind
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match="is no whole thing: it carries no checksum"):
        read(path, KIND)


def test_content_of_another_kind_is_refused(tmp_path):
    """Its checksum is right, and still it is not what is looked for."""
    for written, write in WRITERS.items():
        for wanted, read in READERS.items():
            if written != wanted:
                write(tmp_path / written)
                with pytest.raises(ArtefactError, match="is no whole thing: it is no "):
                    read(tmp_path / written, KIND)


def test_a_missing_file_and_a_folder_in_its_place(kind, tmp_path):
    read, _ = kind
    with pytest.raises(ArtefactError, match=r"no thing there\. Run `spectramind make` first"):
        read(tmp_path / "nowhere", KIND)
    with pytest.raises(ArtefactError, match="it cannot be read"):
        read(tmp_path, KIND)


def test_a_file_cannot_hold_the_checksum_of_another(tmp_path):
    with pytest.raises(ValueError, match="checksum of another"):
        save_json(tmp_path / "a", {"copied": f"sha256:{'1' * 64}"})
    assert not list(tmp_path.iterdir())


def test_json_is_for_people_too(tmp_path):
    save_json(tmp_path / "a", FACTS)
    stored = json.loads((tmp_path / "a").read_text())
    assert stored.pop("checksum").startswith("sha256:")
    assert stored == FACTS


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot be written"):
        save_json(tmp_path / "file" / "below", FACTS)
