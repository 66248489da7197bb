"""The `clipmill` command: each of its commands parses, calls a function of the library and prints."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from typing import Annotated, Any, Literal

import typer

from ...clipmodel.errors import ClipmillError
from ...pipeline.redaction import redacted_text
from ...pipeline.steps import STEPS
from ..showing.log import LOG, begin_json, end_json
from .commands import command_of
from .demo import demo
from .from_job import takes_job
from .helping import GroupedCommand, first_sentence
from .models import models
from .options import with_debug
from .render import render
from .run import run, schema
from .status import status
from .submit import cancel, submit

__all__ = ["app", "main", "script"]

_STOPPED = 130  # the exit code after Ctrl-C

app = typer.Typer(
    help="Embed, score, label and filter image-text pairs with CLIP: on a laptop, or on a Ray cluster of GPUs.",
    epilog="Start with `clipmill demo`. Each command explains itself: `clipmill embed --help`. For the Tab key: "
    "`clipmill --install-completion`.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # its tables cut the names of options off at 80 columns
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _register(function: Callable[..., None], *examples: str) -> None:
    lines = "".join(f"\n  {example}" for example in examples)
    epilog = f"\b\nExample{'s' if len(examples) > 1 else ''}:{lines}"  # \b: not to be wrapped
    short_help = first_sentence(function.__doc__ or "")
    app.command(cls=GroupedCommand, epilog=epilog, short_help=short_help)(with_debug(function))


def _check(job: Any) -> None:
    from .early import check_early  # with pyarrow, which takes a quarter of a second; help needs none of it

    check_early(job)


_register(demo, "clipmill demo --out demo-out")
for _step in STEPS:
    _register(takes_job(command_of(_step.name), _check), *_step.examples)
    if _step.name == "embed":
        _register(status, "clipmill status out/", "clipmill status s3://b/out --watch")
_register(models, "clipmill models", "clipmill models ViT-B-32")
_register(run, "clipmill run nightly.yaml --set bucket=s3://b")
_register(submit, "clipmill submit nightly.yaml --address http://head:8265")
_register(cancel, "clipmill cancel raysubmit_8vTBFQq3Yf2k --address http://head:8265")
_register(render, "clipmill render nightly.yaml | kubectl apply -f -")
_register(schema, "clipmill schema > clipmill.schema.json")


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
        typer.Option(
            envvar=LOG,
            help="What stderr says of progress: a bar, or a line an event for logs. A command's own --json makes its "
            "result on stdout JSON, too.",
        ),
    ] = "bar",
) -> None:
    os.environ[LOG] = log  # also for what is started from here
    if log == "json":
        begin_json()


def script() -> None:
    """The console script: `main`. After Ctrl-C the process ends once all is put away, without Python's own end: Ray's
    library, stopped while it started, crashes there now and then."""
    codes: list[object] = []
    atexit.register(_end_if_stopped, codes)  # before what Ray registers, so that it comes after
    try:
        main()
    except SystemExit as end:
        codes.append(end.code)
        raise


def _end_if_stopped(codes: list[object]) -> None:
    if codes == [_STOPPED]:
        with suppress(OSError, ValueError):  # nobody reads on, or it is closed
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(_STOPPED)


def main() -> None:
    """One line for whatever is wrong, and the exit codes of the error tree."""
    debug = "--debug" in sys.argv
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
        if code == _STOPPED:  # some versions of typer turn Ctrl-C into this
            raise KeyboardInterrupt
    except (KeyboardInterrupt, typer.Abort):
        _say("stopped; what is committed stays, run the same command again to go on")
        code = _STOPPED
    except ClipmillError as error:
        if debug:
            traceback.print_exc()
        _say(str(error))
        code = error.exit_code
    except Exception as error:
        if hasattr(error, "format_message"):  # what typer raises for a wrong command line: click's type or its own
            _say(_usage(error))
            sys.exit(2)
        if debug:
            traceback.print_exc()
        _say(f"unexpected {type(error).__name__}: {error}; run again with --debug and report it")
        code = 1
    finally:
        end_json()
    sys.exit(code if isinstance(code, int) else 0)


def _usage(error: Any) -> str:
    """What is wrong with the command line, and whose help to ask for."""
    context = getattr(error, "ctx", None)
    message = error.format_message().rstrip(".").replace("Value error, ", "")  # pydantic's, within some typers
    return f"{message}; see `{context.command_path if context else 'clipmill'} --help`"


def _say(line: str) -> None:
    print(f"clipmill: {redacted_text(' '.join(line.split()))}", file=sys.stderr)
