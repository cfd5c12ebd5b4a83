"""Words of sentences that depend on a number."""


def counted(number: int, noun: str) -> str:
    """A number and what it counts: "1 planet", "2 planets"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
