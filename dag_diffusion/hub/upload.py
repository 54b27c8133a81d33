"""Share pools, distilled sets and pipelines on the Hugging Face Hub.

    folder -> checked, gathered beside a card -> commit of what takes long -> commit of rows and card
    stale = images in folders of the earlier set, or parts of the earlier pipeline, that the new one no longer has

A set without rows is seen to be unfinished, so that a part is never taken for the whole.  A push that was cut off goes
on when it is given again.  Files that others put beside the stale ones stay, and so does a card that was edited.
huggingface_hub keeps the token.  ``download`` is the way back.
"""

import glob
import logging
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from dag_diffusion.data.dataset_cards import CARD, LABELS, configs_in, is_as_written, with_configs
from dag_diffusion.data.distilled_sets import require_apart
from dag_diffusion.data.files import held, require_no_mount, require_writable, write_atomically
from dag_diffusion.data.images import image_suffixes
from dag_diffusion.data.pools import PROVENANCE
from dag_diffusion.data.rows import METADATA, Row, read_rows
from dag_diffusion.evaluation.soft_labels import SOFT_LABELS, VIEW_LABELS
from dag_diffusion.evaluation.soft_labels.view_files import is_shard

from .errors import plain_errors
from .staging import EARLIER_FIGURES, FIGURES, INDEX, PIPELINE_CODE, Kind, gather_pipeline, gather_set, kind_of

if TYPE_CHECKING:
    from huggingface_hub import HfApi


logger = logging.getLogger(__name__)
LAST = {"dataset": [METADATA, CARD], "model": [INDEX, CARD]}  # without them it is seen to be unfinished
MARKS = {"dataset": PROVENANCE, "model": PIPELINE_CODE}  # a repository with such a file is one of ours
EARLY = (*FIGURES, LABELS, PROVENANCE)  # may be those of the new set while the rows are still those of the earlier one
HOUSEKEEPING = (".gitattributes", ".gitignore", CARD, "LICENSE", "LICENSE.md", "LICENSE.txt")
MOST_FILES = 100_000  # that the Hub advises for a repository


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What was pushed or pulled.

    Attributes:
        repo: with its owner.
        kind: ``dataset`` or ``model``.
        place: address of the commit, or the folder of a pull or dry run.
        files: how many.
    """

    repo: str
    kind: Kind
    place: str
    files: int


def push(
    source: Any,
    repo: str,
    *,
    private: bool = False,
    license: str | None = None,
    title: str | None = None,
    dry_run: str | Path | None = None,
    replace_card: bool = False,
) -> Shared:
    """Share a pool, a distilled set or a pipeline as a dataset or model repository.

    Given again it goes on where it was, changes what has changed, and removes images that are no longer in the set.

    Args:
        source: a folder or file that ``read_pool`` reads, the folder of a pipeline, or a ``DifficultyGuidedPipeline``.
        repo: ``owner/name``; created if it does not exist.
        private: make it visible to its owner alone; refused for one that is public already.
        license: identifier such as ``cc-by-4.0`` for the card.
        title: title of the card; by default the folder's name.
        dry_run: a new folder that gets all files instead of the Hub, which is not asked for anything.
        replace_card: also overwrite a card that was edited on the Hub; else its text is kept.

    Raises:
        ValueError: a set or pipeline that is not complete, see ``staging``; a repository that holds something else.
        FileExistsError: the folder of a dry run holds something.
        OSError: the Hub refuses or cannot be reached, see ``errors.plain_errors``.
    """
    require_name(repo)
    if "/" not in repo:
        raise ValueError(
            f"{repo!r} lacks its owner, with whom the card says how to load it; give OWNER/NAME, such as me/{repo}"
        )
    if hasattr(source, "save_pretrained"):
        with TemporaryDirectory() as saved:
            folder = Path(saved, repo.rpartition("/")[2])
            source.save_pretrained(folder)
            return push(folder, repo, private=private, license=license, title=title, dry_run=dry_run,
                        replace_card=replace_card)  # fmt: skip
    if not isinstance(source, str | Path):
        raise ValueError(
            f"a {type(source).__name__} is no folder or file that can be shared; save it first, as by "
            "write_distilled_set or save_to_disk, and give its place"
        )
    kind = kind_of(Path(source))
    gather = partial(
        gather_set if kind == "dataset" else gather_pipeline, Path(source), repo=repo, title=title, license=license
    )
    if dry_run is not None:
        require_apart(source, dry_run)
        return _write_instead(Path(dry_run), repo, kind, gather)
    with TemporaryDirectory() as staged:
        gather(folder=Path(staged), copy=False)  # everything is checked before the Hub is asked
        with plain_errors(repo):
            return _upload(Path(staged), repo, kind, private, replace_card)


def require_name(repo: str) -> None:
    """Check the name of a repository, with or without its owner; ValueError if it can be none."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ValueError(
            f"{repo!r} is no name of a repository; give OWNER/NAME of letters, digits, '-', '_' and '.', 96 at most"
        ) from error


def hub_api() -> "HfApi":
    """The client of huggingface_hub, which finds the token and the address of the Hub by itself."""
    from huggingface_hub import HfApi

    from dag_diffusion import __version__

    return HfApi(library_name="dag-diffusion", library_version=__version__)


def hide_bars(quiet: bool) -> None:
    """Hide the client's progress bars if ``quiet``."""
    from huggingface_hub.utils import disable_progress_bars

    if quiet:
        disable_progress_bars()


def _write_instead(folder: Path, repo: str, kind: Kind, gather: Callable[..., None]) -> Shared:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} holds something; choose a new or empty folder for a dry run")
    require_writable(folder)
    require_no_mount(folder)
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.with_name(f".{folder.name}.dry-run")
    with held(folder.with_name(f".{folder.name}.lock"), folder):
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
            unfinished.mkdir()
            gather(folder=unfinished, copy=True)
            if folder.exists():
                folder.rmdir()
            unfinished.rename(folder)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    return Shared(repo=repo, kind=kind, place=str(folder), files=len(_names_in(folder)))


def _names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _upload(folder: Path, repo: str, kind: Kind, private: bool, replace_card: bool) -> Shared:
    """Two commits: what takes long, then rows and card, with the removal of what they no longer name."""
    api, names = hub_api(), _names_in(folder)
    _require_valid(folder / CARD, kind)
    if len(names) > MOST_FILES:
        logger.warning(
            "%d files are more than the %d that the Hub advises; it may be slow there", len(names), MOST_FILES
        )
    name = api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True).repo_id
    info = api.repo_info(name, repo_type=kind)
    if private and not info.private:
        raise PermissionError(f"{name} is public already; make it private in its settings, or choose another name")
    there = _list_files(api, name, kind, info.sha)
    _require_ours(api, name, kind, list(there), names, info.sha)
    gone = _stale(api, name, kind, list(there), names, info.sha)
    if CARD in there and not replace_card:
        _keep_edited_card(api, folder, name, kind, info.sha)
    commit = partial(api.upload_folder, repo_id=name, folder_path=folder, repo_type=kind)
    # old rows beside some new images would be taken for a whole set
    withdrawn = LAST[kind][0] in there and _overwrites(folder, names - {*LAST[kind], *EARLY}, there)
    first = commit(
        commit_message="Add files",
        ignore_patterns=list(LAST[kind]),
        delete_patterns=_exactly([*gone, LAST[kind][0]]) if withdrawn else None,
        parent_commit=info.sha,
    )
    last = commit(
        commit_message=f"Add {LAST[kind][0]} and card",
        allow_patterns=LAST[kind],
        delete_patterns=None if withdrawn else _exactly(gone),
        parent_commit=first.oid,  # changes of others from here on are not undone, but refuse this commit
    )
    return Shared(repo=name, kind=kind, place=last.commit_url, files=len(names))


def _require_valid(card: Path, kind: Kind) -> None:
    """Ask the Hub whether it would take a card, which it else says after all images have been sent."""
    from huggingface_hub import RepoCard

    try:
        RepoCard(card.read_text("utf-8")).validate(repo_type=kind)
    except ValueError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"the Hub does not take the YAML of {CARD} ({said}); mend it, or the licence") from error


def _exactly(names: list[str]) -> list[str] | None:
    return [glob.escape(name) for name in names] or None


def _list_files(api: "HfApi", repo: str, kind: Kind, sha: str) -> dict[str, Any]:
    """Files of a repository, with size and hashes."""
    from huggingface_hub.hf_api import RepoFile

    found = api.list_repo_tree(repo, repo_type=kind, revision=sha, recursive=True)
    return {one.path: one for one in found if isinstance(one, RepoFile)}


def _overwrites(folder: Path, names: set[str], there: dict[str, Any]) -> bool:
    """Whether a file that is there would get other content."""
    from huggingface_hub.utils.sha import git_hash, sha_fileobj

    for name in sorted(names & there.keys()):
        path, other = folder / name, there[name]
        if path.stat().st_size != other.size:
            return True
        if other.lfs is None and git_hash(path.read_bytes()) != other.blob_id:
            return True
        if other.lfs is not None:
            with path.open("rb") as file:
                if sha_fileobj(file).hex() != other.lfs.sha256:
                    return True
    return False


def _require_ours(api: "HfApi", repo: str, kind: Kind, there: Sequence[str], names: set[str], sha: str) -> None:
    """Check that a repository is new, or holds a set or pipeline that was pushed, or a part of this one.

    Raises:
        ValueError: it holds something else; one file is named.
    """
    strange = [name for name in there if name not in names and name not in HOUSEKEEPING]
    ours = MARKS[kind] in there
    if ours and kind == "model":  # pipelines of others may bring code too
        code = Path(api.hf_hub_download(repo, PIPELINE_CODE, repo_type=kind, revision=sha)).read_text("utf-8")
        ours = "dag_diffusion" in code
    if kind == "model" and INDEX in there:
        strange.append(INDEX)
    if strange and not ours:
        raise ValueError(
            f"{repo} holds something else, such as {strange[0]}, among which a {kind} would be lost; choose a new name"
        )


def _keep_edited_card(api: "HfApi", folder: Path, repo: str, kind: Kind, sha: str) -> None:
    """Keep a card that was edited on the Hub as it is, but for what ``load_dataset`` needs.

    Raises:
        ValueError: it cannot be read, or the Hub would not take it with that; before anything has changed there.
    """
    written = (folder / CARD).read_text("utf-8")
    try:
        found = Path(api.hf_hub_download(repo, CARD, repo_type=kind, revision=sha)).read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"the {CARD} of {repo} on the Hub is no text in UTF-8; mend it there, or give replace_card=True"
        ) from error
    if is_as_written(found) or found == written:
        return
    logger.warning("the card of %s was edited and is kept; replace_card=True overwrites it", repo)
    (folder / CARD).unlink()
    write_atomically(folder / CARD, with_configs(found, configs_in(written)).encode())
    _require_valid(folder / CARD, kind)


def _rows_there(api: "HfApi", repo: str, sha: str) -> list[Row]:
    path = Path(api.hf_hub_download(repo, METADATA, repo_type="dataset", revision=sha))
    try:
        return read_rows(path)
    except ValueError as error:
        reason = str(error).replace(f"{path}", METADATA)
        raise ValueError(
            f"the rows of {repo} on the Hub, by which images of an earlier push are known, cannot be read: {reason}"
        ) from error


def _stale(api: "HfApi", repo: str, kind: Kind, there: Sequence[str], names: set[str], sha: str) -> list[str]:
    """Files of an earlier push that this one no longer has."""
    owned = {top for name in names if (top := PurePosixPath(name).parts[0]) != name}
    suffixes: set[str] | frozenset[str] = {".json", ".safetensors"}
    if kind == "dataset":
        suffixes = image_suffixes()
        if METADATA in there:
            owned |= {PurePosixPath(row["file_name"]).parts[0] for row in _rows_there(api, repo, sha)}
    optional = (SOFT_LABELS, VIEW_LABELS, *filter(is_shard, there), *FIGURES, *EARLIER_FIGURES)
    gone = [name for name in optional if kind == "dataset" and name in there and name not in names]
    return gone + [
        name
        for name in there
        if name not in names
        and PurePosixPath(name).parts[0] in owned
        and PurePosixPath(name).suffix.lower() in suffixes
        and name not in gone
    ]
