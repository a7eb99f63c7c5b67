"""BatchNorm over the images of all processes.

On GPUs that is torch.nn.SyncBatchNorm, which refuses CPUs. There it is this one, so that what is tested with two
processes on a CPU is what runs on GPUs.
"""

import torch
import torch.distributed as dist
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over processes of a tensor that each has; a gradient of the sum is one of every process's tensor, and
    each process has a part of it. (PyTorch's own is deprecated in one form and private in the other.)"""

    @staticmethod
    def forward(ctx, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        total = gradient.clone()
        dist.all_reduce(total)
        return total


class SharedBatchNorm2d(nn.BatchNorm2d):
    """(N, C, H, W) with the statistics of the N images of every process; gradients flow through the sum over them.

    The running variance is unbiased, as BatchNorm's is. Two passes: a mean of squares alone would lose digits.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input.float()
        count = torch.tensor([x.numel() / x.shape[1]], device=x.device)
        sums: Tensor = _Sum.apply(torch.cat([x.sum((0, 2, 3)), count]))  # pyright: ignore[reportAssignmentType]
        mean, total = sums[:-1] / sums[-1].detach(), float(sums[-1].detach())
        centred = x - mean[:, None, None]
        variance: Tensor = _Sum.apply(centred.square().sum((0, 2, 3))) / total  # pyright: ignore[reportOperatorIssue]
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                share = self.momentum or 0.0
                self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                self.running_var.lerp_((variance * total / (total - 1)).to(self.running_var.dtype), share)
                if self.num_batches_tracked is not None:
                    self.num_batches_tracked.add_(1)
        out = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        return out.to(input.dtype)


def shared(network: nn.Module, device: torch.device) -> nn.Module:
    """The network with BatchNorms over all processes in place of its own; parameters and their names stay."""
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return network
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d
    return network
