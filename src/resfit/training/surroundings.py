"""What a training changes in its process, and puts back: threads, random state, deterministic kernels, signals."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import torch
from torch.utils import deterministic

from resfit.errors import ResfitError


class Interrupted(ResfitError):
    """Training was asked to stop (Ctrl-C, SIGTERM, a closed terminal) and stopped between two steps."""

    code = "interrupted"
    exit_code = 130


class TrainingDiverged(ResfitError):
    """Loss or weights are no numbers any more, or the loss has risen out of all bounds."""

    code = "diverged"


@contextmanager
def reproducible() -> Iterator[None]:
    """Within it torch runs deterministic kernels; afterwards they, random state and threads are as before."""
    threads_before = torch.get_num_threads()
    random_before = torch.get_rng_state()
    deterministic_before = torch.are_deterministic_algorithms_enabled()
    warn_before = torch.is_deterministic_algorithms_warn_only_enabled()
    fill_before = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    torch.use_deterministic_algorithms(True)
    # Filling costs time, and nothing here reads such memory
    deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads_before)
        torch.set_rng_state(random_before)
        torch.use_deterministic_algorithms(deterministic_before, warn_only=warn_before)
        deterministic.fill_uninitialized_memory = fill_before  # type: ignore[attr-defined]


class StopRequest:
    """Set by Ctrl-C, SIGTERM or a closed terminal while `listening`; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True

    @contextmanager
    def listening(self) -> Iterator["StopRequest"]:
        """Receives the signals; outside the main thread, which alone may, it does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        numbers = [signal.SIGINT, signal.SIGTERM]
        if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # nohup means it
            numbers.append(signal.SIGHUP)
        before = {number: signal.signal(number, self._receive) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
