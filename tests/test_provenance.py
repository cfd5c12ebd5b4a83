"""Where a result comes from."""

import json

from spectramind.provenance import describe, digest, git_state, write_sidecar


def test_digest_ignores_order_and_sees_values():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest([])) == 16


def test_sidecar_carries_provenance_and_facts(tmp_path):
    provenance = describe(stage="fit", config_hash="c", code_hash="k", data_hash="d", seed=3)
    write_sidecar(tmp_path / "s.json", provenance, planets=2)
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["config_hash"] == "c"
    assert found["data_hash"] == "d"
    assert found["planets"] == 2
    assert found["git_sha"] == git_state()[0]
    assert isinstance(found["git_dirty"], bool)
