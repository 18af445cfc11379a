"""What can a person type, and what comes of it?

A verb parses its arguments, asks the desk (the running daemon's, or one of its own), shows the result and ends with the
exit code of the contract. What verbs do is said in `mirrord.control.desk`.

    app.py      the verbs and their options
    talk.py     results, progress and questions on the terminal, or one JSON object
    screens.py  each verb's result for people
    examined.py what one mirror can do
    words.py    ages, sizes, foreign texts
    outcome.py  exit codes
    logs.py     log lines
    verify.py   the verdict on any copy
    setup.py    `config check`, `config show`
    ending.py   from an error to a sentence and an exit code

Nothing but typer is imported before a verb is chosen: `--help` answers at once.
"""

from __future__ import annotations


def main() -> None:
    """Do what the command line says and end the process."""
    collect_nothing_yet()
    try:
        from mirrord.cli.ending import leave, open_what_is_closed, run

        open_what_is_closed()
        code = run()
    except KeyboardInterrupt:  # before there was a verb that could say so
        raise SystemExit(130) from None
    leave(code)


def collect_nothing_yet() -> None:
    """Have Python look for no garbage while modules are loaded, which make none: a tenth of a start's time."""
    import gc

    gc.disable()


def collect_less_often() -> None:
    """Have Python look for garbage from now on, at wide intervals, and not among what was loaded.

    Its own intervals have it look at each path of a large site again and again: a sixth of a publish's time.
    """
    import gc

    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    gc.enable()
