"""List the networks whose features heads can read."""

from typing import TYPE_CHECKING, Any, Union

from kohn.models.dimenet import DimeNet, DimeNetConfig
from kohn.models.mace import Mace, MaceConfig
from kohn.models.nequip import Nequip, NequipConfig
from kohn.models.network import Network
from kohn.models.schnet import SchNet, SchNetConfig
from kohn.typing import Array

BODIES: dict[str, tuple[type[Any], type[Network]]] = {
    "schnet": (SchNetConfig, SchNet),
    "dimenet": (DimeNetConfig, DimeNet),
    "nequip": (NequipConfig, Nequip),
    "mace": (MaceConfig, Mace),
}
"""Family in configurations -> (class of its configuration, class of its network)."""

if TYPE_CHECKING:
    AnyBody = Any
else:
    AnyBody = Union[tuple(config for config, _ in BODIES.values())]  # noqa: UP007
"""The configuration of a network with features, of any family."""


def body_of(key: Array, config: AnyBody, elements: tuple[int, ...], **more: Any) -> Any:
    """Return an untrained network with features; see `Network.for_heads`."""
    return BODIES[config.family][1].for_heads(key, config, elements, **more)
