"""Selections stay what they were: records of an earlier build, made with the same seeds."""

import json
from pathlib import Path

import numpy as np
import pytest

from dag_diffusion import SelectionRule, TargetDistribution, select

RECORD = json.loads((Path(__file__).parent / "data" / "selections.json").read_text("utf-8"))
TARGETS = {
    "reference": TargetDistribution.from_reference({"a": RECORD["reference"]}),
    "hill": TargetDistribution.preset("hill"),
    "cliff": TargetDistribution.preset("cliff"),
    "beta": TargetDistribution.beta(0.3, 3),
    "uniform": TargetDistribution.uniform(),
    "constant": TargetDistribution.constant(0.3),
    "mixture": TargetDistribution.mixture(
        [TargetDistribution.preset("hill"), TargetDistribution.constant(0.2)], [0.7, 0.3]
    ),
    "none": None,
}


def name_of(case: dict) -> str:
    options = "-".join(f"{name}={value}" for name, value in case["rule"].items() if name != "method")
    return f"{case['rule']['method']}-{case['target']}-{case['size']}-{options}"


@pytest.mark.parametrize("case", RECORD["cases"], ids=name_of)
def test_selection_equals_that_of_the_earlier_build(case):
    found = select(
        RECORD["difficulties"],
        case["ipc"],
        target=TARGETS[case["target"]],
        method=SelectionRule(**case["rule"]),
        seed=case["seed"],
        class_name="a",
        names=RECORD["names"],
        features=np.array(RECORD["features"]),
        groups=RECORD["groups"],
    )
    one = found[case["size"]] if isinstance(found, dict) else found
    assert one.indices.tolist() == case["indices"]
    assert one.bins.tolist() == case["bins"]
    assert [list(one.quotas), list(one.found), list(one.thresholds)] == [
        case["quotas"],
        case["found"],
        case["thresholds"],
    ]
    if case["distance"] is None:
        assert one.distance is one.floor is None
    else:
        assert (one.distance, one.floor) == (pytest.approx(case["distance"]), pytest.approx(case["floor"]))
