"""Weights are read from safetensors alone.

    guide/model.safetensors -> read        guide/pytorch_model.bin, guide.ckpt -> refused with a word why

A pickle is a program that runs when it is read, so that whoever made the file could do anything.
"""

from pathlib import Path

PICKLES = (".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth")


def refuse_pickles(place: str | Path) -> None:
    """Refuse a file that is a pickle by its name, or a folder whose weights come in no other form.

    Whatever is not on this machine is left to who downloads it, and asks for safetensors alone.

    Raises:
        ValueError: it is one; the file is named.
    """
    place = Path(place)
    files = sorted(place.iterdir()) if place.is_dir() else [place] * place.is_file()
    pickles = [file for file in files if file.suffix.lower() in PICKLES]
    if pickles and not any(".safetensors" in file.name for file in files):
        raise ValueError(
            f"{pickles[0]} is a pickle, which may run any program when it is read, and is refused; "
            "save the weights as safetensors, such as by save_pretrained"
        )
