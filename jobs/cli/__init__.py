"""The `clipmill` command: each of its commands parses, calls a function of the library and prints."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from importlib import metadata
from typing import Annotated, Any, Literal

import typer

from ...clipmodel.errors import ClipmillError
from ...pipeline.redaction import redacted_text
from ..log import LOG
from .dedup import dedup
from .demo import demo
from .embed import embed
from .export import export
from .filter import filter
from .index import index
from .ingest import ingest
from .label import label
from .models import models
from .render import render
from .report import report
from .reshard import reshard
from .run import run, schema
from .search import search
from .serve import serve
from .status import status
from .submit import cancel, submit
from .train import train

__all__ = ["app", "main"]

# The common parent of what typer raises for a wrong command line: click's or its own, depending on its version.
_ParseError: type[Any] = typer.BadParameter.__mro__[2]

_STOPPED = 130  # the exit code after Ctrl-C

app = typer.Typer(
    help="Embed, score, label and filter image-text pairs with CLIP: on a laptop, or on a Ray cluster of GPUs.",
    epilog="Start with `clipmill demo`. Each command explains itself: `clipmill embed --help`.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of options off at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _command(function: Callable[..., None], example: str) -> None:
    app.command(epilog=f"\b\nExample:\n  {example}")(function)  # \b: not to be wrapped


_command(demo, "clipmill demo --out demo-out")
_command(ingest, "clipmill ingest urls.parquet -o s3://b/shards --caption-column text")
_command(embed, "clipmill embed 's3://b/shards/{00000..00099}.tar' -o s3://b/out -m ViT-B/32")
_command(status, "clipmill status out/")
_command(label, "clipmill label out/ -o labels/ --classes classes.txt --templates photo")
_command(filter, "clipmill filter out/ -o best/ --where 'width >= 200' --top-fraction 0.3")
_command(dedup, "clipmill dedup out/ -o unique/ --threshold 0.95")
_command(reshard, "clipmill reshard unique/ -o s3://b/unique-shards/ --samples-per-shard 10000")
_command(export, "clipmill export out/ -o datacomp/ --to datacomp")
_command(report, "clipmill report out/ -o report.html --labels labels/")
_command(search, 'clipmill search out/ "a red bicycle" -k 20 --where "width >= 512"')
_command(index, "clipmill index out/ -o index/ --kind ivf")
_command(serve, "clipmill serve out/ --labels labels/ --index index/")
_command(models, "clipmill models ViT-B-32")
_command(run, "clipmill run nightly.yaml --set bucket=s3://b")
_command(submit, "clipmill submit nightly.yaml --address http://head:8265")
_command(cancel, "clipmill cancel raysubmit_8vTBFQq3Yf2k --address http://head:8265")
_command(render, "clipmill render nightly.yaml | kubectl apply -f -")
_command(schema, "clipmill schema > clipmill.schema.json")
_command(train, "clipmill train 'shards/*.tar' -o my.safetensors --model tiny --steps 2000")


def _version(wanted: bool) -> None:
    if wanted:
        print(metadata.version("clipmill"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    log: Annotated[
        Literal["bar", "text", "json"],
        typer.Option(envvar=LOG, help="What stderr says of progress: a bar, or a line an event for logs."),
    ] = "bar",
) -> None:
    os.environ[LOG] = log  # also for what is started from here


def main() -> None:
    """The console script: one line for whatever is wrong, and the exit codes of the error tree."""
    debug = "--debug" in sys.argv
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == _STOPPED:  # some versions of typer turn Ctrl-C into this
            raise KeyboardInterrupt
    except _ParseError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "clipmill"
        said = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's, within some typers
        _say(f"{said}; see `{path} --help`")
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        _say("stopped; what is committed stays, run the same command again to go on")
        code = _STOPPED
    except ClipmillError as error:
        if debug:
            traceback.print_exc()
        _say(str(error))
        code = error.exit_code
    except Exception as error:
        if debug:
            traceback.print_exc()
        _say(f"unexpected {type(error).__name__}: {error}; run again with --debug and report it")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _say(line: str) -> None:
    print(f"clipmill: {redacted_text(' '.join(line.split()))}", file=sys.stderr)
