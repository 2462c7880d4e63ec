"""Blocks through an executor: in order, few at a time, and errors come out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dgex import blocks
from dgex.blocks import map_blocks, one_behind


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(), max_size=60))
def test_results_come_in_the_order_of_the_blocks(numbers: list[int]) -> None:
    assert list(map_blocks(lambda n: n * 3, numbers)) == [n * 3 for n in numbers]


def test_order_holds_when_early_blocks_take_longest() -> None:
    def slow_first(n: int) -> int:
        time.sleep(0.02 if n == 0 else 0)
        return n

    with ThreadPoolExecutor(4) as executor:
        assert list(map_blocks(slow_first, range(20), executor)) == list(range(20))


@pytest.mark.parametrize("cores", [1, 4, 64])
def test_few_blocks_are_in_memory_however_many_cores(
    cores: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """64 MB blocks and their float64 copies must fit 4 GB on a large server too."""
    monkeypatch.setattr(blocks, "_n_cores", lambda: cores)
    drawn, most = 0, 0

    def count_drawn() -> Iterator[int]:
        nonlocal drawn
        for n in range(300):
            drawn += 1
            yield n

    for returned, _ in enumerate(map_blocks(lambda n: n, count_drawn())):
        most = max(most, drawn - returned)
    assert most <= 9


def test_blocks_are_drawn_in_the_calling_thread() -> None:
    """One HDF5 handle serves one thread."""
    threads = set()

    def draw() -> Iterator[int]:
        for n in range(10):
            threads.add(threading.get_ident())
            yield n

    list(map_blocks(lambda n: n, draw()))
    assert threads == {threading.get_ident()}


def test_an_error_in_a_block_comes_out_and_ends_the_work() -> None:
    seen = []

    def fail_on_three(n: int) -> int:
        seen.append(n)
        if n == 3:
            raise ValueError("three")
        return n

    results = []
    with pytest.raises(ValueError, match="three"):
        results.extend(map_blocks(fail_on_three, range(1000)))
    assert len(seen) < 300


def test_an_error_while_drawing_comes_out() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise OSError("torn")

    results = map_blocks(lambda n: n, broken())
    with pytest.raises(OSError, match="torn"):
        list(results)


def test_a_reader_that_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    results = map_blocks(lambda n: n, range(1000))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_the_next_block_is_drawn_while_one_is_dealt_with():
    drawn_b = threading.Event()

    def draw():
        yield "a"
        drawn_b.set()
        yield "b"

    seen = []

    def deal(block):
        assert drawn_b.wait(10)  # with one thread, b would come after a was dealt with
        seen.append(block)

    one_behind(deal, draw())
    assert seen == ["a", "b"]


def test_at_most_two_blocks_are_in_use():
    in_use, most = 0, []

    def draw():
        nonlocal in_use
        for _ in range(6):
            in_use += 1
            most.append(in_use)
            yield in_use

    def deal(_):
        nonlocal in_use
        time.sleep(0.01)
        in_use -= 1

    one_behind(deal, draw())
    # A third is begun only when the generator is asked for it, after the first is done.
    assert max(most) <= 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_the_block_under_way_is_finished_before_an_interruption_goes_on(kind):
    done = []

    def draw():
        yield 1
        raise kind

    def deal(block):
        time.sleep(0.05)
        done.append(block)

    with pytest.raises(kind):
        one_behind(deal, draw())
    assert done == [1]


def test_what_fails_behind_stops_the_drawing():
    drawn = []

    def deal(block):
        raise OSError("the disk is full")

    def draw():
        for block in range(100):
            drawn.append(block)
            yield block

    with pytest.raises(OSError, match="the disk is full"):
        one_behind(deal, draw())
    assert drawn == [0, 1]
