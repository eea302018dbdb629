"""Money: integer minor units inside, decimal major units at the edge. Pure. Exponents by ISO 4217."""

from decimal import Decimal, Inexact, localcontext

_EXPONENTS = {
    **dict.fromkeys(
        (
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ),
        0,
    ),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}

#: In major units: a bigint of minor units has room for it many times over.
LARGEST_PRICE = Decimal(1_000_000_000)


def exponent(currency: str) -> int:
    """Decimal places of a currency: 2 unless ISO 4217 says otherwise."""
    return _EXPONENTS.get(currency, 2)


def to_minor(amount: Decimal, currency: str) -> int:
    """An amount in minor units. Raises ValueError for no amount, or more decimal places than the currency has."""
    if not amount.is_finite() or amount < 0 or amount > LARGEST_PRICE:
        raise ValueError("must be between 0 and 1000000000")
    with localcontext() as exact:
        exact.traps[Inexact] = True  # digits beyond the context's precision would be rounded away in silence
        try:
            return int(amount.scaleb(exponent(currency)).to_integral_exact())
        except Inexact:
            raise ValueError(f"{currency} has {exponent(currency)} decimal places") from None


def to_major(minor: int, currency: str) -> Decimal:
    """Minor units as an exact decimal in major units."""
    return Decimal(minor).scaleb(-exponent(currency))
