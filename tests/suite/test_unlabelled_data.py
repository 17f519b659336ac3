"""Data without any training label, and losses that cannot do without."""

from pathlib import Path

import numpy as np
import pytest

from cl_semisup.errors import SuiteError
from cl_semisup.suite import suite


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A folder of data with 20 unlabelled training images."""
    images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 4
    arrays = {"train_images": images, "test_images": images, "test_labels": labels}
    np.savez(tmp_path / "x.npz", **arrays, train_labels=np.full(20, -1))
    np.savez(tmp_path / "y.npz", **arrays, train_labels=np.where(np.arange(20), -1, 2))
    return str(tmp_path)


def asked(text: str, losses: str, file: str = "x.npz") -> str:
    text = text.replace("[nt_xent, clop]", losses).replace("batch_size: 128", "batch_size: 8")
    return text.replace("digits", f"{{arrays: {{file: {file}}}}}")


@pytest.mark.parametrize("loss", ["cross_entropy", "paws", "unhinged", "fedrcl", "{simo: {unlabelled: out}}"])
def test_a_loss_that_needs_labelled_images_is_refused_where_it_is_named(loss: str, text: str, data: str) -> None:
    with pytest.raises(SuiteError) as caught:
        suite.parse(asked(text, f"[nt_xent, {loss}]"), "s.yaml", data)
    (problem,) = caught.value.problems
    rule = "needs training images with labels: the data have none"
    assert problem.startswith("s.yaml:4:19: losses[1]: ") and f"{rule}. Got " in problem


@pytest.mark.parametrize("losses", ["nt_xent", "[supcon, clop]", "{simo: {unlabelled: own}}"])
def test_other_losses_need_no_label(losses: str, text: str, data: str) -> None:
    assert suite.parse(asked(text, losses), "s.yaml", data).runs


def test_a_single_label_is_enough(text: str, data: str) -> None:
    assert suite.parse(asked(text, "cross_entropy", "y.npz"), "s.yaml", data).runs


@pytest.mark.parametrize(
    ("named", "problems"),
    [
        ("{arrays: {file: x.npz}}", 1),
        ("[glyphs, {arrays: {file: x.npz}}]", 1),
        ("[{arrays: {file: y.npz}}, glyphs]", 0),
        ("{arrays: {file: z.npz}}", 1),
    ],
)
def test_a_probe_of_other_data_needs_their_labels(named: str, problems: int, text: str, data: str) -> None:
    text += f"probes: {{transfer: {{datasets: {named}}}}}\n"
    if not problems:
        assert suite.parse(text, "s.yaml", data).runs
        return
    with pytest.raises(SuiteError) as caught:
        suite.parse(text, "s.yaml", data)
    (problem,) = caught.value.problems
    rule = "needs training images with labels: these data have none. Got 'arrays'. Leave them out."
    assert problem.startswith("s.yaml:10:")
    assert "probes.transfer.datasets: " in problem
    assert rule in problem or "Got no file" in problem


def test_a_probe_leaves_out_the_runs_own_data_also_without_labels(text: str, data: str) -> None:
    text = asked(text, "nt_xent") + "probes: {transfer: {datasets: [{arrays: {file: x.npz}}, glyphs]}}\n"
    assert suite.parse(text, "s.yaml", data).runs
