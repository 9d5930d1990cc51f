"""Whether the licence of weights lets them be used commercially.

The rule: a licence allows it only if it is stated and is one of ``ALLOW_COMMERCIAL_USE``. Any other text, an unknown
licence included, counts as not allowing it: whoever has read that licence can decide otherwise. What the licences of
the training images say is another matter, and none of this is legal advice.
"""

import re

ALLOW_COMMERCIAL_USE = frozenset(
    {
        "apache-2.0",
        "bsd-2-clause",
        "bsd-3-clause",
        "cc-by-3.0",
        "cc-by-4.0",
        "cc-by-sa-4.0",
        "cc0-1.0",
        "isc",
        "mit",
    }
)
"""Licences that allow commercial use, as the Hub writes them; blanks and capitals make no difference."""


def why_not_commercial(license: str | None) -> str | None:
    """Why weights under this licence are not for commercial use, to be read after "because"; None if they are."""
    if license is None:
        return "no licence is stated"
    written = re.sub(r"[\s_-]+", "-", license.strip().lower())
    if written in ALLOW_COMMERCIAL_USE:
        return None
    if re.search(r"\bnc\b|non-?commercial", written):
        return f"its licence ({license}) forbids it"
    return f"its licence ({license}) is not one that is known to allow it"
