"""Packages that one format alone needs."""

import importlib

from search.errors import UserError


def needed(extra: str, *packages: str) -> None:
    """Raises UserError where one of the packages is missing or can't be imported, with the extra that installs it."""
    for package in packages:
        try:
            importlib.import_module(package)
        except (ImportError, RuntimeError) as error:  # torchvision for another build of torch: RuntimeError
            raise UserError(
                f"{package} is not installed, or not for this torch ({str(error)[:100]}): pip install '.[{extra}]'"
            ) from error
