"""``dag-diffusion report``, ``app``, ``push`` and ``pull``: what others see."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from dag_diffusion.loading import load_guide, load_pipeline

from .console import user_errors
from .options import Classifier, Device, GuidanceScale, Overwrite, Pipeline, PipelinePrecision, Quiet, Steps, TrustBin


def report(
    pools: Annotated[list[Path], Argument(help="scored pools and distilled sets to show")],
    output: Annotated[Path, Option(help="HTML file")] = Path("report.html"),
    reference: Annotated[
        Path | None,
        Option(help="scored real images; default: Fashion-MNIST's training images, where the classes are its"),
    ] = None,
    title: Annotated[str, Option(help="of the page")] = "Difficulty report",
    target: Annotated[
        str, Option(help="drawn over the histograms, as for subsample; default: what the sets or pools record")
    ] = "",
    results: Annotated[
        list[Path] | None,
        Option(help="JSON file of evaluate or run, for accuracies and curves; may be given several times"),
    ] = None,
    baseline: Annotated[
        str, Option(help="set of the results that others are compared with; default: the random draw of their IPC")
    ] = "",
) -> None:
    """One HTML file: accuracies, difficulty histograms, quotas, image grids by difficulty, commands to repeat it.

    Examples:  dag-diffusion report runs/first/pool-dag runs/first/set-dag-dgs --output report.html

    dag-diffusion report pool distilled --results results.json
    """
    with user_errors():
        from dag_diffusion.reporting.report import report_folders

        written = report_folders(
            pools,
            output,
            title=title,
            reference=reference,
            target=target or None,
            results=results or [],
            baseline=baseline or None,
        )
        print(f"report: {written.absolute()}")


def serve(
    pipeline: Pipeline = "",
    classifier: Classifier = "",
    evaluator: Annotated[
        str, Option(help="classifier that only measures; default: with the embedded pipeline the embedded one")
    ] = "",
    num_inference_steps: Steps = 20,
    guidance_scale: GuidanceScale = 1.5,
    host: Annotated[str, Option(help="address to listen at; 0.0.0.0 lets other machines in")] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535, help="of the page, on this machine")] = 7860,
    share: Annotated[bool, Option("--share", help="also a public address, by a tunnel of gradio's makers")] = False,
    precision: PipelinePrecision = "",
    trust_bin: TrustBin = False,
    device: Device = "",
) -> None:
    """A page to play with: class, difficulty and guidance scale, and the images with what was measured.

    Example: dag-diffusion app --port 7860
    """
    with user_errors():
        from dag_diffusion import embedded
        from dag_diffusion.loading import precision_named

        from .app import build_app, launch, require_gradio

        require_gradio()  # before the model is loaded, which may take minutes
        dtype, scorer = precision_named(precision), evaluator or ("" if pipeline else str(embedded.EVALUATOR))
        loaded = load_pipeline(pipeline, classifier, device, use_safetensors=None if trust_bin else True, dtype=dtype)
        page = build_app(
            loaded,
            evaluator=load_guide(scorer, device, dtype) if scorer else None,
            guidance_scale=guidance_scale,
            num_inference_steps=num_inference_steps,
        )
        print(f"app: {launch(page, host=host, port=port, share=share)} (Ctrl+C stops it)", flush=True)
        page.block_thread()


def push(
    source: Annotated[Path, Argument(help="folder of a pool, a distilled set or a pipeline")],
    repo: Annotated[str, Argument(help="OWNER/NAME on the Hub, made if need be")],
    private: Annotated[bool, Option("--private", help="visible to its owner alone")] = False,
    license: Annotated[str, Option(help="for the card, such as cc-by-4.0")] = "",
    title: Annotated[str, Option(help="of the card; default: the folder's name")] = "",
    dry_run: Annotated[Path | None, Option(help="new folder for all that would be sent; the Hub is not asked")] = None,
    replace_card: Annotated[
        bool, Option("--replace-card", help="also overwrite a card that was edited on the Hub")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Share a pool, a distilled set or a pipeline on the Hub, with a card; given again it goes on.

    Log in once with `hf auth login`.  Examples:  dag-diffusion push distilled me/fashion-10 --private

    dag-diffusion push dit-with-guide me/guided-dit --license apache-2.0 --dry-run look-at-it-first
    """
    with user_errors():
        from dag_diffusion.hub.upload import hide_bars
        from dag_diffusion.hub.upload import push as share

        hide_bars(quiet)

        shared = share(
            source,
            repo,
            private=private,
            license=license or None,
            title=title or None,
            dry_run=dry_run,
            replace_card=replace_card,
        )
        print(f"{shared.kind} {shared.repo}: {shared.files} files, {shared.place}")


def pull(
    repo: Annotated[str, Argument(help="OWNER/NAME on the Hub")],
    folder: Annotated[Path, Argument(help="new folder")],
    revision: Annotated[str, Option(help="branch, tag or commit; default: the newest")] = "",
    repo_type: Annotated[str, Option(help="dataset or model; default: whichever there is")] = "",
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Fetch a pool, a distilled set or a pipeline from the Hub as a folder that every command reads.

    Example: dag-diffusion pull me/fashion-10 distilled
    """
    with user_errors():
        from dag_diffusion.hub.download import pull as fetch
        from dag_diffusion.hub.upload import hide_bars

        hide_bars(quiet)

        shared = fetch(repo, folder, revision=revision or None, repo_type=repo_type or None, overwrite=overwrite)
        print(f"{shared.kind} {shared.repo}: {shared.files} files in {shared.place}")
