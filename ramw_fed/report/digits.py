"""Numbers as a reader sees them."""


def short(value: float) -> str:
    """Return three digits behind the point, without the zero before it; two from 1 on.

    >>> short(0.9184), short(-0.01), short(13.744), short(1.0)
    ('.918', '-.010', '13.74', '1.00')
    """
    return f"{value:.3f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.2f}"


def chance(p: float | None) -> str:
    """Return a p-value, a dash where there is none.

    >>> chance(0.0004), chance(0.04), chance(None)
    ('<.001', '.040', '-')
    """
    if p is None:
        return "-"
    return "<.001" if p < 0.001 else short(p)


def counted(value: float) -> str:
    """Return a count, or a sum of counts, without digits behind the point.

    >>> counted(7.0)
    '7'
    """
    return f"{value:.0f}"


def percent(share: float) -> str:
    """Return a share of 1 in percent.

    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * share:.1f} %"
