"""What takes images is refused for features at its place, and a suite must train something that its score sees."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cl_semisup import plugins
from cl_semisup.errors import InputError, SuiteError
from cl_semisup.suite import input_check, suite
from cl_semisup.suite.suite import Suite

TEXT = """\
question: Is it checked?
datasets: {features: {file: x.npz}}
encoder: ENCODER
projector: {layers: LAYERS}
losses: [LOSS]
label_fraction: 0.5
learning_rate: 0.1
batch_size: 8
repetitions: 1
epochs: 1
validation: all
"""


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Suite]:
    """Check the suite on 20 rows of 6 features, in 2 classes, with its words replaced and lines added."""
    random = np.random.default_rng(0)
    labels = {"train_labels": np.arange(20) % 2, "test_labels": np.arange(8) % 2}
    arrays = {"train": random.standard_normal((20, 6)), "test": random.standard_normal((8, 6))}
    np.savez(tmp_path / "x.npz", **arrays, **labels)
    np.savez(tmp_path / "wide.npz", **{key: array[:, :4] for key, array in arrays.items()}, **labels)
    np.savez(tmp_path / "two.npz", **arrays, **labels, train_view2=arrays["train"])

    def parse(
        lines: str = "", file: str = "x", encoder: str = "linear", layers: int = 1, loss: str = "nt_xent"
    ) -> Suite:
        text = TEXT.replace("ENCODER", encoder).replace("LAYERS", str(layers)).replace("LOSS", loss)
        return suite.parse(text.replace("x.npz", f"{file}.npz") + lines, "s.yaml", str(tmp_path))

    return parse


def problem(read: Callable[..., Suite], lines: str = "", **words: object) -> str:
    with pytest.raises(SuiteError) as caught:
        read(lines, **words)
    (found,) = caught.value.problems
    return found


def test_default_views_depend_on_the_file(read: Callable[..., Suite]) -> None:
    noise = {"feature_noise": {"strength": 0.5}}
    assert read().runs[-1].views == [noise, {"feature_dropout": {"probability": 0.2}}]
    assert read(file="two").runs[-1].views == [{"stored_view": {}}]
    assert read("views: {feature_noise: }", file="two").runs[-1].views == [noise]


def test_what_needs_images_is_refused(read: Callable[..., Suite]) -> None:
    found = problem(read, "probes: {corruptions: }")
    assert "s.yaml:12:22: probes.corruptions: needs images: the data have features. Got 'corruptions'. Leave" in found
    found = problem(read, loss="asymmetric_adversarial")
    assert "losses[0]: changes pixels between black and white: the data have features. Got 'asymmetric" in found
    assert "views: takes images, and features has features. Got 'crop_and_color'" in problem(read, "views: {flip: 0.5}")
    found = problem(read, "views: {stored_view: }")
    assert "views: needs several stored rows an image: features has one. Got 'stored_view'. Leave it out." in found


PICTURES_ONLY = """
from dataclasses import dataclass
from torch import nn

@dataclass(frozen=True)
class PicturesOnly:
    \"\"\"An encoder that needs room for a kernel.\"\"\"

    def build(self, channels: int, side: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.Flatten())
"""


@pytest.mark.usefixtures("forget_plugins")
def test_an_encoder_must_take_the_features(read: Callable[..., Suite], tmp_path: Path) -> None:
    (tmp_path / "pictures_only.py").write_text(PICTURES_ONLY)
    plugins.add(tmp_path / "pictures_only.py")
    found = problem(read, encoder="pictures_only")
    assert "encoder: must take rows of 6 features. Got 'pictures_only': RuntimeError: " in found
    assert found.endswith("Use linear, mlp or identity.")
    for encoder in ("mlp", "convnet"):
        assert read(encoder=encoder).runs


def test_transfer_is_between_data_of_one_kind(read: Callable[..., Suite]) -> None:
    found = problem(read, "probes: {transfer: {datasets: [digits]}}")
    assert "probes.transfer: needs data sets like the run's own, features of 6 columns. Got digits, images." in found
    found = problem(read, "probes: {transfer: {datasets: [{features: {file: wide.npz}}]}}")
    assert "features of 6 columns. Got features, features of 4 columns. Leave it out." in found


def test_a_frozen_encoder_needs_a_projector_and_a_score_of_projections(read: Callable[..., Suite]) -> None:
    found = problem(read, encoder="identity", layers=0)
    assert (
        "projector.layers: must have a layer: the encoder 'identity' has no weights, and nothing else shapes" in found
    )
    found = problem(read, encoder="identity")
    assert "score: must start with projection_: identity has no weights, so all losses share its features." in found
    lines = "score: projection_linear_top1\nprobes: {linear: {layer: both}}\n"
    assert read(lines, encoder="identity").score == "projection_linear_top1"


def test_a_data_set_of_ones_own_without_views_is_refused_with_its_file(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(
        "from dataclasses import dataclass\nfrom cl_semisup.datasets import Generated\n\n\n@dataclass(frozen=True)\n"
        "class Mine(Generated):\n    size: int = 8\n\n    def load(self, data_dir): ...\n"
    )
    plugins.add(own)
    try:
        with pytest.raises(InputError, match=r"mine\.py:1: mine: must not fail\. Got AttributeError: .*'views'"):
            input_check.default_views({"mine": {}}, tmp_path)
    finally:
        del plugins._user_files["datasets", "mine"]
