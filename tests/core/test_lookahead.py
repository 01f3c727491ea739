from __future__ import annotations

import threading
import time

import pytest

from macrec_core.lookahead import ahead, in_threads


def test_items_come_in_order_and_one_is_made_ahead():
    made, second = [], threading.Event()

    def items():
        for number in range(5):
            made.append(number)
            if number == 1:
                second.set()
            yield number

    found = ahead(items())
    assert next(found) == 0
    assert second.wait(10)  # made while the caller holds the first
    assert made == [0, 1]
    assert list(found) == [1, 2, 3, 4]
    assert made == [0, 1, 2, 3, 4]


def test_nothing_gives_nothing_and_none_is_an_item():
    assert list(ahead([])) == []
    assert list(ahead([None, None])) == [None, None]


def test_an_error_comes_in_its_place():
    def items():
        yield 1
        raise ValueError("broken")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ValueError, match="broken"):
        next(found)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_order_of_the_items(threads):
    waits = [0.02, 0.0, 0.01, 0.0, 0.015, 0.0, 0.0]

    def work(number):
        time.sleep(waits[number])
        return number * number

    assert list(in_threads(work, range(7), threads)) == [n * n for n in range(7)]
    assert list(in_threads(work, [], threads)) == []


def test_only_a_few_items_are_begun_before_a_result_is_taken():
    taken = []

    def items():
        for number in range(100):
            taken.append(number)
            yield number

    found = in_threads(lambda number: number, items(), 2)
    assert next(found) == 0
    assert len(taken) == 4
    assert next(found) == 1
    assert len(taken) == 5
    found.close()


def test_each_thread_begins_with_its_start():
    started = []
    found = in_threads(
        lambda _: threading.current_thread().name, range(50), 2,
        lambda: started.append(threading.current_thread().name),
    )  # fmt: skip
    assert set(found) <= set(started)
    assert 1 <= len(started) <= 2


def test_an_error_in_a_thread_comes_in_its_place():
    found = in_threads(lambda number: 1 // (number - 2), range(9), 2)
    assert [next(found), next(found)] == [-1, -1]
    with pytest.raises(ZeroDivisionError):
        next(found)
