"""Images that are held out: no twin of them is trained on, and every class is."""

import numpy as np
import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from dag_diffusion.training.classifiers.folds import Dealing


@st.composite
def dealings(draw, across: bool = False) -> Dealing:
    """Up to four classes of some images, some of which are twins within their class, or across classes."""
    labels = np.array([label for label in range(draw(st.integers(2, 4))) for _ in range(draw(st.integers(2, 9)))])
    groups = np.array(draw(st.lists(st.integers(0, 6), min_size=len(labels), max_size=len(labels))))
    twins = groups if across else groups + 10 * labels
    if not across:  # a second one in each class
        firsts = np.unique(labels, return_index=True)[1]
        twins[firsts] = 1000 + firsts
        twins[firsts + 1] = 2000 + firsts
    names = [f"{index:03d}.png" for index in draw(st.permutations(range(len(labels))))]
    return Dealing(labels, twins, names, {label: f"class {label}" for label in range(4)}, draw(st.integers(0, 9)))


@given(dealings(), st.integers(2, 5))
def test_folds_keep_twins_together_and_leave_images_of_every_class(dealing, count):
    fold = dealing.folds(count)
    for group in np.unique(dealing.twins):
        assert len(set(fold[dealing.twins == group])) == 1
    for one in range(count):
        assert set(dealing.labels[fold != one]) == set(dealing.labels)


@given(dealings(), st.floats(0.01, 0.6))
def test_held_out_images_are_of_every_class_and_no_twins_of_the_others(dealing, share):
    held = dealing.held_out(share)
    assert not set(dealing.twins[held]) & set(dealing.twins[~held])
    assert set(dealing.labels[held]) == set(dealing.labels[~held]) == set(dealing.labels)


@given(dealings(across=True), st.integers(2, 4))
def test_twins_in_several_classes_stay_together_too(dealing, count):
    try:
        fold = dealing.folds(count)
    except ValueError:  # a class has nothing but twins
        reject()
    for group in np.unique(dealing.twins):
        assert len(set(fold[dealing.twins == group])) == 1


@given(st.booleans().flatmap(lambda across: dealings(across)), st.floats(0.01, 0.6))
def test_held_out_images_are_those_that_the_rule_names_group_by_group(dealing, share):
    order = sorted(range(len(dealing.names)), key=lambda index: dealing.names[index])
    out = {}
    for place, label in enumerate(sorted(set(dealing.labels.tolist()))):
        twins = [int(dealing.twins[index]) for index in order if dealing.labels[index] == label]
        groups = np.random.default_rng([dealing.seed, place]).permutation(list(dict.fromkeys(twins))).tolist()
        wanted = min(max(1, round(share * len(groups))), len(groups) - 1)
        for group in groups:  # counted anew at each, those with a twin in an earlier class among them
            out.setdefault(group, sum(out.get(other, False) for other in groups) < wanted)
    try:
        held = dealing.held_out(share)
    except ValueError:  # a class has nothing but twins
        reject()
    assert held.tolist() == [out[group] for group in dealing.twins.tolist()]


@given(dealings(), st.randoms(use_true_random=False))
def test_same_images_are_dealt_alike_in_any_order(dealing, random):
    order = list(range(len(dealing.names)))
    random.shuffle(order)
    names = [dealing.names[index] for index in order]
    other = Dealing(dealing.labels[order], dealing.twins[order], names, dealing.class_names, dealing.seed)
    assert (other.folds(3) == dealing.folds(3)[order]).all()
    assert (other.held_out(0.2) == dealing.held_out(0.2)[order]).all()


@pytest.mark.parametrize(("deal", "way"), [("held_out", "held_out=0"), ("folds", "give folds=0, add images")])
def test_class_of_one_image_is_named_with_a_way_out(deal, way):
    dealing = Dealing(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 2]), list("abcd"), {0: "cat", 1: "dog"}, 0)
    with pytest.raises(ValueError, match=f"class 'dog' has only one image, or equal ones.*{way}"):
        getattr(dealing, deal)(2)
