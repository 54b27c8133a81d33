"""Classes of one owner found among those of another, by name and never by the order in which they stand.

    "n01440764" = "tench, Tinca tinca" = "tench" = "Tinca tinca" = "tench_0"

ImageNet's synsets, which name the folders of its images, stand for their descriptions, and a class map for whatever
no rule can know.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .files import read_json_object

SYNSET = re.compile(r"n\d{8}")
SHOWN = 5  # names in an error; the others are counted


def match_classes(
    wanted: Mapping[int, str],
    known: Mapping[int, str],
    owner: str = "the classifier",
    mapping: Mapping[str, str | int] | None = None,
) -> dict[int, int]:
    """Labels of ``wanted`` to labels of ``known``, by class name; commas separate synonyms, case does not count.

    Whole names come before first synonyms, and those before others.  A name that ``known`` has twice (ImageNet has two
    cranes) goes to the equal label if that is one of them, or is told apart as ``crane_517``.  On either side a name
    may be an ImageNet synset, which is never doubtful where the other side has the 1000 classes in their usual order.

    Args:
        wanted: label to class name of a pipeline or a pool.
        known: the same of the classifier.
        owner: what to call ``known`` in an error.
        mapping: name in ``wanted`` to name or label in ``known``, of those that no rule finds; see ``read_class_map``.

    Raises:
        ValueError: names are missing in ``known`` or fit several of its classes, with the nearest ones; or ``mapping``
            speaks of a class that either side lacks.
    """
    found = _mapped(wanted, known, owner, mapping or {})
    rest = {label: name for label, name in wanted.items() if label not in found}
    synsets = any(map(_is_synset, (*rest.values(), *known.values())))
    if synsets:
        found |= _match_synsets(rest, known)
        rest = {label: name for label, name in rest.items() if label not in found}
    if not rest:
        return found
    if _unnamed(known) or _unnamed(rest):
        return found | _match_by_number(rest, known, owner)
    if synsets:
        rest, known = _described(rest), _described(known)
    return found | _match_by_name(rest, known, owner)


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
            f"the class map {path} gives neither a class name nor a whole number to {_listed(map(repr, wrong))}; "
            "mend those values"
        )
    return mapping


def folder_names(class_names: Mapping[int, str]) -> dict[int, str]:
    """A safe, distinct folder name for each label: the first synonym, without characters that a file system refuses."""
    safe = {
        label: re.sub(r'[\x00-\x1f/\\:*?"<>|]', "_", name.split(",")[0]).strip(" .") or "class"
        for label, name in class_names.items()
    }
    return _told_apart(safe, str.casefold)  # two names that differ in case are one on many disks


def distinct_names(class_names: Mapping[int, str]) -> dict[int, str]:
    """The names themselves, and ``crane_517`` for a name that another label has already (ImageNet has two cranes)."""
    return _told_apart(class_names, str)


def _told_apart(names: Mapping[int, str], key: Callable[[str], str]) -> dict[int, str]:
    apart: dict[int, str] = {}
    taken: set[str] = set()
    for label, name in names.items():
        while key(name) in taken:
            name = f"{name}_{label}"
        apart[label] = name
        taken.add(key(name))
    return apart


def _mapped(
    wanted: Mapping[int, str], known: Mapping[int, str], owner: str, mapping: Mapping[str, str | int]
) -> dict[int, int]:
    ours = set(wanted.values())
    if foreign := [repr(name) for name in mapping if name not in ours]:
        raise ValueError(
            f"the class map speaks of {_listed(foreign)}, but the classes are {_listed(wanted.values())}; "
            "give it their names as they stand there"
        )
    labels: dict[str, int] = {name: target for name, target in mapping.items() if not isinstance(target, str)}
    if missing := [str(target) for target in labels.values() if target not in known]:
        raise ValueError(
            f"the class map leads to {_listed(missing)}, but {owner} has {len(known)} classes, "
            f"{min(known, default=0)} to {max(known, default=0)}; give names or labels of those"
        )
    names = [name for name in mapping if name not in labels]
    # numbers below zero, so that no position is taken for a label when a name has several
    targets = match_classes({-1 - i: str(mapping[name]) for i, name in enumerate(names)}, known, owner) if names else {}
    labels |= {name: targets[-1 - i] for i, name in enumerate(names)}
    return {label: labels[name] for label, name in wanted.items() if name in labels}


def _match_synsets(wanted: Mapping[int, str], known: Mapping[int, str]) -> dict[int, int]:
    ours, theirs = _synsets_of(wanted), _synsets_of(known)
    label_of = {synset: label for label, synset in theirs.items()}
    return {label: label_of[synset] for label, synset in ours.items() if synset in label_of}


def _synsets_of(names: Mapping[int, str]) -> dict[int, str]:
    """Label to synset, of names that are one or stand at its place among the 1000 of ImageNet in their usual order."""
    from timm.data import ImageNetInfo

    found = {label: name.strip() for label, name in names.items() if _is_synset(name)}
    if set(names) == set(range(1000)):
        info = ImageNetInfo("imagenet-1k")
        for label, (synset, description) in enumerate(info.label_descriptions(as_dict=True).items()):
            first = description.split(",")[0]
            usual = {_plain(first), _plain(f"{first}_{label}"), _plain(f"LABEL_{label}")}
            if usual & _synonyms(label, names[label]):
                found[label] = synset
    return found


def _described(names: Mapping[int, str]) -> dict[int, str]:
    """The same classes with synsets replaced by what ImageNet calls them, also those beyond its 1000 classes."""
    from timm.data import ImageNetInfo

    describe = ImageNetInfo().label_name_to_description  # of all 21,844 synsets, not only of the usual subset
    described = dict(names)
    for label, name in names.items():
        if _is_synset(name):
            with suppress(KeyError):  # no synset of ImageNet's, so a name like any other
                described[label] = describe(name.strip())
    return described


def _is_synset(name: str) -> bool:
    return SYNSET.fullmatch(name.strip()) is not None


def _unnamed(names: Mapping[int, str]) -> bool:
    return all(name == f"LABEL_{label}" for label, name in names.items())


def _match_by_number(wanted: Mapping[int, str], known: Mapping[int, str], owner: str) -> dict[int, int]:
    ordered = _unnamed(wanted) or any(map(_is_synset, wanted.values()))  # numbers that come from the order of folders
    if not set(wanted) <= set(known) or (ordered and len(wanted) != len(known)):
        raise ValueError(
            f"{owner} has {len(known)} classes without names, but {len(wanted)} are needed; "
            "use a classifier trained on the same classes, or set its config.id2label"
        )
    return {label: label for label in wanted}


def _match_by_name(wanted: Mapping[int, str], known: Mapping[int, str], owner: str) -> dict[int, int]:
    tiers = [_labels_by(known, keys) for keys in (_whole, _folder_like, _first, _synonyms)]
    found = {label: _match_one(label, name, tiers) for label, name in wanted.items()}
    if missing := [label for label, among in found.items() if among is None]:
        reasons = [_reason(label, wanted[label], tiers) for label in missing[:SHOWN]]
        more = f", and {len(missing) - SHOWN} more such names" if len(missing) > SHOWN else ""
        raise ValueError(f"{owner} has {'; '.join(reasons)}{more}; rename them or map them to its classes")
    return {label: among for label, among in found.items() if among is not None}


Keys = Callable[[int, str], set[str]]
Tiers = Sequence[Mapping[str, set[int]]]


def _labels_by(known: Mapping[int, str], keys: Keys) -> dict[str, set[int]]:
    labels_of: dict[str, set[int]] = {}
    for label, name in known.items():
        for key in keys(label, name):
            labels_of.setdefault(key, set()).add(label)
    return labels_of


def _whole(label: int, name: str) -> set[str]:
    return {name.strip()}


def _folder_like(label: int, name: str) -> set[str]:
    return {f"{name.split(',')[0].strip()}_{label}"}  # what a pool calls the folder of a class whose name is taken


def _first(label: int, name: str) -> set[str]:
    return {_plain(name.split(",")[0])}


def _synonyms(label: int, name: str) -> set[str]:
    return {_plain(part) for part in [name, *name.split(",")]} - {""}


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")


def _match_one(label: int, name: str, tiers: Tiers) -> int | None:
    whole, folder_like, first, _ = tiers
    keyed = (whole.get(name.strip()), folder_like.get(name.strip()), first.get(_plain(name.split(",")[0])))
    for found in (*keyed, _with_any_synonym(label, name, tiers)):
        if found and (len(found) == 1 or label in found):
            return next(iter(found)) if len(found) == 1 else label
    return None


def _with_any_synonym(label: int, name: str, tiers: Tiers) -> set[int]:
    return set().union(*(tiers[-1].get(key, set()) for key in _synonyms(label, name)))


def _reason(label: int, name: str, tiers: Tiers) -> str:
    if several := _with_any_synonym(label, name, tiers):
        ways = ", ".join(f"{name}_{number}" for number in sorted(several))
        return f"several classes called {name!r} (call the class or its folder {ways})"
    near = difflib.get_close_matches(_plain(name), list(tiers[-1]), n=3, cutoff=0.5)
    hint = f"the nearest are {', '.join(near)}" if near else f"it knows {', '.join(list(tiers[0])[:SHOWN])}"
    return f"no class called {name!r} ({hint})"


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
