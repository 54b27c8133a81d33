"""Fetch a pool, a distilled set or a pipeline from the Hugging Face Hub, as a folder that every command reads.

    listing -> only images, rows, JSON, safetensors and words of tokenizers -> .FOLDER.pull-COMMIT -> checked -> rename

Pickles and code are programs of others: they are not even downloaded.  A pull that was cut off goes on when it is given
again; the folder appears whole or not at all.
"""

import glob
import logging
import shutil
from collections import Counter
from collections.abc import Sequence, Set
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, get_args

from dag_diffusion.classifiers.weights import PICKLES
from dag_diffusion.data.dataset_cards import CARD, LABELS, write_labels
from dag_diffusion.data.distilled_sets import bring_back, put_in_place, require_free, require_not_current
from dag_diffusion.data.files import (
    held,
    json_lines,
    read_json_object,
    require_no_mount,
    require_replaceable,
    write_atomically,
    write_json,
)
from dag_diffusion.data.images import image_suffixes
from dag_diffusion.data.layouts import misreading
from dag_diffusion.data.pools import PROVENANCE, read_pool
from dag_diffusion.data.rows import METADATA, names_elsewhere
from dag_diffusion.data.sources.folders import DECORATION
from dag_diffusion.data.sources.splits import split_of, splits_among
from dag_diffusion.evaluation.soft_labels import SOFT_LABELS, VIEW_LABELS
from dag_diffusion.evaluation.soft_labels.view_files import is_shard

from .errors import plain_errors
from .staging import EARLIER_FIGURES, FIGURES, INDEX, PIPELINE_CODE, Kind, is_part
from .upload import Shared, hub_api, require_name

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import DatasetInfo, ModelInfo


logger = logging.getLogger(__name__)
CODE = (".py", ".pyc", ".so", ".sh", ".ipynb")
TOKENIZERS = (".model", ".jinja", "merges.txt", "vocab.txt")  # ends of the names of their data, which run nothing
TABLES = (".parquet", ".arrow", ".csv", ".tar", ".zip", ".gz")
MOST_PATTERNS = 100  # names asked for one by one; more of them would take hours
SET_FILES = (METADATA, PROVENANCE, SOFT_LABELS, VIEW_LABELS, CARD, LABELS, *FIGURES)


def pull(
    repo: str,
    folder: str | Path,
    *,
    revision: str | None = None,
    repo_type: str | None = None,
    overwrite: bool = False,
) -> Shared:
    """Fetch a repository into a new folder.

    Args:
        repo: ``owner/name``.
        revision: branch, tag or commit; None for the newest.
        repo_type: ``dataset`` or ``model``; None: the one that exists.
        overwrite: replace an earlier pool, set or pipeline in the folder.

    Returns:
        What was fetched; ``place`` is the folder.

    Raises:
        ValueError: it is neither a set of images nor a pipeline, is not complete, names files outside the folder, or
            has weights only as pickles.
        FileExistsError: the folder holds something that would be lost.
        OSError: the Hub refuses or cannot be reached, see ``errors.plain_errors``.
    """
    require_name(repo)
    if repo_type not in (None, *get_args(Kind)):
        raise ValueError(
            f"the type of a repository cannot be {repo_type!r} here; give dataset or model, or leave it out"
        )
    folder = Path(folder).resolve()
    _require_free_or_known(folder, overwrite)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with held(folder.with_name(f".{folder.name}.lock"), folder), plain_errors(repo, revision):
        bring_back(folder)
        _require_free_or_known(folder, overwrite)
        api = hub_api()
        kind, info = _found(api, repo, repo_type, revision)
        names = api.list_repo_files(repo, repo_type=kind, revision=info.sha)
        parts = _parts_of(api, repo, info.sha, names) if kind == "model" else set()
        wanted = _wanted(repo, kind, names, parts)
        unfinished = folder.with_name(f".{folder.name}.pull-{info.sha[:12]}")
        _download(api, repo, kind, info.sha, wanted, unfinished)
        try:
            _check(unfinished, repo, kind, info.sha)
            _require_free_or_known(folder, overwrite)
            put_in_place(unfinished, folder, overwrite)
        finally:  # of no use any more; only what the network cut off is gone on with
            for left in folder.parent.glob(f".{glob.escape(folder.name)}.pull-*"):
                shutil.rmtree(left, ignore_errors=True)
    return Shared(repo=repo, kind=kind, place=str(folder), files=len(wanted))


def _require_free_or_known(folder: Path, overwrite: bool) -> None:
    if not (folder / INDEX).is_file():
        return require_free(folder, overwrite)
    require_replaceable(folder, "pipeline", lambda _: True, overwrite=overwrite, strangers_in=_strangers_in)
    require_not_current(folder)
    return require_no_mount(folder)


def _strangers_in(folder: Path) -> list[Path]:
    """What lies in a pipeline's folder and is no part of it."""
    own = {INDEX, CARD, PIPELINE_CODE, *_parts_in(folder / INDEX)}
    return sorted(path for path in folder.iterdir() if path.name not in own)


def _found(
    api: "HfApi", repo: str, repo_type: str | None, revision: str | None
) -> "tuple[Kind, DatasetInfo | ModelInfo]":
    """Which kind of repository this is, and the Hub's description of it."""
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    found: dict[Kind, DatasetInfo | ModelInfo] = {}
    missing: list[Exception] = []
    kinds: Sequence[Kind] = get_args(Kind)
    for kind in [kind for kind in kinds if repo_type in (None, kind)]:
        try:
            found[kind] = api.repo_info(repo, repo_type=kind, revision=revision)
        except (RepositoryNotFoundError, RevisionNotFoundError) as error:
            missing.append(error)
    if not found:  # the one that tells most: there is such a repository
        known = (GatedRepoError, RevisionNotFoundError)
        raise next((error for kind in known for error in missing if isinstance(error, kind)), missing[0])
    if len(found) > 1:
        raise ValueError(f"{repo} is both a dataset and a model; say which by repo_type='dataset' or repo_type='model'")
    return next(iter(found.items()))


def _parts_of(api: "HfApi", repo: str, sha: str, names: Sequence[str]) -> set[str]:
    """Folders of a pipeline's parts, by its index; a repository may hold others, which no pipeline reads."""
    return _parts_in(Path(api.hf_hub_download(repo, INDEX, revision=sha))) if INDEX in names else set()


def _parts_in(index: Path) -> set[str]:
    return {name for name, kind in read_json_object(index).items() if is_part(kind)}


def _wanted(repo: str, kind: str, names: Sequence[str], parts: Set[str]) -> list[str]:
    """Files to download: nothing that is run when it is read, and nothing that would be written elsewhere."""
    if outside := [name for name in names if not PurePosixPath(name).parts or names_elsewhere(PurePosixPath(name))]:
        raise ValueError(f"{repo} has a file called {outside[0]!r}, which leads out of the folder; it is refused")
    wanted = [name for name in names if (_is_of_set(name) if kind == "dataset" else _is_of_pipeline(name, parts))]
    wanted = _without_pages(repo, wanted) if kind == "dataset" else wanted
    _warn_of(repo, _ending(names, PICKLES), "pickles, which may run any program when they are read")
    _warn_of(repo, _ending(names, CODE), "code, which runs only where you put it yourself")
    if kind == "model":
        others = [name for name in names if name not in wanted and not _is_of_page(name)]
        _warn_of(repo, _ending(others, (".safetensors",)), "weights outside of the parts, which no pipeline reads")
        rest = set(others) - {*_ending(others, (*PICKLES, *CODE, ".safetensors"))}
        _warn_of(repo, sorted(rest), "neither configurations, safetensors nor data of tokenizers")
    _require_set(repo, names, wanted) if kind == "dataset" else _require_pipeline(repo, names)
    return wanted


def _is_of_set(name: str) -> bool:
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return False
    return name in SET_FILES or is_shard(name) or path.suffix.lower() in image_suffixes()


def _is_of_pipeline(name: str, parts: Set[str]) -> bool:
    path = PurePosixPath(name)
    if any(part.startswith(".") for part in path.parts):
        return False
    in_part = len(path.parts) > 1 and path.parts[0] in parts
    return name in (INDEX, CARD) or (in_part and name.endswith((".json", ".safetensors", *TOKENIZERS)))


def _is_of_page(name: str) -> bool:
    """Whether it is a picture or text for the page of a repository, or one of its hidden files."""
    path = PurePosixPath(name)
    page = _is_image(name) or path.suffix.lower() in (".md", ".pdf") or path.stem.upper() in ("LICENSE", "NOTICE")
    return page or any(part.startswith(".") for part in path.parts)


def _ending(names: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    return [name for name in names if PurePosixPath(name).suffix.lower() in suffixes]


def _warn_of(repo: str, found: Sequence[str], what: str) -> None:
    if found:
        logger.warning("not downloaded from %s: %s (%s)", repo, ", ".join(found[:5]), what)


def _require_set(repo: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    if METADATA in names:
        return
    images = [name for name in wanted if _is_image(name) and "/" in name]
    tables = [name for name in names if PurePosixPath(name).suffix.lower() in TABLES or _is_rows_of_split(name)]
    if PROVENANCE in names:
        raise ValueError(f"{repo} is not complete, as when its push was cut off; its owner should push it again")
    way = f"load_dataset({repo!r}, split=...).save_to_disk(FOLDER)"
    if tables or not images:
        seen = f"such as {tables[0]}, " if tables else ""
        raise ValueError(
            f"{repo} is no folder of images ({seen}{len(images)} images); if `datasets` reads it, give {way} to the "
            "commands"
        )
    if outer := _folders_of_classes(images):
        raise ValueError(
            f"{repo} has its classes in {', '.join(outer)}, which are no classes themselves; give {way} to the commands"
        )


def _folders_of_classes(names: Sequence[str]) -> list[str]:
    """Splits, or a folder around all others, as ``read_pool`` refuses them; here before anything is downloaded."""
    paths = [PurePosixPath(name) for name in names]
    direct = {path.parts[0] for path in paths if len(path.parts) == 2}
    inner = {path.parts[:2] for path in paths if len(path.parts) > 2 and path.parts[0] not in direct}
    tops = sorted(direct | {top for top, _ in inner})
    if len(tops) == 1:
        return tops if len(inner) > 1 and not split_of(tops[0]) else []  # the only split is the set
    return tops if inner and len(splits_among(tops)) == len(tops) else []


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in image_suffixes()


def _is_rows_of_split(name: str) -> bool:
    """Whether it is ``train/metadata.jsonl``, from which alone the labels of a split are known."""
    return "/" in name and PurePosixPath(name).name == METADATA


def _without_pages(repo: str, names: Sequence[str]) -> list[str]:
    """The files without pictures for the page of a repository, which readers of folders would take for a class's."""
    if METADATA in names:  # its rows tell which images are the set's
        return [name for name in names if name not in EARLIER_FIGURES]
    pages = {name for name in names if "/" not in name and _is_image(name)}
    tops = {PurePosixPath(name).parts[0] for name in names if "/" in name}
    decoration = {top for top in tops if top.casefold() in DECORATION}
    pages |= decoration if tops - decoration else set()
    if pages:
        said = ", ".join(sorted(pages)[:5])
        logger.warning("not downloaded from %s: %s, whose images are of its page and no class", repo, said)
    return [name for name in names if PurePosixPath(name).parts[0] not in pages]


def _require_pipeline(repo: str, names: Sequence[str]) -> None:
    if INDEX not in names:
        raise ValueError(f"{repo} is no pipeline, since it has no {INDEX}; load a single model by its name instead")
    by_part = Counter(PurePosixPath(name).parts[0] for name in names if name.endswith(".safetensors"))
    for name in names:
        part, *rest = PurePosixPath(name).parts
        if rest and PurePosixPath(name).suffix.lower() in PICKLES and not by_part[part]:
            raise ValueError(
                f"{repo} has the weights of its {part} only as a pickle, {name}, which may run any program when it is "
                "read, and is refused; ask its owner for safetensors"
            )


def _download(api: "HfApi", repo: str, kind: str, sha: str, wanted: Sequence[str], folder: Path) -> None:
    """Fill a folder, which may hold a part already, with exactly the files that are wanted."""
    deep = {f"{glob.escape(name.partition('/')[0])}/*{PurePosixPath(name).suffix}" for name in wanted if "/" in name}
    if len(deep) > MOST_PATTERNS:
        deep = {f"*/*{PurePosixPath(name).suffix}" for name in wanted if "/" in name}
    flat = {glob.escape(name) for name in wanted if "/" not in name}
    if len(flat) > MOST_PATTERNS:
        flat = {f"*{PurePosixPath(name).suffix}" for name in wanted if "/" not in name}
    api.snapshot_download(
        repo,
        repo_type=kind,
        revision=sha,
        local_dir=folder,
        allow_patterns=sorted(deep | flat),
    )
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the client's notes of what it has
    names = set(wanted)
    for path in [path for path in folder.rglob("*") if not path.is_dir()]:
        if path.relative_to(folder).as_posix() not in names:
            path.unlink()
    for path in sorted((path for path in folder.rglob("*") if path.is_dir()), reverse=True):  # from the inside out
        if not any(path.iterdir()):
            path.rmdir()


def _check(folder: Path, repo: str, kind: str, sha: str) -> None:
    """Refuse what our commands could not read, and record where it came from."""
    if kind == "model":
        read_json_object(folder / INDEX)
        return
    try:
        if not (folder / METADATA).exists():  # a bare folder of class folders
            write_atomically(folder / METADATA, json_lines(read_pool(folder).rows))
        pool = read_pool(folder)
    except ValueError as error:
        raise ValueError(f"{repo} is not a set as it should be: {str(error).replace(f'{folder}', repo)}") from error
    if not (folder / LABELS).exists():
        write_labels(folder, pool.rows)
    if reason := misreading(folder, pool.rows):
        logger.warning("%s is not read alike by all loaders: %s; `push` writes it in other names", repo, reason)
    write_json(folder / PROVENANCE, {**pool.provenance, "hub": {"repo": repo, "revision": sha}})
