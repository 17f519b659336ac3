"""Values and gradients of published losses on fixed inputs, computed by other people's code (named on each row)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cl_semisup import losses
from cl_semisup.measures import geometry

VECTORS = json.loads((Path(__file__).parent / "loss_vectors.json").read_text("utf-8"))
ROWS = [
    pytest.param(case, row, id=f"{case['batch']}-{row['loss']}-{json.dumps(row['params'])}-{row['labels']}")
    for case in VECTORS["cases"]
    for row in case["losses"]
]


METRICS = [
    pytest.param(case, row, id=f"{case['batch']}-{row['metric']}")
    for case in VECTORS["cases"]
    for row in case["metrics"]
]
MEASURES = {
    "alignment": geometry.alignment,
    "uniformity": lambda u, _: geometry.uniformity(u),
    "effective_rank": lambda z, _: geometry.effective_rank(z),
}


@pytest.mark.parametrize(("case", "row"), METRICS)
def test_metrics_agree_with_the_reference(case: dict[str, Any], row: dict[str, Any]) -> None:
    z1, z2 = (torch.tensor(case["inputs"][z], dtype=torch.float64) for z in ("z1", "z2"))
    if "normalised" in row["input"]:
        z1, z2 = (torch.nn.functional.normalize(z, dim=1) for z in (z1, z2))
    assert float(MEASURES[row["metric"]](z1, z2)) == pytest.approx(row["value"], abs=1e-7)


def build(name: str, params: dict[str, Any], case: dict[str, Any]) -> Any:
    if name == "clop_prototype_term":
        loss = losses.build("clop", dim=case["dim"], classes=case["classes"], base="none", **params).double()
        loss.prototypes.copy_(torch.tensor(case["inputs"]["prototypes"], dtype=torch.float64))
        return loss
    if name in ("normface", "ntce", "nonl"):
        loss = losses.build(name, dim=case["dim"], classes=case["classes"], **params).double()
        with torch.no_grad():
            loss.prototypes.copy_(torch.tensor(case["inputs"]["prototypes"], dtype=torch.float64))
        return loss
    if name == "vrn":
        return losses.build(name, images=case["batch"], **params)
    kept = {"normalize": False} if name == "mmcr" else {}  # theirs takes the rows as they come
    return losses.build(name, **params, **kept)


@pytest.mark.parametrize(("case", "row"), ROWS)
def test_agrees_with_the_reference(case: dict[str, Any], row: dict[str, Any]) -> None:
    z1, z2 = (torch.tensor(case["inputs"][z], dtype=torch.float64, requires_grad=True) for z in ("z1", "z2"))
    labels = None if row["labels"] is None else torch.tensor(case["inputs"][row["labels"]])
    value = build(row["loss"], row["params"], case)(z1, z2, labels)
    g1, g2 = torch.autograd.grad(value, (z1, z2))
    found = {"value": value.item(), "grad_z1_norm": g1.norm().item(), "grad_z2_norm": g2.norm().item()}
    for key, number in found.items():
        assert number == pytest.approx(row[key], rel=1e-8, abs=1e-10), key
    assert g1[0].tolist() == pytest.approx(row["grad_z1_row0"], rel=1e-7, abs=1e-10)
