"""Whose soft labels they are: the teacher's name, the digest of its weights, and how well it does on real images.

A student's accuracy means little without its teacher: labels of a better one lift every set, random images too.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from dag_diffusion.data.class_names import own_part
from dag_diffusion.data.pools import Pool
from dag_diffusion.difficulty import Among
from dag_diffusion.identity import digest_of
from dag_diffusion.progress import Progress, renamed
from dag_diffusion.sampling.scorers import classifier_key
from dag_diffusion.sampling.scoring import score_pool


@dataclass(frozen=True)
class Teacher:
    """A classifier whose logits became labels.

    Attributes:
        name: what it is called in records.
        digest: of its weights, see ``identity.digest_of``; empty where it is not known.
        accuracy: on real test images, in [0, 1]; None where it was not measured.
        test: name of those images.
        key: of all that its logits follow from, its preprocessing and class names too, see ``scorers.classifier_key``;
            empty where it is not known.
    """

    name: str
    digest: str = ""
    accuracy: float | None = None
    test: str = ""
    key: str = ""

    @property
    def identity(self) -> str:
        """What tells it from others: its digest, or its name where that is not known."""
        return self.digest or self.name

    @property
    def label(self) -> str:
        """Name and digest, as far as they are known."""
        return f"{self.name} {self.digest[:8]}".strip()

    @property
    def told(self) -> str:
        """The teacher in a phrase."""
        return f"{self.name}, {self.skill}" if self.skill else self.name

    @property
    def skill(self) -> str:
        """Its accuracy in a phrase, empty if it was not measured."""
        return "" if self.accuracy is None else f"{100 * self.accuracy:.1f} % right on {self.test or 'test images'}"


@dataclass(frozen=True, kw_only=True)
class LabelSource:
    """Where the soft labels of a set come from, and what they weigh.

    Attributes:
        views: how many there are; None: one label an image.
        top_k: logits that are kept of each label.
        label_bytes, image_bytes: of the files on disk.
    """

    teacher: Teacher
    views: int | None
    top_k: int
    label_bytes: int
    image_bytes: int

    @property
    def told(self) -> str:
        """What the labels are in a phrase."""
        what = "one an image" if self.views is None else f"{self.views:,} views"
        return f"{what}, {self.top_k} logits each"

    @classmethod
    def from_record(cls, record: Any) -> "LabelSource":
        """The source that ``record`` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            return cls(**{**record, "teacher": Teacher(**record["teacher"])})
        except (KeyError, TypeError) as error:
            raise ValueError(f"{str(record)[:40]!r} does not say whose soft labels are ({error}); mend it") from error

    def record(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)


def require_one_teacher(sources: Iterable[tuple[str, LabelSource]]) -> None:
    """Refuse soft labels of several teachers for sets that compare: labels of a better one lift any set; ValueError.

    Args:
        sources: names of sets with whose labels they have.
    """
    teachers = {name: source.teacher for name, source in sources}
    known = {teacher.name for teacher in teachers.values() if teacher.digest}  # others of these names may be the same
    if len({teacher.identity for teacher in teachers.values()} - known - {""}) > 1:
        said = ", ".join(f"{name} by {teacher.label}" for name, teacher in teachers.items())
        raise ValueError(
            f"soft labels are of different teachers ({said[:90]}), so sets do not compare; label all by one"
        )


def teacher_of(
    classifier: nn.Module,
    name: str,
    test: Pool | None = None,
    *,
    test_name: str = "",
    class_map: Mapping[str, str | int] | None = None,
    progress: Progress | None = None,
) -> Teacher:
    """A teacher and how many test images it gets right; several processes share those.

    Args:
        test: real images; among their classes the likeliest is its answer.  None: nothing is measured.

    Raises:
        ValueError: it lacks a class.
        UnreadableImageError: a file is no image; it is named.
    """
    found = Teacher(name, digest_of(classifier), key=classifier_key(classifier, next(classifier.parameters()).dtype))
    if test is None:
        return found
    among: Among = "set" if len(test.class_names) > 1 else "all"  # of one class nothing is told from another
    told = renamed(progress, "teacher tested")
    own = own_part(class_map, test.class_names.values())  # test images may be called as the teacher calls them
    right = score_pool(test, classifier, among=among, class_map=own, progress=told).correct
    assert right is not None  # as of every measure that asks for the class
    return replace(found, accuracy=float(right.mean()), test=test_name)


def bytes_of_images(pool: Pool) -> int:
    """What the images of a set take on disk."""
    if pool.encoded is not None:
        return sum(len(pool.encoded[index]) for index in range(len(pool)))
    return sum((pool.path / row["file_name"]).stat().st_size for row in pool.rows)
