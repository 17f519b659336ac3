"""A kept network is the one that was scored: loaded again it gives the record's scores, here and in other programs."""

import importlib.util
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import cl_semisup as cl
from cl_semisup import cli, plugins
from cl_semisup.data.settings import Views
from cl_semisup.data.views import ViewMaker
from cl_semisup.errors import InputError
from cl_semisup.execution import feature_cache, training_features
from cl_semisup.execution.data import load_images
from cl_semisup.execution.execute import Executor
from cl_semisup.execution.keep import path_of
from cl_semisup.execution.machine import Machine
from cl_semisup.execution.training_groups import single_run
from cl_semisup.results import records
from cl_semisup.suite.run import Run
from cl_semisup.suite.suite import Suite
from cl_semisup.system import files
from cl_semisup.weights.kept import read_kept

safetensors = pytest.importorskip("safetensors.torch", reason="pip install 'cl-semisup[safetensors]'")
Parse = Callable[[str], Suite]
CONVNET = "encoder: {convnet: {width: 4, blocks: 2}}"
MLP = "encoder: {mlp: {width: 16, layers: 1}}"


def needs(package: str) -> pytest.MarkDecorator:
    there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(not there, reason=f"pip install 'cl-semisup[{package}]'")


def machine(folder: Path, keep: str = "encoder") -> Machine:
    return Machine("cpu", "data", keep=keep, kept=str(folder), question="Is it kept?")


def train(
    parse: Parse, text: str, folder: Path, encoder: str, keep: str = "encoder", count: int = 1
) -> tuple[Run, Any]:
    """The last run of the suite and its record."""
    one = text.replace(MLP, encoder).replace("[nt_xent, clop]", "nt_xent")
    run = parse(one).runs[-1]
    records = [Executor(machine(folder, keep))(run)[0] for _ in range(count)]
    return run, records[-1]


def digits() -> Tensor:
    """The normalised training images."""
    images = torch.as_tensor(load_images({"digits": {}}, "data").train_images)
    pixels = images.double() / 255
    mean, std = pixels.mean(dim=(0, 2, 3)).float(), pixels.std(dim=(0, 2, 3), correction=0).float()
    return ViewMaker(Views(), mean, std).normalize(images)


def loaded(path: Path, encoder: dict[str, Any], channels: int = 1, side: int = 8) -> nn.Module:
    settings = {"file": str(path), "arch": encoder}
    net: nn.Module = plugins.load("encoders", "checkpoint")(**settings).build(channels, side)
    return net.eval()


@pytest.mark.parametrize("keep", ["encoder", "all"])
def test_a_kept_network_that_is_loaded_again_has_the_records_scores(
    keep: str, tmp_path: Path, parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, record = train(parse, text, tmp_path, CONVNET, keep)
    path = path_of(tmp_path, run)
    assert path == tmp_path / "kept" / f"{run.id}.safetensors"
    monkeypatch.chdir(tmp_path)
    file = path.relative_to(tmp_path)
    again = parse(
        text.replace(MLP, f"encoder: {{checkpoint: {{file: {file}, arch: {{convnet: {{width: 4, blocks: 2}}}}}}}}")
    )
    floor = next(one for one in again.runs if not one.epochs)
    found, _ = Executor(machine(tmp_path))(floor)
    for name in ("knn_top1", "linear_top1", "knn_top1_labelled", "linear_top1_labelled"):
        assert found["scores"][name] == pytest.approx(record["scores"][name], abs=1e-5)
    assert found["resolved"]["weights"]["prefix"] == ("encoder." if keep == "all" else "")
    names = set(safetensors.load_file(path))
    assert ("projector.0.weight" in names) == (keep == "all")
    assert not (tmp_path / "kept" / f"{floor.id}.safetensors").exists()  # nothing was trained


def test_the_card_says_what_it_is_and_its_code_loads_it(
    tmp_path: Path, parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, record = train(parse, text, tmp_path, CONVNET)
    card = path_of(tmp_path, run).with_suffix(".md").read_text()
    for part in (
        "Is it kept?",
        "random weights",
        record["versions"]["data"],
        record["protocol"]["fingerprint"],
        "licence:",
    ):
        assert part in card
    assert f"| linear_top1 | {100 * record['scores']['linear_top1']:.2f} |" in card
    monkeypatch.chdir(tmp_path / "kept")
    names: dict[str, Any] = {}
    exec(card.partition("```python\n")[2].partition("```")[0], names)
    images = digits()
    expected = loaded(path_of(tmp_path, run), run.encoder)(images)
    assert torch.equal(names["net"].eval()(images), expected)


@needs("timm")
def test_a_network_of_a_library_is_kept_under_the_librarys_names(tmp_path: Path, parse: Parse, text: str) -> None:
    import timm

    run, _ = train(parse, text, tmp_path, "encoder: {timm: {model: test_resnet}}")
    theirs = timm.create_model("test_resnet", num_classes=0)
    theirs.load_state_dict(safetensors.load_file(path := path_of(tmp_path, run)))
    images = digits()
    ours = loaded(path, run.encoder)
    expected = theirs.eval()(images[:8].repeat(1, 3, 1, 1))
    assert torch.allclose(ours(images[:8]), expected, atol=1e-5)
    code = cli.main(["export", str(path), str(tmp_path / "hub"), "--to", "hf"])
    assert code == 0
    again = timm.create_model(f"local-dir:{tmp_path / 'hub'}", pretrained=True).eval()
    assert torch.allclose(again(images[:8].repeat(1, 3, 1, 1)), expected, atol=1e-5)


def test_a_hugging_face_folder_is_written_and_read(tmp_path: Path, parse: Parse, text: str) -> None:
    run, _ = train(parse, text, tmp_path, CONVNET)
    path, folder = path_of(tmp_path, run), tmp_path / "hub"
    assert cli.main(["export", str(path), str(folder), "--to", "hf"]) == 0
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    config = json.loads((folder / "config.json").read_text())
    assert config["cl_semisup"]["encoder"] == run.encoder and config["num_features"] == 8
    images = digits()
    assert torch.equal(loaded(folder, run.encoder)(images), loaded(path, run.encoder)(images))


@needs("onnxscript")
@needs("onnxruntime")
@pytest.mark.oracle
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_onnx_gives_the_same_features_for_any_number_of_images(tmp_path: Path, parse: Parse, text: str) -> None:
    import onnxruntime

    run, _ = train(parse, text, tmp_path, CONVNET)
    path = path_of(tmp_path, run)
    assert cli.main(["export", str(path), str(tmp_path / "out"), "--to", "onnx"]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / f"{run.id}.onnx"))
    images = digits()
    for count in (1, 5):
        (found,) = session.run(["features"], {"images": images[:count].numpy()})
        expected = loaded(path, run.encoder)(images[:count]).detach().numpy()
        assert np.allclose(found, expected, atol=1e-4)


def test_only_kept_networks_are_exported(
    tmp_path: Path, parse: Parse, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "s.yaml").write_text(text)
    assert cli.main(["export", str(tmp_path / "s.yaml"), str(tmp_path), "--to", "onnx"]) == cli.BAD_INPUT
    assert "Name <results>/kept/<id>.safetensors" in capsys.readouterr().err
    plain = tmp_path / "plain.safetensors"
    safetensors.save_file({"w": torch.ones(1)}, plain)
    assert cli.main(["export", str(plain), str(tmp_path), "--to", "hf"]) == cli.BAD_INPUT
    assert "must be a network that a suite has kept" in capsys.readouterr().err
    for told, message in (("{}", "cannot be read"), ("[1]", "cannot be read")):
        safetensors.save_file({"w": torch.ones(1)}, plain, {"cl_semisup": told})
        with pytest.raises(InputError, match=message):
            read_kept(plain)
    run, _ = train(parse, text, tmp_path, CONVNET)
    found, _ = read_kept(path := path_of(tmp_path, run))
    weights = safetensors.load_file(path)
    for broken, message in (
        ({"side": "8"}, "no sizes and numbers"),
        ({"encoder": {"evil": {}}}, "unknown encoder 'evil'"),
    ):
        metadata = {"cl_semisup": json.dumps(json.loads(found.as_metadata()["cl_semisup"]) | broken)}
        safetensors.save_file(weights, plain, metadata)
        assert cli.main(["export", str(plain), str(tmp_path), "--to", "hf"]) == cli.BAD_INPUT
        assert message in capsys.readouterr().err
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else True)
    assert cli.main(["export", str(path), str(tmp_path), "--to", "onnx"]) == cli.BAD_INPUT
    assert "pip install 'cl-semisup[onnx]'" in capsys.readouterr().err


def test_a_full_disk_loses_the_network_with_a_line_and_not_the_run(
    tmp_path: Path, parse: Parse, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write", full)
    _, record = train(parse, text, tmp_path, CONVNET)
    assert record["status"] == "ok"
    assert "the network is not kept: No space left on device. The run goes on." in capsys.readouterr().err


FROZEN = "encoder: {checkpoint: {file: w.safetensors, freeze: all, arch: {convnet: {width: 4, blocks: 2}}}}"


def frozen(folder: Path, seed: int = 0) -> None:
    torch.manual_seed(seed)
    net = plugins.load("encoders", "convnet")(width=4, blocks=2).build(1, 8)
    safetensors.save_file(net.state_dict(), folder / "w.safetensors")


def test_features_of_a_frozen_encoder_are_computed_once_and_are_the_same(
    tmp_path: Path, parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    frozen(tmp_path)
    _, plain = train(parse, text, tmp_path, FROZEN)
    encoded: list[int] = []
    real = feature_cache.FeatureCache.__call__

    def counted(self: Any, images: Tensor, how: object, compute: Callable[[], Tensor]) -> Tensor:
        return real(self, images, how, lambda: (encoded.append(len(images)), compute())[1])

    monkeypatch.setattr(feature_cache.FeatureCache, "__call__", counted)
    run, second = train(parse, text, tmp_path, FROZEN)
    assert encoded == []
    assert second["scores"] == plain["scores"]
    assert second["diagnostics"] == plain["diagnostics"]
    reference, _ = Executor(replace(machine(tmp_path), plain=True))(run)
    assert reference["scores"]["knn_top1"] == pytest.approx(second["scores"]["knn_top1"], abs=0.01)
    encoded.clear()
    frozen(tmp_path, seed=1)
    train(parse, text, tmp_path, FROZEN)
    assert len(encoded) == 5  # two parts, what is held out of training, two test views
    monkeypatch.setattr(feature_cache, "MAX_BYTES", 200_000)
    frozen(tmp_path, seed=2)
    train(parse, text, tmp_path, FROZEN)
    folder = tmp_path / "cache" / "cl_semisup" / feature_cache.FOLDER
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 200_000


def test_views_of_training_are_encoded_once_and_shared_by_the_losses_of_a_repetition(
    tmp_path: Path, parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(training_features, "PART_BYTES", 20_000)  # several files
    frozen(tmp_path)
    encoded: list[int] = []
    real = training_features.TrainingFeatures.__init__

    def counted(self: Any, encode: Callable[[Tensor], Tensor], cache: Any) -> None:
        real(self, lambda inputs: (encoded.append(len(inputs)), encode(inputs))[1], cache)

    monkeypatch.setattr(training_features.TrainingFeatures, "__init__", counted)
    two = parse(text.replace(MLP, FROZEN)).runs
    first, other = (next(run for run in two if run.epochs and run.loss_name == name) for name in ("nt_xent", "clop"))
    executor = Executor(machine(tmp_path))
    ((record, curves),) = executor.run_group(single_run(first))
    assert encoded
    encoded.clear()
    ((again, same_curves),) = executor.run_group(single_run(first))
    ((_, clop),) = executor.run_group(single_run(other))
    assert encoded == []
    assert again["scores"] == record["scores"]
    assert same_curves["history"] == curves["history"]
    ((_, reference),) = Executor(replace(machine(tmp_path), plain=True)).run_group(single_run(other))
    assert clop["history"]["loss"] == pytest.approx(reference["history"]["loss"], rel=1e-3)
    frozen(tmp_path, seed=1)
    Executor(machine(tmp_path)).run_group(single_run(first))
    assert encoded
    encoded.clear()
    monkeypatch.setattr(training_features, "MAX_BYTES", 1000)  # no room for all
    Executor(machine(tmp_path)).run_group(single_run(first))
    assert encoded == []


def test_the_record_names_the_weights_and_what_is_frozen(
    tmp_path: Path, parse: Parse, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    frozen(tmp_path)
    _, first = train(parse, text, tmp_path, FROZEN)
    assert first["resolved"]["frozen"] == ["all"]
    found = first["resolved"]["weights"]["hash"]
    assert first["versions"]["weights"] == {"w.safetensors": found}
    assert first["protocol"]["settings"]["weights"] == found
    frozen(tmp_path, seed=1)
    run, second = train(parse, text, tmp_path, FROZEN)
    assert second["id"] == first["id"] == run.id
    assert second["protocol"]["fingerprint"] != first["protocol"]["fingerprint"]


def strange(path: Path, tensors: dict[str, Tensor] | None = None, **changes: Any) -> Path:
    """A file that seems to be a kept network, of a stranger."""
    told = {"id": "0" * 12, "encoder": {"mlp": {"width": 8, "layers": 1}}, "channels": 1, "side": 8, "dim": 8}
    told |= {"mean": [0.5], "std": [0.5], "dataset": "d", "loss": "l"}
    safetensors.save_file(tensors or {"w": torch.ones(1)}, path, {"cl_semisup": json.dumps(told | changes)})
    return path


@pytest.mark.parametrize("name", ["../../elsewhere", "/tmp/elsewhere", "a/../../x", "", "0" * 12 + "\n"])
def test_a_strangers_network_is_not_written_elsewhere(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = strange(tmp_path / "k.safetensors", id=name)
    for to in ("hf", "onnx"):
        assert cli.main(["export", str(path), str(tmp_path / "a" / "b"), "--to", to]) == cli.BAD_INPUT
        assert "its description cannot be read. Got id must be 12 hex digits" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["k.safetensors"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": 3, "side": 90_000, "mean": [0.5] * 3, "std": [0.5] * 3}, "must hold the network that it describes"),
        ({"encoder": {"mlp": {"width": 8192, "layers": 1}}, "side": 20_000}, "must hold the network that it describes"),
        ({"encoder": {"identity": {}}, "side": 99_999}, "two images of its side: must fit in half of this machine's memory"),
        (
            {"encoder": {"checkpoint": {"file": "/etc/hostname", "arch": {"identity": {}}}}},
            "must describe an architecture alone, without files of weights. Got ['/etc/hostname']. Do not use it.",
        ),
    ],
)  # fmt: skip
def test_a_strangers_network_takes_no_more_than_its_file(
    changes: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = strange(tmp_path / "k.safetensors", **changes)
    assert cli.main(["export", str(path), str(tmp_path / "out"), "--to", "hf"]) == cli.BAD_INPUT
    assert message in capsys.readouterr().err


def test_a_strangers_card_is_no_way_to_other_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The card is written to a folder that is made to be published."""
    tensors = plugins.load("encoders", "mlp")(width=8, layers=1).build(1, 8).state_dict()
    path = strange(tmp_path / "k.safetensors", tensors)
    (tmp_path / "secret").write_text("secret")
    card = tmp_path / "k.md"
    places: list[tuple[Callable[[], object], str]] = [
        (lambda: card.symlink_to("secret"), "the link 'k.md' in its path"),
        (lambda: os.mkfifo(card), "a named pipe, not a regular file"),
        (
            lambda: os.truncate(os.open(card, os.O_RDWR | os.O_CREAT), 2**40),
            f"{2**40} bytes, more than the 1000000 that are read",
        ),
    ]
    for make, message in places:
        make()
        assert cli.main(["export", str(path), str(tmp_path / "out"), "--to", "hf"]) == cli.BAD_INPUT
        assert f"{card}: the card cannot be read: {message}" in capsys.readouterr().err
        card.unlink()
    card.write_text("# Card\n\x1b[2J\u202e")
    assert cli.main(["export", str(path), str(tmp_path / "out"), "--to", "hf"]) == cli.OK
    assert (tmp_path / "out" / "README.md").read_text() == "# Card\n\\x1b[2J\\u202e"


PROBES = """probes:
  knn: {layer: both}
  knn_curve: {}
  linear: {layer: both}
  linear_layers: {}
  linear_sgd: {epochs: 2}
  nearest_mean: {}
  ridge: {layer: both}
  loranpac: {width: 50}
  kmeans: {}
  geometry: {}
  retrieval: {}
  per_class: {}
  calibration: {}
  finetune: {epochs: 1}
"""


@pytest.mark.parametrize("keep", ["encoder", "all"])
def test_evaluate_gives_the_records_scores_of_every_probe(
    keep: str, tmp_path: Path, parse: Parse, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run, _ = train(parse, text, tmp_path, CONVNET + "\n" + PROBES, keep)
    path = path_of(tmp_path, run)
    record, curves = Executor(machine(tmp_path, keep))(run)
    records.write(tmp_path, run, record, curves)
    found = cl.evaluate(path, budgets=["5/class"], repetitions=2, progress=False)
    (again,) = found.scored_again
    expected = {name for name in record["scores"] if keep == "all" or not name.startswith("projection_")}
    assert again.scores.keys() >= expected > {"knn_top1", "linear_top1_labelled", "ridge_top1", "loranpac_top1"}
    assert max(map(abs, again.differences.values())) <= 1e-5
    told = found.text()
    assert ("the projector was not kept" in told) == (keep == "encoder")
    assert f"nt_xent on digits {run.id}: the probes of its run, measured again" in told
    (scores,) = found.results
    assert len(scores.budgets[0]) == 2
    records.path_of(tmp_path, run).unlink()
    assert cli.main(["evaluate", str(path)]) == cli.BAD_INPUT
    assert "must lie in the results folder of its run. Got no record" in capsys.readouterr().err
