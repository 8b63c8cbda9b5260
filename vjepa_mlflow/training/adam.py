"""Adam by PyTorch's functional form: its class imports the compiler when it is made, which takes a second and more."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What there is of each parameter: PyTorch's names."""


class Adam:
    """The optimizer of Kingma and Ba (2015) as `torch.optim.Adam` computes it by default, to the bit.

    Its moments are made at once: PyTorch's own makes them at its first step, when as many clips as fit have taken the
    memory.

    Args:
        parameters: on one device. Those without a gradient are left alone.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]):
        self._parameters = list(parameters)
        self._on_gpu = self._parameters[0].is_cuda
        device = self._parameters[0].device if self._on_gpu else None
        self._steps = [torch.zeros((), device=device) for _ in self._parameters]
        self._exp_avgs = [torch.zeros_like(parameter) for parameter in self._parameters]
        self._exp_avg_sqs = [torch.zeros_like(parameter) for parameter in self._parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """Takes one step by the parameters' gradients."""
        every = zip(self._parameters, self._exp_avgs, self._exp_avg_sqs, self._steps, strict=True)
        moved = [(one, one.grad, *moments) for one, *moments in every if one.grad is not None]
        parameters, gradients, exp_avgs, exp_avg_sqs, steps = map(list, zip(*moved, strict=True))
        adam(
            parameters,
            gradients,
            exp_avgs,
            exp_avg_sqs,
            [],
            steps,
            foreach=not self._on_gpu,
            fused=self._on_gpu,  # one kernel for all
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=learning_rate,
            weight_decay=0.0,
            eps=1e-8,
            maximize=False,
        )

    def moments(self) -> dict[str, Tensor]:
        """The moments of all parameters, by the parameter's number and the moment's name."""
        every = zip(self._steps, self._exp_avgs, self._exp_avg_sqs, strict=True)
        return {
            f"{index}.{name}": moment
            for index, moments in enumerate(every)
            for name, moment in zip(MOMENTS, moments, strict=True)
        }

    def load(self, moments: Mapping[str, Tensor]) -> None:
        """Goes back to moments of a snapshot."""
        for name, moment in self.moments().items():
            moment.copy_(moments[name])
