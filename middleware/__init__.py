"""Penstock's middleware: the contract, and one short file per middleware."""

from middleware.contract import Batch, Event, Mask, Middleware, SharedMiddleware
from middleware.errors import ConfigurationError, ContractError, PenstockError

__all__ = [
    "Batch",
    "ConfigurationError",
    "ContractError",
    "Event",
    "Mask",
    "Middleware",
    "PenstockError",
    "SharedMiddleware",
]
