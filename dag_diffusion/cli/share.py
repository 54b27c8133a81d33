"""``dag-diffusion report``, ``app``, ``push`` and ``pull``: what others see."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from .options import FILES, MODELS, Classifier, Device, Overwrite, Pipeline, PipelinePrecision, Quiet, TrustBin
from .options.fields import Fields, Values


def report(
    pools: Annotated[list[Path], Argument(help="scored pools and distilled sets to show")],
    output: Annotated[Path, Option(help="HTML file")] = Path("report.html"),
    reference: Annotated[
        Path | None,
        Option(help="scored real images; default: Fashion-MNIST's training images, where the classes are its"),
    ] = None,
    title: Annotated[str, Option(help="page title")] = "Difficulty report",
    target: Annotated[
        str | None,
        Option(help="target to draw over the histograms, as for subsample; default: what the sets or pools record"),
    ] = None,
    results: Annotated[
        list[Path] | None,
        Option(help="JSON file of evaluate or run, for accuracies and curves; may be given several times"),
    ] = None,
    baseline: Annotated[
        str | None,
        Option(help="set of the results that others are compared with; default: the random draw of their IPC"),
    ] = None,
    redundancy: Annotated[
        list[Path] | None,
        Option(help="JSON file of redundancy, for its tables and figure; may be given several times"),
    ] = None,
) -> None:
    """Write an HTML report.

    One file: accuracies, difficulty histograms, quotas, images by difficulty, and the commands to repeat it.

    Examples:  dag-diffusion report runs/first/pool-guided runs/first/set-guided --output report.html

    dag-diffusion report pool distilled --results results.json
    """
    from dag_diffusion.reporting.report import report_folders

    written = report_folders(
        pools,
        output,
        title=title,
        reference=reference,
        target=target,
        results=results or [],
        baseline=baseline,
        redundancy=redundancy or [],
    )
    print(f"report: {written.absolute()}")


def serve(
    *,
    pipeline: Pipeline = None,
    classifier: Classifier = None,
    evaluator: Annotated[
        str | None,
        Option(
            help="classifier that only measures; default: with the embedded pipeline the embedded one",
            rich_help_panel=MODELS,
        ),
    ] = None,
    trust_bin: TrustBin = False,
    config: Annotated[Values, Fields("generation.plan:PoolConfig", ["num_inference_steps", "guidance_scale"])],
    host: Annotated[str, Option(help="address to listen at; 0.0.0.0 lets other machines in")] = "127.0.0.1",
    port: Annotated[int, Option(min=1, max=65535, help="port of the page, on this machine")] = 7860,
    share: Annotated[bool, Option("--share", help="also a public address, by a tunnel of gradio's makers")] = False,
    precision: PipelinePrecision = None,
    device: Device = None,
) -> None:
    """Try difficulty guidance in a web app.

    Choose class, difficulty and guidance scale, and see the images with what was measured.

    Example: dag-diffusion app --port 7860
    """
    from .app import build_app, launch, require_gradio

    require_gradio()  # before the model is loaded, which may take minutes

    from dag_diffusion import embedded
    from dag_diffusion.generation.plan import networks_precision
    from dag_diffusion.loading import load_guide, load_pipeline

    loaded = load_pipeline(pipeline, classifier=classifier, device=device, dtype=precision, trust_bin=trust_bin)
    scorer = evaluator or (embedded.EVALUATOR if pipeline is None else None)
    measuring = None if scorer is None else load_guide(scorer, device=device, dtype=precision)
    page = build_app(loaded, evaluator=measuring, precision=networks_precision(precision), **config)
    print(f"app: {launch(page, host=host, port=port, share=share)} (Ctrl+C stops it)", flush=True)
    page.block_thread()


def push(
    source: Annotated[Path, Argument(help="folder of a pool, a distilled set or a pipeline")],
    repo: Annotated[str, Argument(help="OWNER/NAME on the Hub, created if it is new")],
    private: Annotated[bool, Option("--private", help="visible to its owner alone")] = False,
    license: Annotated[str | None, Option(help="license for the card, such as cc-by-4.0")] = None,
    title: Annotated[str | None, Option(help="title of the card; default: the folder's name")] = None,
    dry_run: Annotated[
        Path | None, Option(help="new folder for all files that would be sent; the Hub is not asked")
    ] = None,
    replace_card: Annotated[
        bool, Option("--replace-card", help="also overwrite a card that was edited on the Hub", rich_help_panel=FILES)
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Upload a pool, set or pipeline to the Hub.

    It gets a card; the same command goes on after an interruption.  Log in once with `hf auth login`.

    Examples:  dag-diffusion push distilled me/fashion-10 --private

    dag-diffusion push dit-with-guide me/guided-dit --license apache-2.0 --dry-run look-at-it-first
    """
    from dag_diffusion.hub.upload import hide_bars
    from dag_diffusion.hub.upload import push as share

    hide_bars(quiet)
    shared = share(
        source,
        repo,
        private=private,
        license=license,
        title=title,
        dry_run=dry_run,
        replace_card=replace_card,
    )
    print(f"{shared.kind} {shared.repo}: {shared.files} files, {shared.place}")


def pull(
    repo: Annotated[str, Argument(help="OWNER/NAME on the Hub")],
    folder: Annotated[Path, Argument(help="new folder")],
    revision: Annotated[str | None, Option(help="branch, tag or commit; default: the newest")] = None,
    repo_type: Annotated[str | None, Option(help="dataset or model; default: whichever there is")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
) -> None:
    """Download a pool, set or pipeline from the Hub.

    It becomes a folder that every command reads.

    Example: dag-diffusion pull me/fashion-10 distilled
    """
    from dag_diffusion.hub.download import pull as fetch
    from dag_diffusion.hub.upload import hide_bars

    hide_bars(quiet)
    shared = fetch(repo, folder, revision=revision, repo_type=repo_type, overwrite=overwrite)
    print(f"{shared.kind} {shared.repo}: {shared.files} files in {shared.place}")
