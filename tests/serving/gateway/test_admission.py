"""The bound on lists at once, and the circuit breaker: by a clock of the test's own."""

from serving.gateway.admission import FEW, FEWEST, LAG_SHARE, LESS, START, TICK_S, TURNS, Admission
from serving.gateway.breaker import SILENT_S, CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_as_many_are_let_in_as_the_bound_says_and_the_next_after_one_has_left():
    admission = Admission(most=3, budget_s=0.1)
    assert [admission.enter() for _ in range(4)] == [True, True, True, False]
    admission.leave(0.01, is_models=True)
    assert admission.enter()


def test_a_loop_that_is_behind_takes_a_few_lists_at_once_until_it_has_caught_up():
    clock, late_s = Clock(), TICK_S + LAG_SHARE * 0.1 + 0.001
    admission = Admission(most=64, budget_s=0.1, clock=clock)
    admission.lag.tick()
    assert all(admission.enter() for _ in range(FEW))
    for _ in range(TURNS - 1):
        clock.now += late_s
        admission.lag.tick()
    assert admission.enter(), "a stall of a moment, and what came meanwhile"
    clock.now += late_s
    assert not admission.enter(), "the next one is overdue too"
    admission.lag.tick()
    assert not admission.enter(), "it has come, late"
    for _ in range(FEW + 1):
        admission.leave(0.01, is_models=True)
    assert [admission.enter() for _ in range(FEW + 1)] == [True] * FEW + [False], "a few go on"
    clock.now += TICK_S
    admission.lag.tick()
    assert admission.enter(), "a turn came in time"


def test_answers_that_wait_together_are_late_together_and_count_once():
    clock = Clock()
    admission = Admission(most=64, budget_s=0.1, clock=clock)
    for _ in range(20):
        admission.enter()
    for _ in range(10):
        admission.leave(0.09, is_models=True)
    assert admission.bound == int(LESS * START)
    clock.now += 1.0
    for _ in range(10):
        admission.leave(0.09, is_models=True)
    assert admission.bound == int(LESS * LESS * START)


def test_the_bound_never_falls_below_the_fewest_and_comes_back_with_answers_in_time():
    clock = Clock()
    admission = Admission(most=64, budget_s=0.1, clock=clock)
    for _ in range(50):
        clock.now += 1
        admission.enter()
        admission.leave(0.2, is_models=False)
    assert admission.bound == FEWEST
    for _ in range(2000):
        admission.enter()
        admission.leave(0.01, is_models=True)
    assert admission.bound == START, "little load does not raise it above the usual"


def test_the_bound_grows_by_one_with_each_bound_full_of_answers_under_load_up_to_the_most():
    admission = Admission(most=34, budget_s=0.1)
    for _ in range(100):
        while admission.enter():
            pass
        for _ in range(10):
            admission.leave(0.01, is_models=True)
    assert admission.bound == 34


def test_quick_answers_that_stand_in_for_the_model_do_not_raise_the_bound():
    clock = Clock()
    admission = Admission(most=64, budget_s=0.1, clock=clock)
    admission.enter()
    admission.leave(0.2, is_models=False)
    before = admission.bound
    for _ in range(1000):
        admission.enter()
        admission.leave(0.001, is_models=False)
    assert admission.bound == before


def test_the_breaker_opens_after_failures_in_a_row_tries_once_a_while_and_closes_on_success():
    clock = Clock()
    breaker = CircuitBreaker(failures=3, retry_s=2.0, clock=clock)
    for _ in range(3):
        assert breaker.allows()
        breaker.failed()
    assert breaker.is_open and not breaker.allows()
    clock.now += 2.0
    assert [breaker.allows(), breaker.allows()] == [True, False]
    breaker.succeeded()
    assert breaker.allows() and not breaker.is_open


def test_failures_in_a_row_beside_successes_do_not_open_the_breaker():
    """An overloaded model answers some in time while others, in a row, come too late."""
    clock = Clock()
    breaker = CircuitBreaker(failures=3, retry_s=2.0, clock=clock)
    for _ in range(10):
        breaker.succeeded()
        for _ in range(5):
            clock.now += SILENT_S / 10
            breaker.failed()
    assert not breaker.is_open
    clock.now += SILENT_S
    breaker.failed()
    assert breaker.is_open
