"""Errors between here and the Hub, each as one line that says what to do.

status 401 -> log in, 403 -> a token that may write, 404 -> the name, 412 -> again, no answer -> the network
"""

from collections.abc import Iterator
from contextlib import contextmanager

ADVICE = {
    401: "the Hub does not know you; run `hf auth login`, or set HF_TOKEN to a token of yours",
    403: "your token may not write to {repo}; take one with the right to write, or a repository of your own",
    409: "{repo} is being changed by another client; give the command again",
    412: "{repo} has changed meanwhile, and nothing of that is overwritten; look at it and give the command again",
    429: "the Hub asks to wait, since too much was sent at once; give the command again in an hour, it goes on",
}
OF_HUB = (ConnectionError, TimeoutError)  # of Python itself; that of a client that is offline is one too
AGAIN = "give the command again, which goes on where it was"


@contextmanager
def plain_errors(repo: str, revision: str | None = None) -> Iterator[None]:
    """Turn errors of ``huggingface_hub`` into a ValueError or OSError of one line; others pass, such as of a full disk.

    Raises:
        PermissionError: there is no token, or it may not do this.
        FileNotFoundError: there is no such repository or revision, or none that the token may see.
        ConnectionError: the Hub cannot be reached, is asked to be left alone by ``HF_HUB_OFFLINE``, or has trouble.
    """
    from huggingface_hub import errors

    try:
        yield
    except (errors.HTTPError, errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, RuntimeError) as error:
        cause = error
        while isinstance(cause, RuntimeError | errors.LocalEntryNotFoundError) and cause.__cause__ is not None:
            cause = cause.__cause__  # the client wraps what stopped it
        if isinstance(cause, (*OF_HUB, errors.HTTPError, errors.LocalEntryNotFoundError)):
            raise _plain(cause, repo, revision) from error
        if isinstance(cause, OSError):  # of a file that was to be sent
            raise cause from error
        raise


def _plain(error: BaseException, repo: str, revision: str | None) -> Exception:
    from huggingface_hub import constants, errors

    status = getattr(getattr(error, "response", None), "status_code", 0)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return ConnectionError("HF_HUB_OFFLINE is set, so that the Hub is left alone; unset it to reach the Hub")
    if isinstance(error, errors.RevisionNotFoundError):
        return FileNotFoundError(
            f"{repo} has no revision {revision!r}; give a branch, a tag or a commit, or leave it out"
        )
    if isinstance(error, errors.GatedRepoError):
        return PermissionError(f"{repo} asks to accept its terms first; do so on its page, and run `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return FileNotFoundError(
            f"there is no {repo} on the Hub, or none that you may see; check the name, or run `hf auth login`"
        )
    if status in ADVICE:
        kind = PermissionError if status in (401, 403) else ConnectionError
        return kind(ADVICE[status].format(repo=repo))
    if status:
        said = getattr(error, "server_message", None) or str(error).split("\n")[0]
        way = AGAIN if status >= 500 else "check name and options"
        return ConnectionError(f"the Hub answered {status} for {repo} ({said}); {way}")
    reason = str(error).split("\n")[0] or type(error).__name__
    return ConnectionError(f"{constants.ENDPOINT} cannot be reached ({reason}); check the network and {AGAIN}")
