"""The command line: one short function per verb; only it and `dgex.terminal` print."""

from __future__ import annotations

import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts import convert as convert_words
from cyclopts.config import Toml

from dgex import __version__, progress
from dgex.config import (
    EvaluateConfig,
    ImportConfig,
    Orientation,
    PanelConfig,
    PredictConfig,
    PrepareConfig,
    ReproduceConfig,
    SimulateConfig,
    TrainConfig,
)
from dgex.errors import DgexError, UsageError
from dgex.terminal import LineProgress, LogLines, TerminalProgress, print_table, print_tried

log = logging.getLogger("dgex")


def _exact(type_: Any, tokens: Any) -> Any:
    """Convert words of the command line; 1.5 is no whole number, not 2."""
    return convert_words(type_, tokens, converter=_exact_word)


def _exact_word(type_: type, word: Any) -> Any:
    text = str(getattr(word, "value", word))
    if type_ is int and "." in text:
        raise ValueError(f"{text} is not a whole number")
    return convert_words(type_, [word])


app = App(
    name="dgex",
    help="Infer a full transcriptome from about a thousand measured landmark genes.",
    version=__version__,
    default_parameter=Parameter(negative_iterable=(), consume_multiple=True, converter=_exact),
    error_formatter=lambda error: f"dgex: {error}",
)
# Or Ctrl-C would end the program without a word.
app.suppress_keyboard_interrupt = app.meta.suppress_keyboard_interrupt = False

Flat = Parameter(name="*")
Source = Annotated[str, Parameter(name="*")]


@app.meta.default
def _launch(
    *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    config: Path | None = None,
    debug: bool = False,
) -> None:
    """Read options that apply to every verb.

    Parameters
    ----------
    config
        TOML file with an [options] table, such as the run.toml of an earlier run. Inputs and --out
        are given again; options on the command line win.
    debug
        Show a traceback on errors.
    """
    app.config = ()
    if config is not None:
        from dgex.files import read_toml

        if not config.is_file():
            raise UsageError(f"--config {config}: no such file.")
        content = read_toml(config)
        if "options" not in content:
            raise UsageError(f"--config {config}: it has no [options] table.")
        if content.get("inputs"):
            inputs = ", ".join(content["inputs"])
            log.info("--config takes options only; that run's inputs were: %s.", inputs)
        app.config = (Toml(config, root_keys=["options"], use_commands_as_keys=False),)
    app(tokens, exit_on_error=False, print_error=False, result_action="return_value")


@app.command(sort_key=1)
def demo(*, out: Path = Path("demo"), seed: int = 0) -> None:
    """Run everything once on real tumours that come with dgex, in about a minute.

    Parameters
    ----------
    out
        Folder to write; what an earlier demo left there is replaced.
    seed
        Seed of the split, the panel and the net.
    """
    from dgex.demo import run_demo

    report, table = run_demo(out, seed=seed)
    print_table(table)
    print(f"\nReport: {report}")


@app.command(sort_key=2)
def panel(
    expression: Path, /, *, out: Path, config: Annotated[PanelConfig, Flat] = PanelConfig()
) -> None:
    """Choose landmark genes from the training part of a compendium.

    Genes are clustered by their expression over the training profiles, and the gene nearest each
    cluster's centre is taken. The split is written beside the panel, for prepare --split.

    Parameters
    ----------
    expression
        Expression matrix: GCTX, GCT, h5ad, TSV, CSV, parquet, npy or the 1000 Genomes text layout.
    out
        Table of landmarks to write (TSV); NAME.split.tsv goes beside it.
    """
    from dgex.data.panel import panel as choose

    choose(expression, out, config=config)


@app.command(sort_key=3)
def prepare(
    expression: Path,
    /,
    *,
    out: Path,
    landmarks: str | None = None,
    targets: str | None = None,
    external: tuple[str, ...] = (),
    config: Annotated[PrepareConfig, Flat] = PrepareConfig(),
) -> None:
    """Turn expression files into a Dataset.

    Parameters
    ----------
    expression
        Expression matrix: GCTX, GCT, h5ad, TSV, CSV, parquet, npy or the 1000 Genomes text layout;
        or a folder of the original D-GEX's intermediate arrays (bgedv2_X_tr_float64.npy, …).
    out
        Folder of the Dataset to write.
    landmarks
        Gene list, map, GCT or GCTX, or var:COLUMN; the gene table's column landmark by default.
    targets
        The same for targets; all other genes by default.
    external
        NAME=FILE, profiles of another platform or study, never trained on; may be given several
        times.
    """
    from dgex.data.prepare import prepare as run

    dataset = run(
        expression,
        out,
        landmarks=landmarks,
        targets=targets,
        external=_named_files(external),
        config=config,
    )
    print(f"Dataset: {dataset.path}")


@app.command(sort_key=4)
def train(
    dataset: Path, /, *, out: Path, config: Annotated[TrainConfig, Flat] = TrainConfig()
) -> None:
    """Train a Model on a Dataset.

    Parameters
    ----------
    dataset
        Folder that prepare wrote.
    out
        Folder of the Model to write.
    """
    from dgex.models.fit import train as run

    bundle = run(dataset, out, config)
    if bundle.tried is not None:
        print_tried(bundle.tried)
    print(f"Model: {bundle.path}")


@app.command(sort_key=5)
def evaluate(
    dataset: Path,
    /,
    *models: Path,
    out: Path,
    config: Annotated[EvaluateConfig, Flat] = EvaluateConfig(),
) -> None:
    """Compare Models on the held-out sets of a Dataset: tables, figures and a report.

    Parameters
    ----------
    dataset
        Folder that prepare wrote.
    models
        Folders that train wrote.
    out
        Folder to write.
    """
    from dgex.evaluation.verb import evaluate as run

    evaluation = run(dataset, models, out, config=config)
    print_table(evaluation.summary)
    print(f"\nReport: {out / 'report.html'}")


@app.command(sort_key=6)
def report(
    evaluation: Path, /, *, out: Path, title: str | None = None, overwrite: bool = False
) -> None:
    """Write the report of an evaluation again, in another place or under another title.

    Parameters
    ----------
    evaluation
        Folder that evaluate wrote.
    out
        HTML file to write.
    title
        Heading of the report.
    overwrite
        Replace the output where it exists.
    """
    from dgex.evaluation.verb import report as run

    print(f"Report: {run(evaluation, out, title=title, overwrite=overwrite)}")


@app.command(sort_key=13)
def reproduce(
    dataset: Path, /, *, out: Path, config: Annotated[ReproduceConfig, Flat] = ReproduceConfig()
) -> None:
    """Train the whole grid of the D-GEX paper and write its tables and figures.

    Called again it goes on where it stopped.

    Parameters
    ----------
    dataset
        Folder that prepare wrote.
    out
        Folder to write: models, scores, tables, figures and the report.
    """
    from dgex.reproduction.verb import reproduce as run

    if run(dataset, out, config=config):
        print(f"Report: {out / 'report.html'}")
    else:
        print(f"Models: {out / 'models'}")


@app.command(sort_key=7)
def predict(
    model: Path,
    profiles: Path,
    /,
    *,
    out: Path,
    config: Annotated[PredictConfig, Flat] = PredictConfig(),
) -> None:
    """Infer the target genes of profiles.

    Parameters
    ----------
    model
        Folder that train wrote.
    profiles
        Expression matrix: whole transcriptomes or landmarks only.
    out
        GCTX, GCT, h5ad, TSV, CSV, parquet or npy file to write; text may end in .gz.
    """
    from dgex.inference import predict as run

    run(model, profiles, out, config=config)
    print(f"Inferred profiles: {out}")


@app.command(sort_key=8)
def convert(
    source: Path,
    out: Path,
    /,
    *,
    orientation: Orientation | None = None,
    overwrite: bool = False,
) -> None:
    """Write an expression matrix in another format; the names' endings tell which.

    Parameters
    ----------
    source
        Matrix to read.
    out
        Matrix to write.
    orientation
        Orientation of a text table that is read; guessed, and the guess said, by default.
    overwrite
        Replace the output where it exists.
    """
    from dgex.data.convert import convert as run

    n, g = run(source, out, orientation=orientation, overwrite=overwrite)
    print(f"{out}: {n} profiles, {g} genes")


@app.command(sort_key=9)
def info(path: Path, /, *, orientation: Orientation | None = None) -> None:
    """Say what a matrix file, a Dataset, a Model or an evaluation is.

    Parameters
    ----------
    path
        Matrix file, or folder that prepare, train or evaluate wrote.
    orientation
        Orientation of a text table; guessed, and the guess said, by default.
    """
    from dgex.describe import describe

    lines = describe(path, orientation=orientation)
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(f"{name:<{width}}  {value}")


@app.command(sort_key=11)
def import_cmap(
    weights: Path, /, *, out: Path, config: Annotated[ImportConfig, Flat] = ImportConfig()
) -> None:
    """Make a Model of the Connectivity Map's linear weights.

    Parameters
    ----------
    weights
        GCTX: rows are targets, columns the intercept, then the landmarks.
    out
        Folder of the Model to write.
    """
    from dgex.models.cmap import import_cmap as run

    print(f"Model: {run(weights, out, config).path}")


@app.command(sort_key=12)
def export_cmap(model: Path, /, *, out: Path, overwrite: bool = False) -> None:
    """Write a linear Model as the Connectivity Map's weights, for log2 expression.

    Parameters
    ----------
    model
        Folder of a Model of kind ols, ridge or lasso, or one that import-cmap made.
    out
        GCTX file to write.
    overwrite
        Replace the output where it exists.
    """
    from dgex.models.cmap import export_cmap as run

    print(f"Weights: {run(model, out, overwrite=overwrite)}")


@app.command(sort_key=10)
def simulate(
    *,
    out: Path,
    compendium: Annotated[Path | None, Parameter(name="--from")] = None,
    maps: Path | None = None,
    config: Annotated[SimulateConfig, Flat] = SimulateConfig(),
) -> None:
    """Write simulated profiles in the shape and layout of one of D-GEX's inputs.

    Parameters
    ----------
    out
        File to write: .gctx, or .txt like 1000g.
    compendium
        Matrix of real profiles to mix, instead of inventing genes.
    maps
        Folder for map_lm.txt and map_tg.txt of the invented genes.
    """
    from dgex.simulate import simulate as run

    print(f"Simulated profiles: {run(out, compendium=compendium, maps=maps, config=config)}")


def main() -> None:
    """Run the command line and exit: 0 done, 1 bad data, 2 misuse, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code; errors are one line on standard error."""
    if arguments in ([], ["--help"], ["-h"]):
        # The list of verbs needs no Markdown, whose import is a third of the time to show it.
        app.help_format = "plaintext"
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    reporter = TerminalProgress() if sys.stderr.isatty() else LineProgress()
    progress.set_reporter(reporter)
    handler = LogLines(reporter)
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        app.meta(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        return _fail(f"{error} See dgex --help.", 2)
    except DgexError as error:
        _raise_for_debugging(arguments)
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("Stopped.", 130)
    except Exception as error:
        _raise_for_debugging(arguments)
        reason = f"{type(error).__name__}: {error}"
        return _fail(f"Unexpected {reason}. Run it again with --debug to see where.", 1)
    finally:
        reporter.close()
        progress.set_reporter(None)
        log.removeHandler(handler)
    return 0


def _raise_for_debugging(arguments: list[str]) -> None:
    if "--debug" in arguments:
        raise


def _fail(message: str, code: int) -> int:
    print(f"dgex: {' '.join(message.split())}", file=sys.stderr)
    return code


def _named_files(pairs: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--external {pair}: give NAME=FILE.")
        if name in files:
            raise UsageError(f"--external {name} is given twice.")
        files[name] = Path(path)
    return files


if __name__ == "__main__":
    main()
