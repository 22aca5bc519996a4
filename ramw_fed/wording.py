"""Numbers in words, and names as those of files."""

from urllib.parse import quote


def counted(number: int, noun: str) -> str:
    """Return how many of a thing there are.

    >>> counted(1, "worker"), counted(0, "kind")
    ('1 worker', '0 kinds')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def duration(seconds: float) -> str:
    """Return a time in the largest of ms, s, min and h of which it has at least one.

    >>> duration(0.0042), duration(42), duration(75), duration(5400), duration(2.5e6)
    ('4.2 ms', '42.0 s', '1.2 min', '1.5 h', '694 h')
    """
    sizes = ((3600.0, "h"), (60.0, "min"), (1.0, "s"), (0.001, "ms"))
    size, unit = next((one for one in sizes if seconds >= one[0]), sizes[-1])
    number = seconds / size
    return f"{number:.1f} {unit}" if number < 100 else f"{number:.0f} {unit}"


def as_file_name(name: str) -> str:
    """Return a center's name as that of a file: a name from a table may hold a slash, or be nothing but dots.

    >>> as_file_name("St. Ann"), as_file_name("a/b"), as_file_name("..")
    ('St. Ann', 'a%2Fb', '%2E%2E')
    """
    return quote(name, safe=" ") if name.strip(".") else name.replace(".", "%2E")
