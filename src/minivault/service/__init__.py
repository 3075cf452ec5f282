"""The one walk of a request. The only package that uses both the engine and the vault; knows nothing of HTTP."""

from minivault.service.choices import Choices, spread
from minivault.service.earlier import EarlierCall
from minivault.service.held import Held, HeldCall, holding
from minivault.service.limits import ServiceLimits
from minivault.service.replay import ReplayResult, ReplayVerdict
from minivault.service.service import Service, Statistics
from minivault.service.walk import Generation

__all__ = [
    "Choices",
    "EarlierCall",
    "Generation",
    "Held",
    "HeldCall",
    "ReplayResult",
    "ReplayVerdict",
    "Service",
    "ServiceLimits",
    "Statistics",
    "holding",
    "spread",
]
