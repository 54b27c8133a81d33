"""What a push changes in a repository that is there already, and what it leaves alone.

    stale = images in folders of the earlier set, or parts of the earlier pipeline, that the new one no longer has

What somebody else put beside them stays, and so does a card that was edited.
"""

import logging
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from .cards import CARD, is_as_written, with_configs
from .files import write_atomically
from .image_formats import image_suffixes
from .metadata import METADATA, read_rows
from .pools import PROVENANCE
from .shared_files import EXAMPLES, HISTOGRAM, INDEX, PIPELINE_CODE, SOFT_LABELS

if TYPE_CHECKING:
    from huggingface_hub import HfApi

logger = logging.getLogger(__name__)
MARKS = {"dataset": PROVENANCE, "model": PIPELINE_CODE}  # tells that a repository is one of ours
FIGURES = (HISTOGRAM, EXAMPLES)
HOUSEKEEPING = (".gitattributes", ".gitignore", CARD, "LICENSE", "LICENSE.md", "LICENSE.txt")


def listing(api: "HfApi", repo: str, kind: str, sha: str) -> dict[str, Any]:
    """Files of a repository, with size and hashes."""
    from huggingface_hub.hf_api import RepoFile

    found = api.list_repo_tree(repo, repo_type=kind, revision=sha, recursive=True)
    return {one.path: one for one in found if isinstance(one, RepoFile)}


def overwrites(folder: Path, names: set[str], there: dict[str, Any]) -> bool:
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


def require_ours(api: "HfApi", repo: str, kind: str, there: Sequence[str], names: set[str], sha: str) -> None:
    """Check that a repository is new, or holds a set or pipeline that was pushed, be it only a part of this one.

    Raises:
        ValueError: it holds something else; one file is named.
    """
    strange = [name for name in there if name not in names and name not in HOUSEKEEPING]
    ours = MARKS[kind] in there
    if ours and kind == "model":  # many a pipeline of others brings code too
        code = Path(api.hf_hub_download(repo, PIPELINE_CODE, repo_type=kind, revision=sha)).read_text("utf-8")
        ours = "dag_diffusion" in code
    if kind == "model" and INDEX in there:
        strange.append(INDEX)
    if strange and not ours:
        raise ValueError(
            f"{repo} holds something else, such as {strange[0]}, among which a {kind} would be lost; choose a new name"
        )


def keep_edited_card(api: "HfApi", folder: Path, repo: str, kind: str, sha: str, replace: bool) -> None:
    """Let a card that somebody has edited on the Hub stay as it is, but for what ``load_dataset`` needs."""
    if replace or not api.file_exists(repo, CARD, repo_type=kind, revision=sha):
        return
    found = Path(api.hf_hub_download(repo, CARD, repo_type=kind, revision=sha)).read_text("utf-8")
    written = (folder / CARD).read_text("utf-8")
    if is_as_written(found) or found == written:
        return
    logger.warning("the card of %s was edited and is kept; --replace-card overwrites it", repo)
    (folder / CARD).unlink()
    write_atomically(folder / CARD, with_configs(found, written).encode())


def stale(api: "HfApi", repo: str, kind: str, there: Sequence[str], names: set[str], sha: str) -> list[str]:
    """Files of an earlier push that this one no longer has."""
    owned = {top for name in names if (top := PurePosixPath(name).parts[0]) != name}
    suffixes: set[str] | frozenset[str] = {".json", ".safetensors"}
    if kind == "dataset":
        suffixes = image_suffixes()
        if METADATA in there:
            rows = read_rows(Path(api.hf_hub_download(repo, METADATA, repo_type=kind, revision=sha)))
            owned |= {PurePosixPath(row["file_name"]).parts[0] for row in rows}
    gone = [name for name in (SOFT_LABELS, *FIGURES) if kind == "dataset" and name in there and name not in names]
    return gone + [
        name
        for name in there
        if name not in names
        and PurePosixPath(name).parts[0] in owned
        and PurePosixPath(name).suffix.lower() in suffixes
        and name not in gone
    ]
