"""The limit on BLAS threads: there while somebody needs it, gone afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import ThreadpoolController

from chunker.coding.blas import WORTH_BYTES, single_threaded


def threads() -> set[int]:
    np.dot(np.ones((2, 2)), np.ones((2, 2)))  # the library is loaded
    return {pool["num_threads"] for pool in ThreadpoolController().select(user_api="blas").info()}


def test_the_limit_holds_inside_and_ends_with_the_last_user():
    before = threads()
    with single_threaded(WORTH_BYTES):
        with single_threaded(WORTH_BYTES):
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == before


def test_many_threads_leave_it_as_it_was():
    before = threads()

    def use(_):
        with single_threaded(WORTH_BYTES):
            return threads()

    with ThreadPoolExecutor(8) as pool:
        assert all(seen == {1} for seen in pool.map(use, range(50)))
    assert threads() == before


def test_short_inputs_do_not_bother():
    before = threads()
    with single_threaded(WORTH_BYTES - 1):
        assert threads() == before


def test_an_error_inside_does_not_leave_the_limit():
    before = threads()
    try:
        with single_threaded(WORTH_BYTES):
            raise KeyError
    except KeyError:
        pass
    assert threads() == before
