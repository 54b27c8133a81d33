"""``python -m dag_diffusion``, which is what ``accelerate launch -m`` starts."""

from .cli import main

main()
