"""The `clipmill` command: each of its commands parses, calls a function of the library and prints."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from typing import Annotated, Any

import typer

from ...clipmodel.errors import ClipmillError
from .demo import demo
from .embed import embed
from .models import models
from .status import status
from .train import train

__all__ = ["app", "main"]

# The common parent of what typer raises for a wrong command line: click's or its own, depending on its version.
_ParseError: type[Any] = typer.BadParameter.__mro__[2]

app = typer.Typer(
    help="Embed, score, label and filter image-text pairs with CLIP: on a laptop, or on a Ray cluster of GPUs.",
    epilog="Start with `clipmill demo`. Each command explains itself: `clipmill embed --help`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog="[dim]Example:[/dim] clipmill demo --out demo-out")(demo)
app.command(
    epilog="[dim]Example:[/dim] clipmill embed 's3://b/shards/{00000..00099}.tar' -o s3://b/out -m ViT-B/32",
)(embed)
app.command(epilog="[dim]Example:[/dim] clipmill status out/")(status)
app.command(epilog="[dim]Example:[/dim] clipmill models ViT-B-32")(models)
app.command(
    epilog="[dim]Example:[/dim] clipmill train 'shards/*.tar' -o my.safetensors --model tiny --steps 2000",
)(train)


def _version(wanted: bool) -> None:
    if wanted:
        print(metadata.version("clipmill"))
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


def main() -> None:
    """The console script: one line for whatever is wrong, and the exit codes of the error tree."""
    debug = "--debug" in sys.argv
    try:
        code = app(standalone_mode=False)
    except _ParseError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "clipmill"
        _say(f"{error.format_message().rstrip('.')}; see `{path} --help`")
        code = 2
    except (KeyboardInterrupt, typer.Abort):
        _say("stopped; what is committed stays, run the same command again to go on")
        code = 130
    except BrokenPipeError:  # `clipmill … | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except ClipmillError as error:
        if debug:
            raise
        _say(str(error))
        code = error.exit_code
    except Exception as error:
        if debug:
            raise
        _say(f"unexpected {type(error).__name__}: {error}; run again with --debug and report it")
        code = 1
    sys.exit(code if isinstance(code, int) else 0)


def _say(line: str) -> None:
    print(f"clipmill: {' '.join(line.split())}", file=sys.stderr)
