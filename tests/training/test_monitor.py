"""The collapse monitor on codes written out by hand."""

import pytest
import torch

from visual_sentence.training.monitor import CodebookMonitor


def codes(*numbers: int) -> torch.Tensor:
    return torch.tensor(numbers).view(1, 1, -1)


def test_usage_is_the_share_of_codes_used_in_the_window():
    monitor = CodebookMonitor(10, window=3, threshold=0.0)
    assert monitor.usage() == 0
    for step, tokens in enumerate([codes(0, 1), codes(1, 2), codes(2, 2), codes(3, 3), codes(3, 3)], start=1):
        monitor.update(tokens, step)
        expected = {1: 2, 2: 3, 3: 3, 4: 3, 5: 2}[step]  # {0 1}, {0 1 2}, {0 1 2}, {1 2 3}, {2 3}
        assert monitor.usage() == pytest.approx(expected / 10)


def test_batches_of_one_step_count_together():
    monitor = CodebookMonitor(10, window=1, threshold=0.0)
    monitor.update(codes(0, 1), 1)
    monitor.update(codes(2, 3), 1)
    assert monitor.usage() == pytest.approx(0.4) and monitor.tokens_per_step == 4


def test_it_warns_once_below_the_threshold_and_not_before_the_window_is_full():
    monitor = CodebookMonitor(4, window=2, threshold=0.6)
    monitor.update(codes(0, 0, 0, 0), 1)
    assert monitor.warning(monitor.usage()) is None
    monitor.update(codes(1, 1, 1, 1), 2)
    line = monitor.warning(monitor.usage())
    assert "step 2: codebook use fell to 50.0% (below 60.0%)" in line and "\n" not in line
    monitor.update(codes(1, 1, 1, 1), 3)
    assert monitor.warning(monitor.usage()) is None


def test_a_window_begins_with_the_first_tokens():
    monitor = CodebookMonitor(4, window=3, threshold=0.6)
    for step in (101, 102):  # what came before had no codes
        monitor.update(codes(0, 0, 0, 0), step)
        assert monitor.warning(monitor.usage()) is None
    monitor.update(codes(0, 0, 0, 0), 103)
    assert monitor.warning(monitor.usage()).startswith("step 103")


def test_it_warns_when_use_falls_to_less_than_half_of_its_best():
    monitor = CodebookMonitor(8, window=1, threshold=0.01)
    for step, tokens in enumerate([codes(*range(8)), codes(0, 1, 2, 3, 0, 1, 2, 3)], start=1):
        monitor.update(tokens, step)
        assert monitor.warning(monitor.usage()) is None  # exactly half
    monitor.update(codes(0, 1, 2, 0, 1, 2, 0, 1), 3)
    assert "fell to 37.5% (from 100.0%)" in monitor.warning(monitor.usage())


def test_a_window_of_fewer_tokens_than_codes_is_measured_by_what_is_possible():
    monitor = CodebookMonitor(1000, window=1, threshold=0.5)
    monitor.update(codes(*range(20)), 1)
    assert monitor.usage() == pytest.approx(0.02)
    assert monitor.warning(monitor.usage()) is None  # 20 tokens, 20 codes
    assert monitor.warning(monitor.usage(), processes=4) is not None  # 80 tokens, 20 codes


def test_state_goes_round():
    monitor, other = (CodebookMonitor(8, window=2, threshold=0.9) for _ in range(2))
    for step in (1, 2):
        monitor.update(codes(step, 3), step)
    monitor.warning(monitor.usage())
    other.load_state_dict(monitor.state_dict())
    assert other.usage() == monitor.usage() and other.has_warned and other.best == monitor.best
    other.update(codes(7, 7), 3)
    assert other.usage() == pytest.approx(3 / 8)
    assert monitor.usage() == pytest.approx(3 / 8)  # {1 2 3}: the other's codes are its own
    assert monitor.last_used[7] < 0
