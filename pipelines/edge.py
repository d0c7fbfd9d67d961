"""The outermost frame of every `python -m pipelines…`: logging on, errors as one line, exit codes as documented."""

import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from pipelines.errors import PipelineError, exit_with
from pipelines.logs import configure_logging

KEYBOARD_INTERRUPT_EXIT = 130  # 128 + SIGINT, as shells report it


def run_app(app: Callable[[], Any]) -> NoReturn:
    """Run a typer app (or any function that takes its arguments from sys.argv) and leave the process.

    A PipelineError prints as one `error: …` without traceback and exits with its code; any other exception is a bug,
    so its traceback is shown and the exit code is 1.

        if __name__ == "__main__":
            run_app(app)
    """
    try:
        configure_logging(os.environ.get("LOG_LEVEL") or "info")
        app()
    except PipelineError as error:
        exit_with(error)
    except KeyboardInterrupt:
        print("error: interrupted; run the same command again to go on", file=sys.stderr)
        raise SystemExit(KEYBOARD_INTERRUPT_EXIT) from None
    except Exception:
        traceback.print_exc()
        raise SystemExit(1) from None
    raise SystemExit(0)


def this_python() -> str:
    """Name the interpreter as a command on this machine does; below the working folder, relative to it.

    What is printed can so be run as it is, with no environment activated.
    """
    with suppress(ValueError):
        return str(Path(sys.executable).relative_to(Path.cwd()))
    return sys.executable
