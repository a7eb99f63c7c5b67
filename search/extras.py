"""Packages that one format or one command alone needs."""

import importlib
import importlib.metadata

from search.errors import UserError


def needed(extra: str, *packages: str) -> None:
    """Raises UserError where one of the packages is missing or can't be imported, with the extra that installs it."""
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise UserError(
                f"{package} is not installed ({str(error)[:100]}): pip install '.[{extra}]' torch=={torch_here()}"
            ) from error
        except RuntimeError as error:  # torchvision for another build of torch
            raise UserError(
                f"{package} does not go with this torch, {torch_here()} ({str(error)[:100]}): install the build of it "
                "for the same release and the same device, CPU or CUDA"
            ) from error


def torch_here() -> str:
    """The release of torch that is installed: what else is installed must not replace it."""
    return importlib.metadata.version("torch")
