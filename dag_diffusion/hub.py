"""Share pools, distilled sets and pipelines on the Hugging Face Hub.

    folder -> checked, gathered beside a card -> commit of what takes long -> commit of rows and card

Without rows a set is known to be unfinished, so that nobody takes a part for the whole.  A push that was cut off goes
on when it is given again.  The token is huggingface_hub's own matter.  ``hub_pull`` is the way back.
"""

import glob
import logging
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from .cards import CARD
from .files import held, require_writable
from .hub_changes import keep_edited_card, listing, overwrites, require_ours, stale
from .hub_errors import plain_errors
from .metadata import METADATA
from .pools import PROVENANCE
from .shared_files import (
    EXAMPLES,
    HISTOGRAM,
    INDEX,
    gather_pipeline,
    gather_set,
    kind_of,
)

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)
LAST = {"dataset": [METADATA, CARD], "model": [INDEX, CARD]}  # without them it is seen to be unfinished
SMALL = (HISTOGRAM, EXAMPLES, PROVENANCE)  # say nothing wrong if they are of the next push already
MANY = 100_000  # files that the Hub advises a repository to have at most


@dataclass(frozen=True)
class Shared:
    """What was pushed, or written instead.

    Attributes:
        repo: with its owner.
        kind: ``dataset`` or ``model``.
        place: address of the commit, or the folder of a dry run.
        files: how many.
    """

    repo: str
    kind: str
    place: str
    files: int


def push(
    source: Any,
    repo: str,
    *,
    private: bool = False,
    license: str = "",
    title: str = "",
    dry_run: str | Path | None = None,
    replace_card: bool = False,
) -> Shared:
    """Share a pool, a distilled set or a pipeline as a dataset or model repository.

    Given again it goes on where it was, changes what has changed, and removes images that are no longer in the set.

    Args:
        source: a folder or file that ``read_pool`` reads, the folder of a pipeline, or a ``DifficultyGuidedPipeline``.
        repo: ``owner/name``, or a name of your own; made if need be.
        private: make it visible to its owner alone; refused for one that is public already.
        license: identifier such as ``cc-by-4.0`` for the card.
        title: of the card; the folder's name if empty.
        dry_run: a new folder that gets all files instead of the Hub, which is not asked for anything.
        replace_card: also overwrite a card that somebody has edited on the Hub; else its text is kept.

    Raises:
        ValueError: a set or pipeline that is not complete, see ``shared_files``; a repository that holds something
            else.
        FileExistsError: the folder of a dry run holds something.
        OSError: what ``hub_errors.plain_errors`` says.
    """
    require_name(repo)
    if hasattr(source, "save_pretrained"):
        with TemporaryDirectory() as saved:
            folder = Path(saved, repo.rpartition("/")[2])
            source.save_pretrained(folder)
            return push(folder, repo, private=private, license=license, title=title, dry_run=dry_run,
                        replace_card=replace_card)  # fmt: skip
    kind = kind_of(Path(source))
    gather = partial(
        gather_set if kind == "dataset" else gather_pipeline, Path(source), repo=repo, title=title, license=license
    )
    if dry_run is not None:
        return _write_instead(Path(dry_run), repo, kind, gather)
    with TemporaryDirectory() as staged, plain_errors(repo):
        gather(folder=Path(staged), copy=False)  # everything is checked before the Hub is asked
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


def _write_instead(folder: Path, repo: str, kind: str, gather: Callable[..., None]) -> Shared:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} holds something; choose a new or empty folder for a dry run")
    require_writable(folder)
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
    return Shared(repo, kind, str(folder), len(_names_in(folder)))


def _names_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def _upload(folder: Path, repo: str, kind: str, private: bool, replace_card: bool) -> Shared:
    """Two commits: what takes long, then rows and card, with the removal of what they no longer name."""
    api, names = hub_api(), _names_in(folder)
    if len(names) > MANY:
        logger.warning("%d files are more than the %d that the Hub advises; it may be slow there", len(names), MANY)
    name = api.create_repo(repo, repo_type=kind, private=private or None, exist_ok=True).repo_id
    info = api.repo_info(name, repo_type=kind)
    if private and not info.private:
        raise PermissionError(f"{name} is public already; make it private in its settings, or choose another name")
    there = listing(api, name, kind, info.sha)
    require_ours(api, name, kind, list(there), names, info.sha)
    gone = stale(api, name, kind, list(there), names, info.sha)
    commit = partial(api.upload_folder, repo_id=name, folder_path=folder, repo_type=kind)
    # old rows beside some new images would be taken for a whole set
    withdrawn = LAST[kind][0] in there and overwrites(folder, names - {*LAST[kind], *SMALL}, there)
    first = commit(
        commit_message="Add files",
        ignore_patterns=list(LAST[kind]),
        delete_patterns=_exactly([*gone, LAST[kind][0]]) if withdrawn else None,
        parent_commit=info.sha,
    )
    keep_edited_card(api, folder, name, kind, first.oid, replace_card)
    last = commit(
        commit_message=f"Add {LAST[kind][0]} and card",
        allow_patterns=LAST[kind],
        delete_patterns=None if withdrawn else _exactly(gone),
        parent_commit=first.oid,  # what somebody does from here on is not undone, but refuses this commit
    )
    return Shared(name, kind, last.commit_url, len(names))


def _exactly(names: list[str]) -> list[str] | None:
    return [glob.escape(name) for name in names] or None


def hub_api() -> "HfApi":
    """The client of huggingface_hub, which finds the token and the address of the Hub by itself."""
    from huggingface_hub import HfApi

    from . import __version__

    return HfApi(library_name="dag-diffusion", library_version=__version__)


def hide_bars(quiet: bool) -> None:
    """No progress bars of the client if so asked."""
    from huggingface_hub.utils import disable_progress_bars

    if quiet:
        disable_progress_bars()
