"""Who does the work that must not wait for other work?

One crew for each kind of work, so that a slow upload never delays a probe and a hung name server never
delays an upload. This is the only place that makes workers outside the daemon's own threads.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor


def make_crew(name: str, size: int) -> Executor:
    """Return `size` workers (at least one), started as they are needed and named for a debugger's sake.

    They are joined when the interpreter exits, whatever they wait for: a process that must end in time
    ends by `os._exit`.
    """
    return ThreadPoolExecutor(max(1, size), thread_name_prefix=name)
