"""Run a function over row blocks on an executor; nothing else knows about parallelism."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

Block = TypeVar("Block")
Result = TypeVar("Result")

# A block of 64 MB takes about 400 MB while it is worked on, so that more workers than this would
# need more than 4 GB on a machine of many cores; the disk is the limit well before.
MOST_WORKERS = 4


def map_blocks(
    function: Callable[[Block], Result],
    blocks: Iterable[Block],
    executor: Executor | None = None,
) -> Iterator[Result]:
    """Yield ``function(block)`` for every block, in order, with a few under way at a time.

    Blocks are drawn in the calling thread, so that one file handle serves one thread, and no
    more than two per worker are in memory.

    Parameters
    ----------
    function
        A function that releases Python's lock for most of its time, as numpy does.
    blocks
        The blocks, drawn lazily.
    executor
        Where to run; threads of this process, one per core up to four, where not given.

    Examples
    --------
    >>> list(map_blocks(lambda block: block * 2, [1, 2, 3]))
    [2, 4, 6]
    """
    if executor is None:
        with ThreadPoolExecutor(_n_workers()) as own:
            yield from map_blocks(function, blocks, own)
        return
    under_way: deque[Future[Result]] = deque()
    try:
        for block in blocks:
            under_way.append(executor.submit(function, block))
            if len(under_way) >= 2 * _n_workers():
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        for future in under_way:
            future.cancel()


def one_behind(function: Callable[[Block], object], blocks: Iterable[Block]) -> None:
    """Call ``function`` on every block in a second thread, in order, while the next is drawn.

    No more than two blocks are in use at a time: one is drawn when the one before the last has
    been dealt with. After an error, in ``function`` or in drawing a block, the block under way is
    finished first.

    Parameters
    ----------
    function
        What is done with a block; it should release Python's lock for most of its time, as
        writing a file does.
    blocks
        The blocks, drawn lazily in the calling thread.

    Examples
    --------
    >>> written = []
    >>> one_behind(written.append, iter("abc"))
    >>> written
    ['a', 'b', 'c']
    """
    with ThreadPoolExecutor(1) as thread:
        under_way: Future[object] | None = None
        for block in blocks:
            if under_way is not None:
                under_way.result()
            under_way = thread.submit(function, block)
        if under_way is not None:
            under_way.result()


def _n_workers() -> int:
    return min(_n_cores(), MOST_WORKERS)


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
