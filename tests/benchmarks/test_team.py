from __future__ import annotations

import multiprocessing
import os
import time

import pytest

from benchmarks.team import Team
from macrec_core.errors import MacrecError


def test_members_work_together_on_one_thread_each_and_end():
    before = dict(os.environ)
    with Team(2, "team_members:Member") as team:
        assert dict(os.environ) == before
        assert team("one") == [(0, 1, 2.0, "one"), (1, 1, 2.0, "one")]
        assert team("two") == [(0, 1, 2.0, "two"), (1, 1, 2.0, "two")]
        folder = team._folder.name
    assert not multiprocessing.active_children()
    assert not os.path.exists(folder)


@pytest.mark.parametrize(("member", "order"), [("Member", "end"), ("Broken", "one")])
def test_a_member_that_ends_ends_the_work(member, order):
    start = time.monotonic()
    with pytest.raises(MacrecError, match="free memory"), Team(2, f"team_members:{member}") as team:
        team(order)
    assert not multiprocessing.active_children()
    # Not the hours that processes wait for each other.
    assert time.monotonic() - start < 120
