"""Classes of one owner found among those of another, by name and never by the order in which they stand.

    "n01440764" = "tench, Tinca tinca" = "tench" = "Tinca tinca" = "tench_0"        "aquarium_fish" = "Aquarium fish"

One rule for all commands: Unicode is normalised, case, underscores and characters that no file name can have do not
count, ImageNet's synsets, which name the folders of its images, stand for their descriptions, and a class map for
whatever no rule can know.  Names that say a number, such as folders "0" to "11", mean that number where the other side
has no names.
"""

import difflib
import logging
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from unicodedata import normalize

from .files import read_json_object
from .imagenet import IMAGENET_CLASSES, described, imagenet_names, synset_in, synsets_of

logger = logging.getLogger(__name__)
RENAME = "rename them"
FOREIGN = "it is of other images: train one of these classes by train_classifier(), or rename them"
MAP = ", or give a class map (class_map=FILE)"
SHOWN = 5  # names in an error; the others are counted
LONGEST = 60  # letters of a class in a numbered folder's name
UNSAFE = re.compile(r'[\x00-\x1f/\\:*?"<>|]')  # in a file name, on one system or another
NUMBER = re.compile(r"(?:(?:label|class|new)[ _-]?)?([0-9]{1,9})")
NUMBERED = re.compile(r"([0-9]{1,9})[_~](.+)")  # as layouts.numbered_folders writes them
TOLD_APART = re.compile(r"(.+)_([0-9]{1,9})")


def match_classes(
    wanted: Mapping[int, str],
    known: Mapping[int, str],
    owner: str = "the classifier",
    mapping: Mapping[str, str | int] | None = None,
    *,
    places: bool = False,
    shared: bool = False,
    trainable: bool = False,
) -> dict[int, int]:
    """Labels of ``wanted`` to labels of ``known``, by class name; commas separate synonyms, case does not count.

    Whole names come before first synonyms, and those before others.  A name that ``known`` has twice (ImageNet has two
    cranes) goes to the equal label if that is one of them, or is told apart as ``crane_517``.  On either side a name
    may be an ImageNet synset, which is never doubtful where the other side has the 1000 classes in their usual order.

    Where ``known`` has no names (LABEL_0, or just numbers), names of ``wanted`` that say a number mean it, and those of
    ImageNet mean its numbers if ``known`` has 1000 classes.

    Args:
        wanted: label to class name of a pipeline or a pool.
        known: the same of the classifier.
        owner: what to call ``known`` in an error.
        mapping: name in ``wanted`` to name or label in ``known``, of those that no rule finds; see ``read_class_map``.
            None where a user can give no class map, so that no error asks for one.
        places: labels of ``known`` are places in a list, as of sorted folders, so that a pipeline without class names
            cannot have its numbers matched with them.
        shared: several classes of ``wanted`` may be one of ``known``, as one target may be that of several classes.
        trainable: ``known`` is of a classifier, in whose place one can be trained where it lacks all of ``wanted``.

    Raises:
        ValueError: names are missing in ``known`` or fit several of its classes, with the nearest ones; two classes are
            one there; or ``mapping`` speaks of a class that either side lacks.
    """
    if not mapping and dict(wanted) == dict(known):
        return {label: label for label in wanted}
    mapped = _mapped(wanted, known, owner, mapping or {})
    rest = {label: name for label, name in wanted.items() if label not in mapped}
    found = _match(rest, known, owner, places, FOREIGN if trainable else RENAME, "" if mapping is None else MAP)
    if not shared:  # classes of a class map may be, which says so on purpose
        _require_different(rest, found, known, owner)
    return mapped | found


def matching_classes(
    wanted: Mapping[int, str],
    known: Mapping[int, str],
    owner: str,
    mapping: Mapping[str, str | int] | None = None,
    *,
    places: bool = False,
) -> dict[int, int]:
    """As ``match_classes``, but without the classes that ``known`` lacks, and with no class map but a right one.

    Raises:
        ValueError: two names are one class there, or ``mapping`` speaks of a class that either side lacks.
    """
    try:
        return match_classes(wanted, known, owner, mapping, places=places)
    except ValueError:
        mapped = _mapped(wanted, known, owner, mapping or {})
        found = _match_synsets(wanted, known)
        rest = described({label: name for label, name in wanted.items() if label not in found})
        named = _found_by_name(rest, _Known(described(known)))
        found |= {label: among for label, among in named.items() if among is not None} | mapped
        _require_different(wanted, found, known, owner)
        return found


def classes_named(texts: Sequence[str], known: Mapping[int, str], owner: str) -> list[list[int]]:
    """Labels that each text asks for, as a user types it: a class by any of its names, or several with commas between.

    Raises:
        ValueError: a part of a text names no class, or several.
    """
    parts = [parts_of(text, known) for text in texts]
    flat = [part for some in parts for part in some]
    # numbers below zero, so that no position is taken for a label when a name has several
    found = _match({-1 - i: part for i, part in enumerate(flat)}, known, owner, places=True)
    numbers = count(-1, -1)
    return [list(dict.fromkeys(found[next(numbers)] for _ in some)) for some in parts]


def labels_typed(text: str, known: Mapping[int, str], owner: str) -> list[int]:
    """Labels of "name; name; 3", or with commas where no class is called so: names, synsets or numbers.

    Args:
        known: label to class name; empty if there are no names, so that only numbers are understood.

    Raises:
        ValueError: a part names no class, or several; or a number is the label of one class and the name of another.
    """
    parts = [part for some in names_typed([text]) for part in parts_of(some, known)]
    if not parts:
        raise ValueError(f"the classes {text!r} name none; give names or labels with ';' between, or leave them out")
    numbers = {part: int(part) for part in parts if part.isdecimal()}
    for part, number in numbers.items():
        called = [label for label, name in known.items() if _whole(name) == part]
        if called and number in known and called != [number]:
            raise ValueError(
                f"{part!r} is the label of {known[number]!r} and the name of another class of {owner}, {called[0]}; "
                f"give {known[number]!r} or '{part}_{called[0]}'"
            )
        if called and number not in known:
            numbers[part] = called[0]
    words = list(dict.fromkeys(part for part in parts if part not in numbers))
    found = dict(zip(words, classes_named(words, known, owner), strict=True)) if words else {}
    return list(dict.fromkeys(label for part in parts for label in found.get(part, [numbers.get(part, -1)])))


def names_typed(texts: Iterable[str]) -> list[str]:
    """The parts of one or several texts such as "tench; church", which may hold commas."""
    texts = [texts] if isinstance(texts, str) else texts  # which is an iterable of its letters too
    return [part.strip() for text in texts for part in text.split(";") if part.strip()]


def parts_of(text: str, known: Mapping[int, str]) -> list[str]:
    """The names in a text with commas: the text itself where a class is called so."""
    if "," not in text or any(_plain(text) == _plain(name) for name in known.values()):
        return [text.strip()]
    return [part.strip() for part in text.split(",") if part.strip()] or [text]


def read_class_map(path: str | Path) -> dict[str, str | int]:
    """A class map from a JSON file such as ``{"Sneaker": "running shoe", "Bag": 414}``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no JSON object, or a value is neither a name nor a label.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no class map at {path}; write one such as {{"Bag": "handbag"}}')
    mapping = read_json_object(Path(path))
    wrong = [name for name, target in mapping.items() if isinstance(target, bool) or not isinstance(target, str | int)]
    if wrong:
        raise ValueError(
            f"the class map {path} gives neither a class name nor a whole number to {listed(map(repr, wrong), SHOWN)}; "
            "mend those values"
        )
    return mapping


def own_part(mapping: Mapping[str, str | int] | None, names: Iterable[str]) -> dict[str, str | int]:
    """What a class map for several sets says of the classes of one."""
    known = set(names)
    return {name: target for name, target in (mapping or {}).items() if name in known}


def require_mapped(mapping: Mapping[str, str | int] | None, owners: Iterable[Mapping[int, str]]) -> None:
    """Check that each class that a map for several sets speaks of is one of any of them.

    Raises:
        ValueError: one is not; it is named.
    """
    known = {name for names in owners for name in names.values()}
    if foreign := [repr(name) for name in mapping or {} if name not in known]:
        raise ValueError(
            f"the class map speaks of {listed(foreign, SHOWN)}, but the classes are {listed(sorted(known), SHOWN)}; "
            "give it their names as they stand there"
        )


def folder_names(class_names: Mapping[int, str]) -> dict[int, str]:
    """A safe, distinct folder name for each label: the first synonym, without characters that a file system refuses."""
    safe = {label: UNSAFE.sub("_", name.split(",")[0]).strip(" .") or "class" for label, name in class_names.items()}
    return _told_apart(safe, str.casefold)  # two names that differ in case are one on many disks


def distinct_names(class_names: Mapping[int, str]) -> dict[int, str]:
    """The names themselves, and ``crane_517`` for a name that another label has already (ImageNet has two cranes)."""
    return _told_apart(class_names, str)


def _told_apart(names: Mapping[int, str], key: Callable[[str], str]) -> dict[int, str]:
    apart: dict[int, str] = {}
    taken: set[str] = set()
    for label, name in sorted(names.items()):  # whatever their order, so that some keep the names that all have
        while key(name) in taken:
            name = f"{name}_{label}"
        apart[label] = name
        taken.add(key(name))
    return {label: apart[label] for label in names}


def _mapped(
    wanted: Mapping[int, str], known: Mapping[int, str], owner: str, mapping: Mapping[str, str | int]
) -> dict[int, int]:
    require_mapped(mapping, [wanted])
    labels: dict[str, int] = {name: target for name, target in mapping.items() if not isinstance(target, str)}
    if missing := [str(target) for target in labels.values() if target not in known]:
        raise ValueError(
            f"the class map leads to {listed(missing, SHOWN)}, but {owner} has {len(known)} classes, "
            f"{min(known, default=0)} to {max(known, default=0)}; give names or labels of those"
        )
    names = [name for name in mapping if name not in labels]
    # numbers below zero, so that no position is taken for a label when a name has several
    targets = _match({-1 - i: str(mapping[name]) for i, name in enumerate(names)}, known, owner, places=True)
    labels |= {name: targets[-1 - i] for i, name in enumerate(names)}
    return {label: labels[name] for label, name in wanted.items() if name in labels}


def _match(
    wanted: Mapping[int, str],
    known: Mapping[int, str],
    owner: str,
    places: bool,
    foreign: str = RENAME,
    by_map: str = "",
) -> dict[int, int]:
    """``foreign`` is what to do where ``known`` lacks all of ``wanted``, and ``by_map`` what else always helps."""
    found = _match_synsets(wanted, known)
    rest = {label: name for label, name in wanted.items() if label not in found}
    if not rest:
        return found
    if not places and all(name == f"LABEL_{label}" for label, name in rest.items()):
        return found | _match_as_a_whole(rest, known, owner)
    if known and all(number_in(name) == label for label, name in known.items()):
        return found | _match_without_names(rest, known, owner, places, foreign, by_map)
    rest, known = described(rest), described(known)
    return found | _match_by_name(rest, known, owner, foreign, by_map)


def _match_synsets(wanted: Mapping[int, str], known: Mapping[int, str]) -> dict[int, int]:
    if not any(map(synset_in, (*wanted.values(), *known.values()))):
        return {}
    usual = (_plain, _synonyms)
    ours, theirs = synsets_of(wanted, *usual), synsets_of(known, *usual)
    label_of: dict[str, int] = {}
    for label, synset in theirs.items():
        label_of.setdefault(synset, label)
    return {label: label_of[synset] for label, synset in ours.items() if synset in label_of}


def number_in(name: str) -> int | None:
    """The number that a name says, such as 7 for "7", "LABEL_7", "class 7" and "new007" (SRe2L); None for others."""
    found = NUMBER.fullmatch(normalize("NFKC", name).strip().casefold())
    return None if found is None else int(found[1])


def _match_as_a_whole(wanted: Mapping[int, str], known: Mapping[int, str], owner: str) -> dict[int, int]:
    """A pipeline without class names and a classifier of as many classes have the same numbers."""
    if not (set(wanted) <= set(known) and len(wanted) == len(known)):
        raise ValueError(
            f"{owner} has {len(known)} classes, but {len(wanted)} without names are needed; "
            "use a classifier trained on the same classes, or set config.id2label"
        )
    return {label: label for label in wanted}


def _match_without_names(
    wanted: Mapping[int, str], known: Mapping[int, str], owner: str, places: bool, foreign: str, by_map: str
) -> dict[int, int]:
    said = {label: number_in(name) for label, name in wanted.items()}
    numbers = {label: number for label, number in said.items() if number is not None}
    strange = [wanted[label] for label, number in said.items() if number is None]
    if not strange and (beyond := [wanted[label] for label, number in numbers.items() if number not in known]):
        way = "add images of these classes, or leave them out" if places else "use a classifier of these classes"
        raise ValueError(
            f"{owner} has {len(known)} classes without names, {min(known)} to {max(known)}, and none is "
            f"{listed(map(repr, beyond), SHOWN)}; {way}"
        )
    if not strange:
        if 1 < len(numbers) < len(known) and set(numbers.values()) == set(range(len(numbers))):
            logger.warning(
                "the classes %s are taken for the first labels of %s, whose %d classes have no names; sets of a few "
                "classes often number them anew: rename them if this one does",
                listed(wanted.values()), owner, len(known),
            )  # fmt: skip
        return numbers
    if set(known) == set(range(IMAGENET_CLASSES)):
        among = f"{owner}, whose {IMAGENET_CLASSES} classes are without names and taken for ImageNet's,"
        return _match_by_name(described(wanted), imagenet_names(), among, foreign, by_map)
    raise ValueError(
        f"{owner} has {len(known)} classes without names, so that {listed(map(repr, strange), SHOWN)} cannot be found; "
        f'set its config.id2label, or give a class map such as {{"{strange[0]}": 0}}'
    )


def _match_by_name(
    wanted: Mapping[int, str], known: Mapping[int, str], owner: str, foreign: str, by_map: str
) -> dict[int, int]:
    table = _Known(known)
    found = _found_by_name(wanted, table)
    if missing := [label for label, among in found.items() if among is None]:
        if min(wanted) >= 0 and len(missing) == len(wanted) and None not in map(number_in, wanted.values()):
            raise ValueError(_numbers_without_names(wanted, known, owner) + by_map)
        reasons = [table.reason(wanted[label]) for label in missing[:SHOWN]]
        more = f", and {len(missing) - SHOWN} more such names" if len(missing) > SHOWN else ""
        way = (foreign if len(missing) == len(wanted) else RENAME) + by_map
        way = "check how they are spelled" if max(missing) < 0 else way  # typed, see classes_named
        raise ValueError(f"{owner} has {'; '.join(reasons)}{more}; {way}")
    return {label: among for label, among in found.items() if among is not None}


def _numbers_without_names(wanted: Mapping[int, str], known: Mapping[int, str], owner: str) -> str:
    numbers, theirs = list(map(repr, wanted.values())), list(known.values())
    return (
        f"{owner} calls its classes {listed(map(repr, theirs), 2)}, and the numbers {listed(numbers, 2)} name none of "
        f"them: they may be its labels, or places among fewer classes; call them by its names"
    )


def _found_by_name(wanted: Mapping[int, str], table: "_Known") -> dict[int, int | None]:
    twice = {name for name, times in Counter(wanted.values()).items() if times > 1}
    apart = distinct_names(wanted)
    return {label: table.label_of(label, name, apart[label], name in twice) for label, name in wanted.items()}


def _require_different(
    wanted: Mapping[int, str], found: Mapping[int, int], known: Mapping[int, str], owner: str
) -> None:
    first: dict[int, int] = {}
    for label, theirs in found.items():
        if (other := first.setdefault(theirs, label)) != label:
            raise ValueError(
                f"the classes {wanted[other]!r} ({other}) and {wanted[label]!r} ({label}) are both {known[theirs]!r} "
                f"({theirs}) of {owner}; join them, or give a class map that tells them apart"
            )


class _Known:
    """Classes by everything that they may be called: each name to the labels that have it."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._whole = self._by(lambda name: {_whole(name)})
        self._first = self._by(lambda name: {_plain(name.split(",")[0])})
        self._synonyms = self._by(_synonyms)

    def _by(self, keys: Callable[[str], set[str]]) -> dict[str, set[int]]:
        labels_of: dict[str, set[int]] = {}
        for label, name in self._names.items():
            for key in keys(name):
                labels_of.setdefault(key, set()).add(label)
        return labels_of

    def label_of(self, label: int, name: str, apart: str, twice: bool) -> int | None:
        """The class that is meant; None where there is none, or several."""
        own = label in self._names and _whole(self._names[label].split(",")[0]) == _whole(name)
        if twice and own:
            return label
        for text in dict.fromkeys((apart, name)):  # a second crane is crane_517 before it is just a crane
            found = self._whole.get(_whole(text)) or self._told_apart(text)
            if found == {label} or (found and len(found) == 1 and not own):
                return next(iter(found))
            if found:  # the one that is called so, and another with this number that is first called so
                return label if label in found else None
        for found in (self._first.get(_plain(name.split(",")[0])), self._any_of(name)):
            if found and (len(found) == 1 or label in found):
                return next(iter(found)) if len(found) == 1 else label
        return None

    def _told_apart(self, name: str) -> set[int] | None:
        """The class of ``crane_517`` or ``517_crane``, as pools call folders of classes."""
        numbered = NUMBERED.fullmatch(_whole(name))
        first = self._names.get(int(numbered[1]), "").split(",")[0] if numbered else ""
        if numbered and any(key(first) == key(numbered[2]) != "" for key in (_letters, _plain)):
            return {int(numbered[1])}
        found = TOLD_APART.fullmatch(_whole(name))
        if found is None or (label := int(found[2])) not in self._names:
            return None
        base = self._told_apart(found[1]) == {label} or _plain(found[1]) in _synonyms(self._names[label])
        return {label} if base else None

    def _any_of(self, name: str) -> set[int]:
        return set().union(*(self._synonyms.get(key, set()) for key in _synonyms(name)))

    def reason(self, name: str) -> str:
        """Why a name is not one of these classes, with what to call it, or the nearest."""
        if several := self._any_of(name):
            ways = ", ".join(f"{name}_{number}" for number in sorted(several))
            return f"several classes called {name!r} (call the class or its folder {ways})"
        near = difflib.get_close_matches(_plain(name), list(self._synonyms), n=3, cutoff=0.5)
        written = {_plain(part): part.strip() for whole in self._names.values() for part in whole.split(",")}
        shown = ", ".join(written.get(one, one) for one in near)
        hint = f"the nearest are {shown}" if near else f"it knows {', '.join(list(self._whole)[:SHOWN])}"
        return f"no class called {name!r} ({hint})"


def _whole(name: str) -> str:
    return normalize("NFC", name).strip()


def _plain(name: str) -> str:
    """What two spellings of one name share, also that of its folder."""
    plain = normalize("NFKC", normalize("NFKC", UNSAFE.sub("_", name)).casefold()).replace("_", " ").strip(" .")
    return str(int(plain)) if plain.isdecimal() else plain


def ascii_name(name: str) -> str:
    """What a numbered folder keeps of a name: letters and digits that no file system changes, words joined by ``-``."""
    bare = normalize("NFKD", name).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9]+", "-", bare)[:LONGEST].strip("-")


def _letters(name: str) -> str:
    """What a name and that of its numbered folder share, which is enough beside the number."""
    return ascii_name(name).replace("-", "").lower()


def _synonyms(name: str) -> set[str]:
    return {_plain(part) for part in [name, *name.split(",")]} - {""}


def listed(names: Iterable[object], most: int = 3) -> str:
    """Names for an error, as many as are easily read; the others are counted."""
    texts = list(map(str, names))
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")
