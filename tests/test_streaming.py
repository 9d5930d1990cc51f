"""Reading ahead."""

import threading

import pytest

from everymask.streaming import read_ahead


def test_items_keep_the_order_of_their_sources_though_later_ones_may_be_read_first():
    second_is_read = threading.Event()

    def read(source):
        def rest():
            if source == 0:
                assert second_is_read.wait(30)
            else:
                second_is_read.set()
            return source * 10

        return rest

    assert list(read_ahead(iter(range(9)), read, 4)) == [source * 10 for source in range(9)]


def test_sources_are_asked_and_begun_in_the_thread_of_the_caller():
    threads = set()

    def sources():
        for source in range(5):
            threads.add(threading.current_thread())
            yield source

    def read(source):
        threads.add(threading.current_thread())
        return threading.current_thread

    rests = set(read_ahead(sources(), read, 2))
    assert threads == {threading.current_thread()}
    assert threading.current_thread() not in rests


@pytest.mark.parametrize("ahead", [1, 2, 7])
def test_no_more_than_asked_for_is_read_ahead(ahead):
    taken = []
    items = read_ahead((taken.append(i) or i for i in range(100)), lambda source: lambda: source, ahead)
    for given, item in enumerate(items):
        assert item == given
        assert len(taken) <= given + 1 + ahead
    assert len(taken) == 100


def test_errors_come_in_their_place():
    def read(source):
        def rest():
            if source == 2:
                raise KeyError("third")
            return source

        return rest

    items = read_ahead(iter(range(5)), read, 3)
    assert [next(items), next(items)] == [0, 1]
    with pytest.raises(KeyError, match="third"):
        next(items)
    assert list(items) == []


def test_without_sources_there_is_nothing():
    assert list(read_ahead(iter(()), lambda source: lambda: source, 2)) == []
