"""Masks what looks like a secret in texts that leave the process."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence

_BEGIN, _END = (rf"-----{edge} [A-Z ]{{0,32}}PRIVATE KEY-----" for edge in ("BEGIN", "END"))
_PEM = re.compile(rf"{_BEGIN}.*?(?:{_END}|\Z)", re.DOTALL)
# Over lines with a NUL between them: a whole key, what looks like one that is cut off, and the end
# of one that began before the first line.
_PEM_LINES = re.compile(
    rf"{_BEGIN}(?:(?:(?!{_BEGIN}).){{0,20000}}?{_END}"
    r"|(?:\0(?:(?:Proc-Type|DEK-Info):[^\0]{0,80}|[\w+/=\s]{0,80}))*)"
    rf"|\A[\w+/=\s\0]{{0,20000}}{_END}",
    re.DOTALL,
)
# Every repetition is bounded: texts come from vendors, and may be made to take for ever.
_SECRETS = re.compile(
    r"\bey[JK][\w-]{8,512}\.[\w-]{8,4096}(?:\.[\w-]{0,1024})?"  # a JWT
    r"|\bya29\.[\w.-]{8,4096}"  # Google's access tokens
    r"|\bdapi[0-9a-f]{16,64}"  # Databricks' personal tokens
    # "Bearer authentication failed" is prose; a token has more than letters, or is long.
    r"|(?P<scheme>\b(?:bearer|basic)\s{1,8})"
    r"(?:[\w.~+/=-]{16,8192}|(?=[a-z]{0,16}[\d_.~+/=-])[\w.~+/=-]{6,16})"
    r"|(?P<user>://[^\s:/@]{0,128}:)[^\s/@]{1,256}(?=@)"
    r"|(?P<name>\b\w{0,32}(?:token|password|passwd|secret|api_?key|private_?key|signature)\w{0,32}"
    # "Unexpected token: SELECT" is prose too, so it takes `name=value` or `"name": "value"`.
    r"(?:=[\"']?|\\?[\"']\s{0,8}:\s{0,8}\\?[\"']))[^\s\"',;&\\]{4,8192}",
    re.IGNORECASE,
)
# What the patterns find has one of these in it.
_SIGNS = (
    *("eyj", "eyk", "ya29.", "dapi", "bearer", "basic", "://", "token", "passw", "secret"),
    *("apikey", "api_key", "privatekey", "private_key", "private key", "signature"),
)


_KNOWN_LIMIT, _LONGEST = 1000, 32 * 1024
_GAP = "..."
_known: OrderedDict[str, None] = OrderedDict()


def remember(secret: str) -> None:
    """Mask this very text from now on, whatever it looks like. Keeps the last thousand."""
    # A shorter one would be found inside ordinary words, and make all texts unreadable. A longer
    # one would be in no text whole: those that leave the process are cut.
    if 6 <= len(secret) <= _LONGEST and secret not in _known:
        _known[secret] = None
        if len(_known) > _KNOWN_LIMIT:
            _known.popitem(last=False)


def sendable(text: str) -> str:
    """`text` as UTF-8 can spell it: JSON has halves of characters, which protobuf does not take."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def redact(text: str) -> str:
    """`text`, sendable, with bearer tokens, private keys, passwords and the like masked."""
    if is_plain(text):
        return text
    text = sendable(text)
    # The longest first: a part of one that is masked by itself would leave the rest to be read.
    # A copy: an agent in a thread of its own may add one while this goes on.
    for secret in sorted((each for each in list(_known) if each in text), key=len, reverse=True):
        text = text.replace(secret, "[redacted]")
    if "PRIVATE KEY-----" in text:
        text = _PEM.sub("[redacted]", text)
    return _SECRETS.sub(_mask, text)


def without_keys(lines: Sequence[str]) -> Sequence[str]:
    """The lines of a log, those masked that a private key goes over: `redact` sees each by itself,
    and one from a key's middle looks like any other text."""
    text = "\0".join(line.replace("\0", "") for line in lines)
    if "PRIVATE KEY-----" not in text:
        return lines
    text = _PEM_LINES.sub(lambda key: "\0".join(["[redacted]"] * (key[0].count("\0") + 1)), text)
    return text.split("\0")


def excerpt(text: str, limit: int, *, ending: int = 0) -> str:
    """`text` with its secrets masked, and then cut: half a secret would not be known for one.

    limit: the most bytes of UTF-8. ending: how many of them are kept for the text's end, where it
    has to be cut; an error may say what it is about there.
    """
    reach = limit + 2 * _LONGEST
    if len(text) > 2 * reach:
        # Megabytes would keep the event loop for seconds. What lies at a border may be half a
        # secret, so it goes.
        text = f"{redact(text[:reach])[:-_LONGEST]}{_GAP}{redact(text[-reach:])[_LONGEST:]}"
    else:
        text = redact(text)
    raw = text.encode()
    if len(raw) <= limit:
        return text
    gap = f"\n{_GAP}\n" if ending else _GAP
    room = limit - len(gap)
    ending = min(ending, room)
    begin, end = raw[: room - ending], raw[len(raw) - ending :]
    # A cut may fall within a character.
    return f"{begin.decode(errors='ignore')}{gap}{end.decode(errors='ignore')}"


def is_plain(text: str) -> bool:
    """Whether `redact` leaves the text as it is, found out in a tenth of its time. May say no where
    it does; of texts that are joined it says yes only where it would for each."""
    # Beyond ASCII the pattern has letters for the same that `lower` has not, as the long s.
    return (
        text.isascii()
        and not any(map(text.lower().__contains__, _SIGNS))
        and not any(map(text.__contains__, list(_known)))
    )


def _mask(match: re.Match[str]) -> str:
    return f"{match['scheme'] or match['user'] or match['name'] or ''}[redacted]"
