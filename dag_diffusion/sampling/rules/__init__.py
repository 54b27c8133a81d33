"""Rules of selection, each a class that chooses IPC images of one class; ``selection.RULES`` lists them by name."""
