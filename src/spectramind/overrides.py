"""The words `KEY=VALUE` of a command line, checked one by one and made ready for Hydra's grammar.

Paths are taken as the shell hands them over: that grammar would take brackets, commas, quotes,
`~` and `#` apart, so a path stands in its quotes.
"""

import re
from collections.abc import Collection, Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from spectramind.errors import ConfigError

FORM = "Overrides read KEY=VALUE, for example uq.corel=true."
_WORD = re.compile(r"(\+{0,2}([a-z]\w*(?:\.\w+)*)=)(.*)", re.DOTALL | re.ASCII)
_INTERPOLATION = re.compile(r"(\\*)\$\{")


def parse(words: Sequence[str], paths: Collection[str], *, sweep: bool) -> list[Override]:
    """Check and parse every word.

    Args:
        words: As the shell hands them over.
        paths: Keys whose values are paths.
        sweep: Whether several values may stand behind a key; a comma parts those of paths too.

    Raises:
        ConfigError: If a word is no KEY=VALUE, or has several values without `sweep`.
    """
    parsed = [_parsed(word, _verbatim(word, paths, sweep=sweep)) for word in words]
    for word, override in zip(words, parsed, strict=True):
        if override.is_sweep_override() and not sweep:
            key = override.get_key_element()
            raise ConfigError(
                f"{word}: has several values. A stage runs with each of them under --multirun "
                f"(-m); a text with a comma stands in quotes: '{key}=\"A,B\"'; a list in "
                f"brackets: '{key}=[A,B]'."
            )
    return parsed


def _parsed(word: str, verbatim: str) -> Override:
    if "=" not in word and not word.startswith("~"):
        raise ConfigError(f"{word or repr(word)}: is no KEY=VALUE. {FORM}")
    if word.lstrip("+").startswith("="):
        raise ConfigError(f"{word}: has no key. {FORM}")
    try:
        return OverridesParser.create().parse_override(verbatim)
    except HydraException as error:
        found = _WORD.fullmatch(word)
        hint = f" Special characters stand in quotes: '{found[1]}\"TEXT\"'." if found else ""
        raise ConfigError(f"{word}: cannot be read. {FORM}{hint}") from error


def _verbatim(word: str, paths: Collection[str], *, sweep: bool) -> str:
    """The word, with its value in quotes if it is a path."""
    found = _WORD.fullmatch(word)
    if found is None or found[2] not in paths:
        return word
    values = found[3].split(",") if sweep else [found[3]]
    return found[1] + ",".join(value if value == "null" else _quoted(value) for value in values)


def _quoted(text: str) -> str:
    literal = _INTERPOLATION.sub(lambda found: f"{2 * found[1]}\\${{", text)
    return QuotedString(literal, Quote.single).with_quotes()
