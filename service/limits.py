"""Bounds that settings and events have in common; light, since children import it, too."""

from __future__ import annotations

from typing import Final

LARGEST: Final = 1 << 28
"""Bytes that may be submitted at once: what is larger the journal could not hold."""
