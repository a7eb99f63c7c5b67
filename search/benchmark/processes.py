"""The processes that train one network together, on one machine or many; one alone is the simplest case.

By Hugging Face Accelerate. It finds the devices and the other processes (as `torchrun`, `accelerate launch`, MPI or
Slurm name them), wraps the network in DistributedDataParallel, casts to bfloat16 or scales for float16, and logs to
TensorBoard, W&B and MLflow, but leaves the loop, the data and the checkpoints to us, which is where a training comes to
the same with two processes as with one. Lightning Fabric does as much, with the same freedom; Accelerate is smaller
(no other package of its own), knows more trackers and hardware, and its launcher is what most users have configured.
"""

import importlib
import importlib.util
import os
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from search.benchmark.norms import shared
from search.benchmark.recompute import recomputed
from search.benchmark.setup import PRECISIONS, Setup, Share
from search.errors import UserError, breakage
from search.extras import needed, torch_here


class Processes:
    """This process among those that train together.

    Attributes: share: its number and how many there are. first: whether it is the one that writes and speaks.
    """

    def __init__(self, setup: Setup):
        """Raises UserError where a package is missing, or this machine lacks what the setup asks for."""
        needed("benchmark", "accelerate", "torchvision")
        if missing := [name for name in setup.trackers if importlib.util.find_spec(name) is None]:
            install = f"pip install '.[{missing[0]}]' torch=={torch_here()}"
            raise UserError(f"--log {missing[0]} needs the package {missing[0]}: {install}")
        from accelerate import Accelerator
        from accelerate.utils import DistributedType

        if setup.precision == "fp16" and (setup.cpu or not torch.cuda.is_available()):
            raise UserError("fp16 needs a GPU; on a CPU choose bf16 or fp32")
        self.setup = setup
        self.accelerator = Accelerator(
            cpu=setup.cpu,
            mixed_precision=PRECISIONS[setup.precision],
            log_with=list(setup.trackers) or None,
            project_dir=str(setup.logs) if setup.trackers else None,
        )
        self.device = self.accelerator.device
        self.share = Share(self.accelerator.process_index, self.accelerator.num_processes, setup.accumulate)
        self.first = self.accelerator.is_main_process
        self.divided = setup.divided or self.accelerator.distributed_type == DistributedType.FSDP
        if self.divided and not dist.is_initialized():
            raise UserError("weights are divided among processes: start several with torchrun or accelerate launch")
        if setup.trackers:
            self._track()

    def _track(self) -> None:
        """Open the trackers: in the folder of logs, unless their own environment variables say where. Raises UserError
        where one can't be opened."""
        logs, trackers = self.setup.logs.absolute(), self.setup.trackers
        given = {} if "WANDB_DIR" in os.environ else {"wandb": {"dir": str(logs)}}
        try:
            logs.mkdir(parents=True, exist_ok=True)
            if "mlflow" in trackers and "MLFLOW_TRACKING_URI" not in os.environ:
                mlflow: Any = importlib.import_module("mlflow")
                mlflow.set_tracking_uri(f"sqlite:///{logs / 'mlflow.db'}")
            self.accelerator.init_trackers("wavemix", init_kwargs=given)
        except Exception as error:  # each tracker has errors of its own: no account, no server, no database
            raise UserError(f"--log {', '.join(trackers)}: {breakage(error)}") from error

    def prepared(self, network: nn.Module) -> tuple[nn.Module, nn.Module]:
        """The network on this process's device, with statistics over all processes; and what is called to train it."""
        setup = self.setup
        network = shared(network.to(self.device), self.device)
        if setup.channels_last:
            network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        if setup.recompute:
            recomputed(network)
        if self.divided:
            from torch.distributed.fsdp import fully_shard

            mesh = dist.device_mesh.init_device_mesh(self.device.type, (self.share.world,))
            for layer in getattr(network, "layers", ()):
                fully_shard(layer, mesh=mesh)
            fully_shard(network, mesh=mesh)
        if setup.compiled:
            network.compile()
        if self.share.world == 1 or self.divided:
            return network, network
        devices = [self.device] if self.device.type == "cuda" else None
        return network, nn.parallel.DistributedDataParallel(network, device_ids=devices)

    def casting(self) -> AbstractContextManager:
        """The setup's precision."""
        return self.accelerator.autocast()

    def adding(self, model: nn.Module) -> AbstractContextManager:
        """Gradients are added to those that are there, and not yet summed over processes."""
        return model.no_sync() if isinstance(model, nn.parallel.DistributedDataParallel) else nullcontext()

    def sum(self, tensor: Tensor) -> Tensor:
        """Over all processes."""
        if self.share.world == 1:
            return tensor
        tensor = tensor.clone()
        dist.all_reduce(tensor)
        return tensor

    def agreed(self, *wishes: bool) -> list[bool]:
        """Each of the wishes that any process has: all go on with the same."""
        if self.share.world == 1:
            return list(wishes)
        return [bool(count) for count in self.sum(torch.tensor(wishes, dtype=torch.int32, device=self.device)).tolist()]

    def said(self, value: Any) -> Any:
        """What the first process says."""
        if self.share.world == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, device=self.device)
        return values[0]

    def wait(self) -> None:
        """Until all have come here."""
        if self.share.world > 1:
            dist.barrier()

    def log(self, name: str, values: dict[str, float], step: int) -> None:
        """Values of a training, to the trackers."""
        if self.setup.trackers:
            self.accelerator.log({f"{name}/{key}": value for key, value in values.items()}, step)

    def end(self) -> None:
        """Close the trackers and part from the other processes, all of which have come here."""
        if self.setup.trackers:
            self.accelerator.end_training()
        if dist.is_initialized():
            dist.destroy_process_group()
