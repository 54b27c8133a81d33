"""Records of pools and sets: what the library wrote is found again, and other values are no obstacle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dag_diffusion.data.provenance import class_selections, generation_of, origin_of, selection_of

GENERATED = {"pipeline": "dit", "settings": {"images_per_class": 5}}
CLASS = {"class": "Bag", "quotas": [1], "found": [1], "deficits": [0], "distance": 0.1, "floor": 0.0}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["pool", "settings", "path"]), inner),
    max_leaves=8,
)


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_generation_is_found_however_often_a_set_was_chosen_again(depth):
    record = GENERATED
    for _ in range(depth):
        record = {"selection": {"method": "matching"}, "pool": {**record, "path": "/pool"}}
    found = generation_of(record)
    assert (found["pipeline"], found["settings"]) == (GENERATED["pipeline"], GENERATED["settings"])


def test_selection_and_origin_are_those_of_a_set_and_not_of_a_pool():
    record = {"selection": {"method": "matching"}, "pool": GENERATED | {"path": "/pool"}}
    assert (selection_of(record), origin_of(record)) == ({"method": "matching"}, "/pool")
    assert (selection_of(GENERATED), origin_of(GENERATED)) == ({}, None)


def test_class_without_a_part_of_its_record_is_left_out():
    broken = {name: value for name, value in CLASS.items() if name != "floor"}
    assert class_selections({"classes": [CLASS, broken, "Bag"]}) == [CLASS]


@given(JSON, JSON)
def test_nonsense_counts_as_absent(selection, pool):
    record = {"selection": selection, "pool": pool}
    assert isinstance(generation_of(record), dict)
    assert isinstance(class_selections(selection_of(record)), list)
    assert origin_of(record) is None or isinstance(origin_of(record), str)
