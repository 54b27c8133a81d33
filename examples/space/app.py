"""A Hugging Face Space of the embedded default; ``dag-diffusion app`` is the same page on your own machine."""

from dag_diffusion import embedded
from dag_diffusion.cli.app import build_app, launch
from dag_diffusion.loading import load_guide, load_pipeline

PIPELINE, CLASSIFIER, EVALUATOR = None, None, embedded.EVALUATOR  # folders or Hub ids; None: the embedded ones

page = build_app(load_pipeline(PIPELINE, classifier=CLASSIFIER), evaluator=load_guide(EVALUATOR))

if __name__ == "__main__":
    launch(page)  # at the address and port that the Space's environment names
    page.block_thread()
