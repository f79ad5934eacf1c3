"""``python -m tuning.worker FOLDER``: runs trials of a search that a chief elsewhere directs.

``--workers`` starts such processes. On other machines one starts them oneself: with the search's
folder in reach (its files are shared, the proposals travel), and in the environment

    KERASTUNER_TUNER_ID=another-one KERASTUNER_ORACLE_IP=host KERASTUNER_ORACLE_PORT=port
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import threading
from collections.abc import Sequence

from pipelines.engine.application import UserError
from pipelines.engine.cli import run_command

CHIEF_ON_STDIN = "--chief_on_stdin"


def run(arguments: Sequence[str]) -> None:
    """Does what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tuning.worker", description=__doc__)
    parser.add_argument("folder", metavar="FOLDER", help="of the search")
    parser.add_argument(CHIEF_ON_STDIN, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.chief_on_stdin:
        threading.Thread(target=_die_with_the_chief, daemon=True).start()

    from tuning.folder import Folder
    from tuning.tuner import ADDRESS, PORT, Tuner, is_worker

    if not (is_worker() and ADDRESS in os.environ and PORT in os.environ):
        raise UserError(
            "a worker needs KERASTUNER_TUNER_ID, KERASTUNER_ORACLE_IP and KERASTUNER_ORACLE_PORT "
            "in its environment"
        )
    Tuner(Folder(options.folder)).run()


def _die_with_the_chief() -> None:
    """Ends the process when the chief, which holds the other end of its input, is no more."""
    sys.stdin.buffer.read()
    os._exit(1)


main = functools.partial(run_command, run)

if __name__ == "__main__":
    main()
