"""Small and read-only disks, which Linux lets a user mount where only his own processes see them."""

import ctypes
import multiprocessing
import os
import shutil
import subprocess
from pathlib import Path

import pytest

NEW_MOUNTS, NEW_USER = 0x00020000, 0x10000000  # of unshare(2)

unprivileged_mounts = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "mount", "-t", "tmpfs", "none", "/mnt"], capture_output=True).returncode != 0,
    reason="needs Linux that lets a user mount a small disk in a namespace of his own",
)


def generate_on_disk(folder: Path, options: str, arguments: list[str], more_room: str | None = None) -> None:
    """Run ``dag-diffusion generate`` on a new disk, again with ``--resume`` once it has more room, and keep its pool.

    Args:
        folder: gets ``stdout``, ``stderr`` and ``code`` of the first run, and ``copy`` of the pool after the second.
        options: of ``mount``.
        more_room: options of the second mount; None: no second run.
    """
    may_mount()
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)
    (folder / "code").write_text(str(_generate(folder, disk, arguments)))
    if more_room is not None:
        subprocess.run(["mount", "-o", f"remount,{more_room}", disk], check=True)
        (folder / "again").mkdir()
        assert _generate(folder / "again", disk, [*arguments, "--resume"]) == 0
        shutil.copytree(disk / "pool", folder / "copy")


def may_mount() -> None:
    """Let this process, which has one thread, mount what it alone sees."""
    user, group = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS | NEW_USER):
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def _generate(folder: Path, disk: Path, arguments: list[str]) -> int | None:
    from warm import run_module

    told = [folder / "stdout", folder / "stderr"]
    words = ["generate", str(disk / "pool"), *arguments]
    run = multiprocessing.get_context("fork").Process(
        target=run_module, args=("dag_diffusion", words, dict(os.environ), ".", told)
    )
    run.start()
    run.join()
    return run.exitcode
