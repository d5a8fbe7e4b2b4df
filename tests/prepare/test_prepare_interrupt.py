"""Ctrl-C while COLMAP works: it is told, waited for, and then the interrupt goes on its way."""

import os
import signal
import threading
import time

import pytest

from blocknerf.prepare.colmap import interruptible


@pytest.fixture
def interrupts():
    """SIGINT raises here even where it is ignored, as it is in jobs that a shell starts in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_the_call_has_ended_before_the_interrupt_leaves(interrupts):
    steps = []

    def call(token):
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        while not token.is_cancelled:
            time.sleep(0.01)
        time.sleep(0.5)  # COLMAP needs a while to come to an end
        steps.append("ended")

    with pytest.raises(KeyboardInterrupt):
        interruptible(call)
    assert steps == ["ended"]


def test_results_and_errors_come_through():
    assert interruptible(lambda token: token.is_cancelled) is False
    with pytest.raises(ZeroDivisionError):
        interruptible(lambda token: 1 / 0)
