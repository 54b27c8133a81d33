"""Classes matched by name, synset or class map, wherever the names come from; folders that a file system accepts."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import NAMES

from dag_diffusion.data.class_names import (
    folder_names,
    labels_typed,
    match_classes,
    matching_classes,
    names_typed,
    read_class_map,
)
from dag_diffusion.data.layouts import numbered_folders


@pytest.fixture(scope="module")
def imagenet() -> dict[int, str]:
    from transformers import TimmWrapperConfig

    settings = {"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {"input_size": [3, 224, 224]}}
    return {int(k): v for k, v in TimmWrapperConfig.from_dict(settings).id2label.items()}


@pytest.fixture(scope="module")
def synsets() -> dict[int, str]:
    from timm.data import ImageNetInfo

    return dict(enumerate(ImageNetInfo("imagenet-1k").label_names()))


def same(count: int) -> dict[int, int]:
    return {label: label for label in range(count)}


def test_one_text_of_classes_is_that_text_and_not_its_letters():
    assert (
        names_typed("great white shark; hen")
        == names_typed(["great white shark", "hen"])
        == ["great white shark", "hen"]
    )


def test_classes_match_by_any_synonym_whatever_the_order_and_case():
    assert match_classes({0: "BAG", 1: "boot"}, NAMES) == {0: 2, 1: 1}


@given(st.lists(st.text("abc XYZ_", min_size=1).map(str.strip).filter(bool), unique_by=str.casefold, max_size=8))
def test_classes_find_themselves_in_any_order(names):
    known = {label: name for label, name in enumerate(reversed(names))}
    wanted = dict(enumerate(names))
    assert {known[to]: wanted[of] for of, to in match_classes(wanted, known).items()} == {name: name for name in names}


def test_name_that_stands_twice_goes_to_the_equal_label():
    cranes = {134: "crane", 517: "crane"}
    assert match_classes({517: "crane"}, cranes) == {517: 517}
    assert match_classes({3: "crane_517"}, cranes) == {3: 517}
    with pytest.raises(ValueError, match="call the class or its folder crane_134, crane_517"):
        match_classes({3: "crane"}, cranes)


def test_main_name_goes_before_another_classes_synonym():
    names = {82: "ruffed grouse, partridge", 86: "partridge", 264: "Cardigan, Cardigan Welsh corgi", 474: "cardigan"}
    assert match_classes({0: "partridge", 1: "cardigan"}, names) == {0: 86, 1: 474}
    assert match_classes({0: "boot"}, {0: "Ankle boot, boot", 1: "boot"}) == {0: 1}


def test_every_folder_of_an_imagenet_pool_is_found_again(imagenet):
    folders = folder_names(imagenet)
    assert match_classes(folders, imagenet) == same(1000)
    doubtful = {"crane", "maillot", "Cardigan"}  # the last a dog, and a jacket whose folder is cardigan_474
    told = [label for label in imagenet if imagenet[label] not in doubtful and folders[label] not in doubtful]
    shifted = {label + 5000: folders[label] for label in told}
    assert match_classes(shifted, imagenet) == {label + 5000: label for label in told}


def test_every_unmatched_name_is_told_with_the_nearest():
    with pytest.raises(ValueError, match=r"'bags' \(the nearest are Bag\); no class called 'hat'"):
        match_classes({0: "bags", 1: "boot", 2: "hat"}, NAMES)


def test_many_unmatched_names_are_counted():
    with pytest.raises(ValueError, match=r"'hat 4'.*and 15 more such names") as error:
        match_classes({i: f"hat {i}" for i in range(20)}, NAMES)
    assert "hat 5" not in str(error.value)


@pytest.mark.parametrize(
    ("wanted", "trainable", "advice"),
    [
        ({0: "cat", 1: "dog"}, True, "it is of other images: train one of these classes by train_classifier"),
        ({0: "cat", 1: "boot"}, True, "rename them$"),
        ({0: "cat", 1: "dog"}, False, "rename them$"),
    ],
)
def test_training_is_advised_where_a_classifier_knows_none_of_the_classes(wanted, trainable, advice):
    with pytest.raises(ValueError, match=f"^the evaluator has no class called 'cat' .*; {advice}"):
        match_classes(wanted, NAMES, "the evaluator", trainable=trainable)


def test_classes_without_names_match_by_number_if_there_are_as_many():
    unnamed = {i: f"LABEL_{i}" for i in range(3)}
    assert match_classes(unnamed, NAMES) == same(3)
    with pytest.raises(ValueError, match="without names"):
        match_classes({i: f"LABEL_{i}" for i in range(4)}, NAMES)


def test_every_synset_is_its_own_class_by_its_description(synsets, imagenet):
    assert match_classes(synsets, imagenet) == same(1000)
    assert match_classes({label + 5000: name for label, name in synsets.items()}, imagenet) == {
        label + 5000: label for label in synsets
    }


def test_every_description_is_its_own_synset(synsets, imagenet):
    assert match_classes(imagenet, synsets) == same(1000)


def test_first_synonyms_stand_for_synsets_both_ways(synsets, imagenet):
    firsts = {label: name.split(",")[0] for label, name in imagenet.items()}
    assert match_classes(synsets, firsts) == match_classes(firsts, synsets) == same(1000)


def test_few_synset_folders_match_descriptions_by_name_not_by_position(imagenet):
    folders = {0: "n01440764", 1: "n03126707", 2: "n02012849"}  # tench, the crane that lifts, the crane that flies
    assert match_classes(folders, imagenet) == {0: 0, 1: 517, 2: 134}
    few = {0: "tench", 1: "goldfish"}
    assert match_classes(few, dict(enumerate(["n01443537", "n01440764"]))) == {0: 1, 1: 0}


def test_synsets_of_a_classifier_in_another_order_are_found_by_description(imagenet):
    shuffled = {label: imagenet[999 - label] for label in imagenet}
    assert match_classes({0: "n01440764"}, shuffled) == {0: 999}
    with pytest.raises(ValueError, match="several classes called 'crane'"):
        match_classes({0: "n03126707"}, shuffled)


def test_synset_beyond_the_thousand_goes_by_its_description():
    assert match_classes({0: "n00007846"}, {3: "dog", 7: "person, individual"}) == {0: 7}


def test_classifier_of_a_thousand_classes_without_names_takes_synsets_by_index():
    unnamed = {i: f"LABEL_{i}" for i in range(1000)}
    assert match_classes({0: "n03126707", 1: "n01440764"}, unnamed) == {0: 517, 1: 0}
    with pytest.raises(ValueError, match="without names"):  # else the folder's position would be taken for its index
        match_classes({0: "n03126707", 1: "n00007846"}, unnamed)


def test_place_of_a_folder_is_never_taken_for_a_label_of_a_classifier_without_names():
    for folders in ({0: "n03126707", 1: "n01440764"}, {0: "cat", 1: "dog"}):
        with pytest.raises(ValueError, match=r"2 classes without names, so that .* cannot be found; set its config"):
            match_classes(folders, {0: "LABEL_0", 1: "LABEL_1"})


@pytest.mark.parametrize("spelling", ["{}", "{:03d}", "LABEL_{}", "class {}", "class_{}"])
def test_names_that_say_numbers_mean_those_of_a_classifier_without_names(spelling):
    wanted = dict(enumerate(spelling.format(number) for number in (11, 3, 7)))
    for unnamed in ({i: f"LABEL_{i}" for i in range(12)}, {i: str(i) for i in range(12)}):
        assert match_classes(wanted, unnamed, places=True) == {0: 11, 1: 3, 2: 7}
    with pytest.raises(ValueError, match=r"12 classes without names, 0 to 11, and none is '12'; use a classifier of"):
        match_classes({0: "12"}, {i: f"LABEL_{i}" for i in range(12)})
    with pytest.raises(ValueError, match=r"2 classes without names, 1 to 2, and none is '3'; add images of these"):
        match_classes({0: "1", 1: "2", 2: "3"}, {1: "1", 2: "2"}, "the folder tests", places=True)


def test_words_of_imagenet_mean_its_numbers_where_a_thousand_classes_have_no_names():
    unnamed = {i: f"LABEL_{i}" for i in range(1000)}
    assert match_classes({0: "church", 1: "garbage truck", 2: "Tinca tinca"}, unnamed) == {0: 497, 1: 569, 2: 0}
    with pytest.raises(ValueError, match=r"without names and taken for ImageNet's, has no class called 'hat stand'"):
        match_classes({0: "church", 1: "hat stand"}, unnamed)


def test_one_name_written_in_several_ways_is_one_class():
    known = {0: "café", 1: "aquarium fish", 2: "T-shirt/top", 3: "Straße", 4: "7"}
    spellings = (
        ("cafe\u0301", "Aquarium_Fish", "T-shirt_top", "STRASSE", "007"),
        ("CAFÉ", "\uff41quarium fish", "t-shirt:TOP", "strasse", "7"),
    )
    for names in spellings:
        assert match_classes(dict(enumerate(names)), known) == same(5)


def test_numbered_folder_of_a_set_is_its_class():
    folders = {0: "2_Bag", 1: "0_T-shirt", 2: "1_Ankle-boot"}
    assert match_classes(folders, NAMES) == {0: 2, 1: 0, 2: 1}
    assert match_classes({0: "0_Strasse", 1: "1_猫"}, {0: "Straße", 1: "猫"}) == same(2)  # as others write them


def test_numbered_folders_of_a_set_are_its_classes_whatever_these_are_called():
    names = dict(enumerate(["tench, Tinca tinca", "Weißkohl", "Übung 1/100", "test tube", "bullet train", "a" * 200]))
    assert match_classes(numbered_folders(names), names) == same(6)


def test_two_names_of_one_class_are_refused_by_both_names():
    with pytest.raises(ValueError, match=r"'boot' \(0\) and 'Ankle boot' \(1\) are both 'Ankle boot, boot' \(1\)"):
        match_classes({0: "boot", 1: "Ankle boot"}, NAMES)
    assert match_classes({0: "Sneaker", 1: "boot"}, NAMES, mapping={"Sneaker": "boot"}) == {0: 1, 1: 1}  # on purpose


@pytest.mark.parametrize("wanted", [{0: "cat"}, {0: "cat", 1: "boot"}, {0: "00000", 1: "00001"}])
def test_class_map_is_asked_for_where_one_can_be_given(wanted):
    with pytest.raises(ValueError, match=r", or give a class map \(class_map=FILE\)$"):
        match_classes(wanted, NAMES, mapping={})
    with pytest.raises(ValueError, match=r"(rename them|call them by its names)$"):
        match_classes(wanted, NAMES)


def test_two_classes_of_one_name_go_to_their_own(imagenet):
    maillots = {638: "maillot", 639: "maillot"}
    assert match_classes(maillots, imagenet) == {638: 638, 639: 639}
    with pytest.raises(ValueError, match="several classes called 'maillot'"):  # the name says one, the label the other
        match_classes({639: "maillot"}, imagenet)
    cranes = {134: "crane", 517: "crane"}
    assert match_classes(cranes, {0: "crane", 1: "crane_517"}, places=True) == {134: 0, 517: 1}
    with pytest.raises(ValueError, match="are both 'crane'"):
        match_classes(cranes, {0: "crane", 1: "dog"}, places=True)


def test_numbers_of_a_pipeline_without_names_are_no_places_of_folders():
    unnamed = {i: f"LABEL_{i}" for i in range(3)}
    with pytest.raises(ValueError, match="'LABEL_0', 'LABEL_1' and 1 more name none of them"):
        match_classes(unnamed, {0: "bag", 1: "boot", 2: "coat"}, "the folder", places=True)


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("T-shirt,Bag", [0, 2]),
        ("Ankle boot, boot; Bag", [1, 2]),
        ("boot, Ankle boot", [1]),
        ("2", [2]),
        ("0,2;1;Bag", [0, 2, 1]),
        ("12", [12]),
    ],
)
def test_classes_that_are_typed_are_all_drawn(text, labels):
    assert labels_typed(text, NAMES, "the pipeline") == labels


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Bag, tote", "no class called 'tote'"),
        (" ; ", "name none"),
        ("", "name none"),
        ("hat", "no class called 'hat'"),
    ],
)
def test_classes_that_are_not_understood_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        labels_typed(text, NAMES, "the pipeline")


def test_number_that_is_one_classes_label_and_anothers_name_is_refused_with_both_ways_out():
    signs = {0: "30", 1: "50", 2: "0", 3: "80"}
    with pytest.raises(ValueError, match="give '30' or '0_2'"):
        labels_typed("0", signs, "the pipeline")
    assert labels_typed("0_2; 30; 80; 3", signs, "the pipeline") == [2, 0, 3]
    assert labels_typed("7", {7: "7"}, "the pipeline") == [7]


def test_name_that_only_looks_like_a_synset_is_a_name():
    assert match_classes({0: "n99999999"}, {0: "bag", 1: "n99999999"}) == {0: 1}


def test_class_map_leads_to_names_synonyms_or_labels_and_leaves_the_rest_to_their_names():
    wanted = {0: "Sneaker", 1: "bag", 2: "Shoe"}
    assert match_classes(wanted, NAMES, mapping={"Sneaker": "boot", "Shoe": 0}) == {0: 1, 1: 2, 2: 0}


def test_class_map_may_lead_to_a_classifier_without_names():
    assert match_classes({0: "Sneaker"}, {i: f"LABEL_{i}" for i in range(5)}, mapping={"Sneaker": 3}) == {0: 3}


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"Sneakers": 1}, "speaks of 'Sneakers'"),
        ({"Sneaker": 3}, "leads to 3, but the classifier has 3 classes, 0 to 2"),
        ({"Sneaker": "bots"}, "no class called 'bots'.*boot"),
    ],
)
def test_class_map_that_speaks_of_other_classes_is_refused(mapping, message):
    with pytest.raises(ValueError, match=message):
        match_classes({0: "Sneaker"}, NAMES, mapping=mapping)


def test_class_map_comes_from_a_json_file(tmp_path):
    (tmp_path / "map.json").write_text('{"Ärmel": "T-shirt", "Bag": 2}', "utf-8")
    assert read_class_map(tmp_path / "map.json") == {"Ärmel": "T-shirt", "Bag": 2}


@pytest.mark.parametrize("value", [1.5, True, None, ["Bag"], {"a": 1}])
def test_class_map_with_another_value_names_its_key(tmp_path, value):
    (tmp_path / "map.json").write_text(json.dumps({"Bag": "bag", "Hat": value}))
    with pytest.raises(ValueError, match="whole number to 'Hat'"):
        read_class_map(tmp_path / "map.json")


@pytest.mark.parametrize("text", ["{", "[]", "5", ""])
def test_class_map_that_is_no_json_object_is_refused(tmp_path, text):
    (tmp_path / "map.json").write_text(text)
    with pytest.raises(ValueError, match=r"map\.json is no JSON object"):
        read_class_map(tmp_path / "map.json")


def test_missing_class_map_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no class map at"):
        read_class_map(tmp_path / "map.json")


def test_folder_names_are_safe_and_distinct():
    names = folder_names(
        {0: "tench, Tinca tinca", 1: "a/b", 2: "../..", 3: "crane", 4: "Crane, bird", 5: "", 6: "Ärmel kurz"}
    )
    assert names[0] == "tench"
    assert names[6] == "Ärmel kurz"
    assert len({name.casefold() for name in names.values()}) == 7
    assert not any("/" in name or name.startswith(".") or not name for name in names.values())


@given(st.lists(st.text(max_size=6), max_size=8))
def test_folder_names_never_leave_their_folder_nor_fall_together(names):
    folders = list(folder_names(dict(enumerate(names))).values())
    assert len({folder.casefold() for folder in folders}) == len(names)
    assert not any(folder in (".", "..") or set(folder) & set("/\\\0") or not folder for folder in folders)


def test_folder_names_that_look_like_each_other_stay_apart():
    assert len(set(folder_names({0: "a", 1: "a_2", 2: "a"}).values())) == 3


@pytest.mark.parametrize("name", ["n02085620-Chihuahua", "151_n02085620", "151.n02085620-Chihuahua", "n02085620_ss"])
def test_synset_beside_a_number_or_word_is_that_class(name, imagenet):
    assert match_classes({0: name}, imagenet) == {0: 151}
    assert match_classes({0: name}, {0: "n01440764", 7: "n02085620"}) == {0: 7}


def test_synsets_of_one_description_stay_known_beside_a_class_that_is_not(imagenet):
    folders = {0: "n02012849", 1: "n03126707", 2: "our own dog"}  # both of the first are called crane
    assert matching_classes(folders, imagenet, "the pipeline") == {0: 134, 1: 517}


def test_two_folders_of_one_synset_are_refused_as_cao2_leaves_them(imagenet):
    with pytest.raises(ValueError, match=r"'n01440764' \(0\) and 'n01440764_ss' \(1\) are both 'tench"):
        match_classes({0: "n01440764", 1: "n01440764_ss"}, imagenet)


def test_folders_of_sre2l_mean_the_numbers_in_their_names():
    unnamed = {label: f"LABEL_{label}" for label in range(12)}
    assert match_classes({0: "new007", 1: "new00011"}, unnamed) == {0: 7, 1: 11}


def test_numbers_are_no_names_where_the_other_side_has_some(imagenet):
    for names in ({0: "00000", 1: "00001"}, {0: "new000", 1: "new001"}):
        with pytest.raises(ValueError, match="name none of them: they may be its labels, or places among fewer"):
            match_classes(names, imagenet)
        assert match_classes(names, imagenet, mapping={names[0]: 0, names[1]: "n02102040"}) == {0: 0, 1: 217}


def test_numbers_of_a_few_classes_are_told_to_be_taken_for_the_first_of_many(caplog):
    unnamed = {label: f"LABEL_{label}" for label in range(1000)}
    match_classes({0: "0", 217: "217"}, unnamed)
    match_classes({label: f"{label:05d}" for label in range(1000)}, unnamed)
    assert caplog.text == ""
    match_classes({label: f"{label:05d}" for label in range(10)}, unnamed)
    assert "taken for the first labels of the classifier, whose 1000 classes have no names" in caplog.text
