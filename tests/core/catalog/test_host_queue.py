from __future__ import annotations

import threading
import time

from macrec_core.catalog.host_queue import HostQueue


def test_the_lowest_rank_comes_first_and_equals_in_the_order_of_their_coming():
    queue = HostQueue(limit=10)
    for host, rank in (("a", 5), ("b", 5), ("a", 5), ("b", 2), ("a", 9), ("c", 7)):
        queue.put(host, rank, f"{host}{rank}")
    assert [queue.take()[1] for _ in range(6)] == ["b2", "a5", "b5", "a5", "c7", "a9"]


def test_a_busy_host_keeps_only_its_own_tasks_waiting():
    queue = HostQueue(limit=2)
    for task in range(4):
        queue.put("slow", 0, task)
    queue.put("quick", 1, "q")
    assert [queue.take() for _ in range(3)] == [("slow", 0), ("slow", 1), ("quick", "q")]
    found = []
    waiting = threading.Thread(target=lambda: found.append(queue.take()), daemon=True)
    waiting.start()
    time.sleep(0.05)
    assert found == []
    queue.release("quick")
    time.sleep(0.05)
    assert found == []
    queue.release("slow")
    waiting.join(5)
    assert found == [("slow", 2)]


def test_closing_ends_all_who_wait():
    queue = HostQueue(limit=1)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(queue.take()), daemon=True) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    queue.close()
    for thread in threads:
        thread.join(5)
    assert found == [None, None, None]
    queue.put("a", 0, "late")
    assert queue.take() is None


def test_many_threads_finish_everything_within_the_limit():
    queue, done, busy, most = HostQueue(limit=2), [], dict.fromkeys("abc", 0), [0]
    lock = threading.Lock()

    def work():
        while (taken := queue.take()) is not None:
            host, task = taken
            with lock:
                busy[host] += 1
                most[0] = max(most[0], busy[host])
            time.sleep(0.0005)
            with lock:
                busy[host] -= 1
                done.append(task)
            queue.release(host)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for task in range(300):
        queue.put("abc"[task % 3], 0, task)
    deadline = time.monotonic() + 20
    while len(done) < 300 and time.monotonic() < deadline:
        time.sleep(0.01)
    queue.close()
    assert sorted(done) == list(range(300))
    assert most[0] == 2
