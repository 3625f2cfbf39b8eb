"""How long things take, against textbook figures and against another way to say it."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_orders.ledger.survival import curve, estimate

# Weeks in remission, Freireich et al. 1963: the data that textbooks work through (e.g. Kleinbaum and Klein, "Survival
# Analysis", 3rd edition, chapter 2), with the estimates that they print.
TREATED = [6, 6, 6, 7, 10, 13, 16, 22, 23]
STILL_IN_REMISSION = [6, 9, 10, 11, 17, 19, 20, 25, 32, 32, 34, 35]
PLACEBO = [1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23]


def test_the_curve_is_what_textbooks_print() -> None:
    printed = [(6, 0.8571), (7, 0.8067), (10, 0.7529), (13, 0.6902), (16, 0.6275), (22, 0.5378), (23, 0.4482)]
    found = list(curve(Counter(TREATED), Counter(STILL_IN_REMISSION)))
    assert [time for time, _ in found] == [time for time, _ in printed]
    assert [round(share, 4) for _, share in found] == [share for _, share in printed]


def test_the_median_is_what_textbooks_print() -> None:
    treated = estimate(TREATED, STILL_IN_REMISSION)
    assert (treated.finished, treated.waiting, treated.p50, treated.p95) == (9, 12, 23, None)
    assert treated.average == pytest.approx(23.287, abs=0.001)  # restricted to the longest time seen, 35 weeks
    assert treated.at_least
    placebo = estimate(PLACEBO, [])
    assert (placebo.p50, placebo.p95, placebo.at_least) == (8, 22, False)
    assert placebo.average == pytest.approx(sum(PLACEBO) / len(PLACEBO))


def test_what_is_stuck_is_not_hidden_by_what_has_finished() -> None:
    found = estimate([1] * 10, [1000] * 10)
    assert (found.p50, found.p95) == (1, None)
    assert found.average == pytest.approx(0.5 * 1 + 0.5 * 1000)
    assert found.at_least


def test_of_nothing_nothing_is_known() -> None:
    assert estimate([], []) == (0, 0, None, False, None, None)
    assert estimate([], [5, 7]) == (0, 2, 7.0, True, None, None)


TIMES = st.lists(st.integers(0, 50), max_size=30)


@given(TIMES)
def test_when_all_is_over_it_is_the_plain_average_and_the_plain_quantiles(times: list[int]) -> None:
    found = estimate(times, [])
    if not times:
        return
    assert found.average == pytest.approx(sum(times) / len(times))
    assert found.at_least is False
    for share, quantile in ((0.5, found.p50), (0.05, found.p95)):
        assert quantile == min(time for time in times if sum(one > time for one in times) <= share * len(times) + 1e-9)


@given(TIMES, TIMES)
def test_it_is_the_product_over_each_end_in_exact_fractions(finished: list[int], waiting: list[int]) -> None:
    expected, share = [], Fraction(1)
    for time in sorted(set(finished)):
        at_risk = sum(one >= time for one in (*finished, *waiting))
        share *= Fraction(at_risk - finished.count(time), at_risk)
        expected.append((time, float(share)))
    found = list(curve(Counter(finished), Counter(waiting)))
    assert [time for time, _ in found] == [time for time, _ in expected]
    assert [left for _, left in found] == pytest.approx([left for _, left in expected])


@given(TIMES, TIMES, st.integers(1, 1000))
def test_another_unit_changes_the_numbers_and_not_the_meaning(
    finished: list[int], waiting: list[int], unit: int
) -> None:
    found = estimate(finished, waiting)
    other = estimate([time * unit for time in finished], [time * unit for time in waiting])
    assert other.average == (None if found.average is None else pytest.approx(found.average * unit))
    assert (other.p50, other.p95) == tuple(None if time is None else time * unit for time in (found.p50, found.p95))


@given(TIMES, TIMES, st.integers(0, 20))
def test_who_waits_on_makes_no_time_shorter(finished: list[int], waiting: list[int], longer: int) -> None:
    before, after = estimate(finished, waiting), estimate(finished, [time + longer for time in waiting])
    if before.average is not None and after.average is not None:
        assert after.average >= before.average - 1e-9
    for early, late in ((before.p50, after.p50), (before.p95, after.p95)):
        assert late is None or (early is not None and late >= early)
