"""Weights of strangers, damaged anywhere or odd throughout, are read whole or refused in words.

The long form: python benchmarks/fuzz.py weights
"""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st

from cl_semisup import plugins
from cl_semisup.data import memory_limit
from cl_semisup.errors import InputError
from cl_semisup.execution import export_network
from cl_semisup.weights import reader
from tests.helpers.fuzzing import MARKS, damaged, fuzz, hidden

safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed; it is an extra")
TENSORS = {"0.weight": torch.ones(4, 3), "0.bias": torch.zeros(4), "steps": torch.tensor(3)}
TOLD: dict[str, Any] = {
    "id": "0" * 12,
    "encoder": {"mlp": {"width": 8, "layers": 1}},
    "channels": 1,
    "side": 4,
    "dim": 8,
    "mean": [0.5],
    "std": [0.5],
    "dataset": "d",
    "loss": "l",
}

MLP = plugins.load("encoders", "mlp")(width=8, layers=1).build(1, 4).state_dict()


def saved(legacy: bool) -> bytes:
    held = io.BytesIO()
    torch.save({"state_dict": TENSORS, "epoch": 3}, held, _use_new_zipfile_serialization=not legacy)
    return held.getvalue()


FILES = {"a.safetensors": safetensors.save(TENSORS), "a.pt": saved(False), "a.ckpt": saved(True)}


def refused(path: Path, error: InputError) -> bool:
    assert str(path) in str(error)
    assert not hidden(str(error))
    return False


@fuzz(
    "damaged files of weights",
    content=st.sampled_from(sorted(FILES)).flatmap(lambda n: st.tuples(st.just(n), damaged(FILES[n]))),
)
def test_damaged_weights_are_read_whole_or_refused(content: tuple[str, bytes], tmp_path: Path) -> bool:
    path = tmp_path / content[0]
    path.write_bytes(content[1])
    try:
        stored = reader.read(path)
    except InputError as error:
        return refused(path, error)
    assert len(stored.hash) == 12
    assert all(tensor.layout == torch.strided for tensor in stored.tensors.values())
    return True


odd: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, 1, 2, 3, -1, 10**5, 10**12, 10**400, 1e308, 0.5, "none", "", "../x", "mlp", "/etc/passwd"]),
        st.sampled_from(MARKS),
        st.text(max_size=4),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["mlp", "vit", "file", "width"]) | st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
settings = st.dictionaries(
    st.sampled_from(["width", "layers", "depth", "heads", "patch", "name", "norm", "file", "arch", "freeze", "blocks"]),
    odd,
    max_size=3,
)
encoders = st.dictionaries(
    st.sampled_from(["mlp", "vit", "convnet", "resnet18", "identity", "linear", "checkpoint", "timm", "torchvision"]),
    settings,
    min_size=1,
    max_size=2,
)
changes = st.dictionaries(st.sampled_from([*sorted(TOLD), "more"]), odd, max_size=1)


@fuzz(
    "kept networks with odd descriptions, exported",
    changes=changes,
    share=2,
    encoder=st.one_of(st.none(), st.none(), encoders),
    gone=st.one_of(*[st.none()] * 5, st.sampled_from(sorted(TOLD))),
)
def test_a_kept_network_with_an_odd_description_is_refused_or_exported(
    changes: dict[str, Any], encoder: Any, gone: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> bool:
    monkeypatch.setattr(memory_limit, "machine_bytes", lambda: 2**26)
    told = TOLD | changes | ({"encoder": encoder} if encoder else {})
    told.pop(gone or "", None)
    path = tmp_path / "k.safetensors"
    path.write_bytes(safetensors.save(MLP, {"cl_semisup": json.dumps(told)}))
    try:
        written = export_network.export("hf", path, tmp_path / "out")
    except InputError as error:
        return refused(path, error)
    assert written == tmp_path / "out" / "model.safetensors"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["k.safetensors", "out"]
    return True
