"""How other threads reach the one that owns everything."""

from __future__ import annotations

import threading

import pytest

from mirrord.control.inbox import Inbox
from mirrord.errors import Locked, NoAnswer


def test_an_answer_and_an_error_come_back_to_who_asked() -> None:
    """A verb must not tell by its thread whether a daemon runs."""
    inbox = Inbox()

    def refuse() -> int:
        raise Locked("web: somebody moves it")

    def own() -> None:
        for _ in range(2):
            act = inbox.next(10)
            assert act is not None
            act()

    owner = threading.Thread(target=own)
    owner.start()
    assert inbox.ask(lambda: 7) == 7
    with pytest.raises(Locked):
        inbox.ask(refuse)
    owner.join()


def test_what_nobody_waits_for_any_more_is_not_done() -> None:
    """A person was told `no answer`; a service that is claimed for him afterwards would never be released."""
    inbox, done = Inbox(patience=0.05), []
    with pytest.raises(NoAnswer):
        inbox.ask(lambda: done.append("claimed"))
    inbox.post(lambda: done.append("told"))

    while (act := inbox.next(0)) is not None:
        act()
    assert done == ["told"]
