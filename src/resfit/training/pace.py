"""The stopwatch of a training: speed, time left, and a plan that keeps to a wall time."""

import time
from typing import Any

RECENT_STEPS = 50  # the speed ahead is taken to be that of about so many last steps
FIRST_CHECK = 10  # steps until the measured speed may change a plan
CHECKS = 20  # about so many checks in what is left, closer and closer to the end
TOLERANCE = 0.03  # a plan that misses by less stays


class Pace:
    """Times steps and evaluations; pausing for neither changes what `images_per_second` means: steps alone.

    A deadline is a time of time.monotonic(); `most_steps` the longest plan it may lead to.
    """

    def __init__(self, batch_size: int, steps_per_epoch: int):
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self.deadline: float | None = None
        self.most_steps: int | None = None
        self._steps = 0
        self._step_seconds = 0.0
        self._recent = 0.0
        self._evaluation = 0.0
        self._elapsed_before = 0.0
        self._started = self._mark = time.monotonic()
        self._next_check = 0

    def expect(self, *, step_seconds: float, evaluation_seconds: float) -> None:
        """Takes a measured or guessed speed until there are steps."""
        self._recent, self._evaluation = step_seconds, evaluation_seconds

    def start(self, since: float | None = None) -> None:
        """The first step of this process begins now; `since` is when its time began to count."""
        self._mark = time.monotonic()
        self._started = self._mark if since is None else since

    def step_done(self) -> None:
        """A step ended now, and the next begins."""
        now = time.monotonic()
        seconds, self._mark = now - self._mark, now
        self._step_seconds += seconds
        self._steps += 1
        weight = max(1 / RECENT_STEPS, 1 / self._steps)
        self._recent += (seconds - self._recent) * weight

    def evaluated(self, seconds: float) -> None:
        """An evaluation took so long."""
        self._evaluation = seconds

    def go_on(self) -> None:
        """The next step begins now, after something that was no step."""
        self._mark = time.monotonic()

    @property
    def images_per_second(self) -> float:
        return self._steps * self.batch_size / self._step_seconds if self._step_seconds else 0.0

    @property
    def elapsed(self) -> float:
        """Seconds of training with everything, over all resumes."""
        return self._elapsed_before + time.monotonic() - self._started

    def seconds_for(self, steps: int) -> float:
        """Seconds that so many more steps and their evaluations will take."""
        return steps * self._recent + -(-steps // self.steps_per_epoch) * self._evaluation

    def steps_until_deadline(self, step: int = 0) -> int:
        """Steps there is time for after `step`, at least one; needs a deadline and a known speed."""
        assert self.deadline is not None
        # The present epoch owes the part of its evaluation that its steps so far amount to; the last one is whole
        in_epoch = (step - 1) % self.steps_per_epoch + 1 if step else 0
        evaluations = 1 + in_epoch / self.steps_per_epoch
        left = self.deadline - time.monotonic() - evaluations * self._evaluation
        return max(int(left / (self._recent + self._evaluation / self.steps_per_epoch)), 1)

    def replanned(self, step: int, steps: int) -> int:
        """The step at which the plan should end, seen from `step`: the same `steps` unless it misses the time."""
        if self.deadline is None or self._steps < FIRST_CHECK or step < self._next_check or step >= steps:
            return steps
        left = steps - step
        self._next_check = step + max(left // CHECKS, 1)
        wanted = step + self.steps_until_deadline(step)
        if self.most_steps is not None:
            wanted = max(min(wanted, self.most_steps), step + 1)
        return wanted if abs(wanted - steps) > max(2, TOLERANCE * left) else steps

    def to_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {
            "steps": self._steps,
            "step_seconds": self._step_seconds,
            "elapsed": self.elapsed,
            "most_steps": self.most_steps,
        }

    def restore(self, values: dict[str, Any]) -> None:
        """Goes on from what `to_dict` wrote."""
        self._steps, self._step_seconds = values["steps"], values["step_seconds"]
        self._elapsed_before = values["elapsed"]
        self.most_steps = values.get("most_steps")
        self._recent = self._step_seconds / self._steps if self._steps else 0.0
