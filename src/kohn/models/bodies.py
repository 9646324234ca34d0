"""List the networks ("bodies") whose features the heads of other models can read."""

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
"""The `family` of a configuration -> (class of the configuration, class of the network)."""

if TYPE_CHECKING:
    AnyBody = Any
else:
    AnyBody = Union[tuple(config for config, _ in BODIES.values())]  # noqa: UP007
"""The configuration of a network with features, of any family."""


def body_of(key: Array, config: AnyBody, elements: tuple[int, ...], **more: Any) -> Any:
    """Return an untrained network whose features heads can read; see `Network.for_heads`."""
    return BODIES[config.family][1].for_heads(key, config, elements, **more)
