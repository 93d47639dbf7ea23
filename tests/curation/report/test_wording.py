import pytest

from curation.report.wording import count, percent, size


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1_000, "1.0 kB"), (130_739_200, "130.7 MB"), (2 * 10**18, "2,000.0 PB")],
)
def test_sizes_are_decimal(num_bytes, text):
    assert size(num_bytes) == text


def test_shares_never_round_something_to_nothing():
    assert (percent(0), percent(0.0001), percent(0.1234), percent(1)) == ("0.0 %", "<0.1 %", "12.3 %", "100.0 %")


def test_numbers_have_their_thousands_apart():
    assert count(1_234_567) == "1,234,567"
