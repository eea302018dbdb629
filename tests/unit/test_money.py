"""Money: exact both ways, nothing rounded in silence, nothing without bounds."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money_rules import LARGEST_PRICE, exponent, to_major, to_minor

currencies = st.sampled_from(["EUR", "USD", "JPY", "KWD", "XYZ"])


@given(currencies, st.data())
def test_minor_units_come_back_as_they_went(currency: str, data: st.DataObject) -> None:
    minor = data.draw(st.integers(0, 10 ** (9 + exponent(currency))))
    assert to_minor(to_major(minor, currency), currency) == minor


@given(currencies, st.decimals(0, LARGEST_PRICE, allow_nan=False, places=6))
def test_an_amount_is_exact_or_refused(currency: str, amount: Decimal) -> None:
    try:
        assert to_major(to_minor(amount, currency), currency) == amount
    except ValueError:
        assert amount != round(amount, exponent(currency))


@pytest.mark.parametrize(("currency", "places"), [("EUR", 2), ("JPY", 0), ("KWD", 3), ("XYZ", 2)])
def test_a_currency_has_the_decimal_places_of_iso_4217(currency: str, places: int) -> None:
    assert exponent(currency) == places
    assert to_minor(Decimal(7), currency) == 7 * 10**places
    with pytest.raises(ValueError, match=f"{places} decimal places"):
        to_minor(Decimal(1).scaleb(-places - 1), currency)


@pytest.mark.parametrize("amount", ["-0.01", "-1", "NaN", "sNaN", "Infinity", "-Infinity", "1000000000.01", "1e400"])
def test_what_is_no_price_is_refused(amount: str) -> None:
    with pytest.raises(ValueError, match="between 0 and"):
        to_minor(Decimal(amount), "EUR")


@pytest.mark.parametrize("amount", ["1." + "0" * 40 + "1", "999999999.99" + "0" * 20 + "1", "1e-999999", "1e-9999999"])
def test_more_digits_than_arithmetic_keeps_are_refused_not_rounded(amount: str) -> None:
    with pytest.raises(ValueError, match="decimal places"):
        to_minor(Decimal(amount), "EUR")


@pytest.mark.parametrize(
    ("amount", "minor"), [("0", 0), ("-0", 0), ("1000000000", 10**11), ("19.990", 1999), ("1e1", 1000)]
)
def test_the_same_amount_may_be_written_in_many_ways(amount: str, minor: int) -> None:
    assert to_minor(Decimal(amount), "EUR") == minor
