"""Is a model within reach: a folder here, in the cache of the Hub's client, or on a Hub that answers?

    runs/guide -> its folder        timm/resnet50.tv_in1k -> cached, or the Hub answers        else -> refused at once

The client tries an address six times, in 24 s without a network, before it says that nobody answers
(huggingface_hub 2.4), so that a folder's misspelt name would be told of half a minute late.
"""

from pathlib import Path

CONFIGURATIONS = ("config.json", "model_index.json")  # of a model, and of a pipeline
REACHED_WITHIN = 5.0  # seconds for the Hub to answer


def require_within_reach(name: str | Path) -> None:
    """Check that there is a folder of this name, or something of the Hub's to ask for it.

    Whether the Hub has such a model is left to who downloads it.

    Raises:
        FileNotFoundError: there is no such folder, and no repository of the Hub can have such a name.
        ConnectionError: there is no such folder, nothing is cached, and the Hub does not answer.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if Path(name).exists():
        return
    try:
        validate_repo_id(str(name))
    except HFValidationError:
        raise FileNotFoundError("there is no such folder") from None
    if not is_cached(str(name)) and not hub_answers():
        silent = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else f"{constants.ENDPOINT} does not answer"
        raise ConnectionError(f"there is no such folder, nothing of that name is cached, and {silent}")


def is_cached(hub_id: str) -> bool:
    """Whether a download has left the configuration of a model or pipeline here."""
    from huggingface_hub import try_to_load_from_cache

    return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in CONFIGURATIONS)


def hub_answers() -> bool:
    """Asked once and briefly; no, where it is to be left alone (``HF_HUB_OFFLINE``)."""
    from huggingface_hub import constants, get_session

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=REACHED_WITHIN)
    except Exception:  # whatever the HTTP library of this version raises
        return False
    return True
