"""The process in which somebody's network is made and counted: requests come by standard input, answers go out.

    python -m search.audit.worker SECONDS BYTES

A request and its answer are one line of JSON each. What the network's own code prints goes nowhere.
"""

import gc
import json
import os
import sys
from typing import Any

from search.errors import UserError


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")  # what is printed goes elsewhere
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    seconds, memory = float(sys.argv[1]), int(sys.argv[2])
    import torch

    import search.audit.cost
    import search.audit.networks  # noqa: F401

    # what PyTorch loads for the first network is not to be taken from that one's time
    search.audit.cost.count_flops(torch.nn.Conv2d(1, 1, 1), (1, 1, 1))

    _limit_memory(memory)
    print("{}", file=answers, flush=True)
    for line in sys.stdin:
        _limit_time(seconds)
        try:
            answer = counted(**json.loads(line))
        except MemoryError:
            answer = {"reason": "out of memory: the limit is --memory-limit"}
        except UserError as error:
            answer = {"reason": str(error)}
        except Exception as error:  # whatever somebody's network raises
            answer = {"reason": search.audit.cost.one_line(error)}
        gc.collect()
        print(json.dumps(answer), file=answers, flush=True)


def counted(factory: str, arguments: dict[str, Any], input: list[int]) -> dict[str, Any]:
    """What a `Statement` holds of a network: its cost, buffers, and the last module with multiply-accumulates."""
    from torch.nn.parameter import is_lazy

    from search.audit.cost import counting_of, one_line, parameters, run
    from search.audit.networks import made
    from search.records.costs import MATRICES, Cost, merged

    network = made(factory, arguments)
    if any(map(is_lazy, network.parameters())):
        run(network, tuple(input))
    unmeasured, head = {}, None
    operations, uncounted = None, {}
    try:
        counting = counting_of(network, tuple(input))
    except Exception as error:
        unmeasured["operations"] = one_line(error)
    else:
        products = [name for name, found in counting.operations.items() if found.keys() & MATRICES]
        head = products[-1] if products else None
        operations, uncounted = merged(counting.operations.values()), dict(sorted(counting.uncounted.items()))
    cost = Cost(
        parameters=parameters(network), input_shape=input, flops=operations, unsupported=uncounted,
        activation_bytes=None, activation_batch=1, unmeasured=unmeasured,
    )  # fmt: skip
    return {
        "cost": cost.model_dump(mode="json"),
        "buffers": sum(buffer.numel() for buffer in network.buffers()),
        "head": head,
        "head_parameters": parameters(network.get_submodule(head)) if head else None,
    }


def _limit_memory(limit: int) -> None:
    """Linux counts against RLIMIT_DATA what a process holds for itself; other systems may count nothing."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _limit_time(seconds: float) -> None:
    """CPU time, in case nobody is left to end this process."""
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = int(used.ru_utime + used.ru_stime + (seconds + 1) * (os.cpu_count() or 1)) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


if __name__ == "__main__":
    main()
