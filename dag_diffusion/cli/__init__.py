"""The command line, ``dag-diffusion COMMAND``: a thin skin over the library, one module per group of commands."""


def main() -> None:
    """Entry point of ``dag-diffusion``; nothing heavy is imported before a command runs."""
    from .commands import main as run_command

    run_command()
