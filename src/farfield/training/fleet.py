"""Networks of one architecture, held as stacked tensors."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from farfield.errors import SettingsError

# A pass keeps about this many numbers in its widest layer: enough to outweigh the cost of calling
# an operation, few enough to stay in the cache. Best of 2**16 to 2**21 on 2 cores.
_TILE_NUMBERS = 2**19


class Fleet:
    """k networks of one architecture, whose tensors are stacked along a first dimension k.

    Args:
        networks: The networks; they must agree in structure, shapes, dtypes and device. They
            are copied and stay as they are.

    Attributes:
        size: Their number k.
        parameters: Stacked parameters that are trained, by name.
        buffers: Stacked buffers and frozen parameters (``requires_grad=False``), by name.

    Raises:
        SettingsError: No network, networks that differ in more than their numbers, or nothing
            to train in them.

    Example:
        >>> import torch, farfield as ff
        >>> fleet = ff.training.Fleet([ff.mlp(2, [8], 1) for _ in range(3)])
        >>> fleet.predict(torch.zeros(5, 2)).shape
        torch.Size([3, 5, 1])
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        if not networks:
            raise SettingsError("A fleet needs at least one network; none was given.")
        layouts = [_layout(network) for network in networks]
        for index, layout in enumerate(layouts):
            if layout != layouts[0]:
                raise SettingsError(
                    f"Network {index} of the fleet differs from the first in structure, shapes, "
                    "dtype or device; train networks of one architecture together and others "
                    "in a fleet of their own."
                )
        if not any(parameter.requires_grad for parameter in networks[0].parameters()):
            raise SettingsError(
                "The networks of the fleet have no parameters to train (none with "
                "requires_grad=True)."
            )
        stacked, buffers = stack_module_state(list(networks))
        parameters = {name: _matrix_layout(tensor.detach()) for name, tensor in stacked.items()}
        trained = {name for name, own in networks[0].named_parameters() if own.requires_grad}
        self.size = len(networks)
        self.parameters = {name: t for name, t in parameters.items() if name in trained}
        self.buffers = {name: tensor.detach().clone() for name, tensor in buffers.items()}
        self.buffers |= {name: t for name, t in parameters.items() if name not in trained}
        self._skeleton = copy.deepcopy(networks[0])

    @property
    def couples_rows(self) -> bool:
        """Whether a network in training uses statistics of the batch (BatchNorm)."""
        batch_norm = nn.modules.batchnorm._BatchNorm
        return any(isinstance(module, batch_norm) for module in self._skeleton.modules())

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the networks."""
        return next(iter(self.parameters.values())).dtype

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return next(iter(self.parameters.values())).device

    def forward(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Float[Tensor, "k n *features"],
        *,
        training: bool = False,
    ) -> Float[Tensor, "k n *outputs"]:
        """Every network on its own batch, with these stacked parameters and buffers.

        Args:
            parameters: Stacked parameters by name.
            buffers: Stacked buffers by name.
            x: One batch for each network.
            training: Whether the networks run in training mode, which updates the running
                statistics of BatchNorm in place and draws dropout masks, other ones for each.

        Returns:
            The outputs of each network.
        """
        self._skeleton.train(training)
        run = vmap(self._run_one, randomness="different")
        outputs: Tensor = run(parameters, buffers, x)
        return outputs

    def forward_one(
        self,
        parameters: dict[str, Tensor],
        buffers: dict[str, Tensor],
        x: Float[Tensor, "n *features"],
        *,
        training: bool = False,
    ) -> Float[Tensor, "n *outputs"]:
        """One network on a batch; like :meth:`forward` without the first dimension.

        Args:
            parameters: Its parameters by name.
            buffers: Its buffers by name.
            x: Its batch.
            training: Whether it runs in training mode.

        Returns:
            Its outputs.
        """
        self._skeleton.train(training)
        return self._run_one(parameters, buffers, x)

    def _run_one(
        self, parameters: dict[str, Tensor], buffers: dict[str, Tensor], x: Tensor
    ) -> Tensor:
        outputs: Tensor = functional_call(self._skeleton, (parameters, buffers), (x,))
        return outputs

    def predict(self, x: Float[Tensor, "n *features"]) -> Float[Tensor, "k n *outputs"]:
        """The outputs of every network on the same inputs, in evaluation mode.

        Args:
            x: Inputs that all networks share.

        Returns:
            Outputs, a row for each network and input, without gradients.
        """
        return self.predict_each(x.expand(self.size, *x.shape))

    def predict_each(self, x: Float[Tensor, "k n *features"]) -> Float[Tensor, "k n *outputs"]:
        """The outputs of every network on inputs of its own, in evaluation mode.

        Args:
            x: Inputs, one set for each network.

        Returns:
            Outputs, a row for each network and input, without gradients.
        """
        rows = max(1, self.tile(x.shape[1])[1] // self.size)
        with torch.no_grad():
            return torch.cat(
                [
                    self.forward(self.parameters, self.buffers, tile.to(self.device, self.dtype))
                    for tile in x.split(rows, dim=1)
                ],
                dim=1,
            )

    def tile(self, rows: int) -> tuple[int, int]:
        """How many networks and rows of a batch to run at once.

        Few rows are run for many networks at once, which saves calls; many rows for one network
        after the other, which needs no batched operations.

        Args:
            rows: Rows of a batch.

        Returns:
            Networks and rows of a tile.
        """
        widest = max(max(tensor.shape[1:], default=1) for tensor in self.parameters.values())
        tile_rows = rows if self.couples_rows else min(rows, max(1, _TILE_NUMBERS // widest))
        members = min(self.size, max(1, _TILE_NUMBERS // (widest * tile_rows)))
        return members, tile_rows

    def networks(self) -> list[nn.Module]:
        """The networks one by one, in evaluation mode, as copies with their present numbers.

        Returns:
            k modules like those that the fleet was made of.
        """
        members = []
        for index in range(self.size):
            member = copy.deepcopy(self._skeleton).eval()
            stacked = {**self.parameters, **self.buffers}
            own = {name: tensor[index].contiguous() for name, tensor in stacked.items()}
            member.load_state_dict(own, strict=False)
            members.append(member)
        return members


def _layout(network: nn.Module) -> tuple[object, ...]:
    """What two networks must share to be stacked."""
    tensors = [*network.named_parameters(), *network.named_buffers()]
    shapes = tuple(
        (name, tuple(t.shape), t.dtype, t.device, t.requires_grad) for name, t in tensors
    )
    return str(network), shapes


def _matrix_layout(stacked: Tensor) -> Tensor:
    # The gradient of a weight comes out of the batched product transposed; a parameter laid out
    # in the same way takes it without a copy.
    if stacked.dim() == 3:
        return stacked.mT.contiguous().mT
    return stacked.contiguous()
