"""Keeps a library quiet that is imported whether or not it is used."""

from __future__ import annotations

import logging

_TALKATIVE = ("torchao", "torch.utils._pytree")


def quiet_torchao() -> None:
    """Call before transformers' models are imported: where torchao is installed they import it, and it tells
    of kernels for other machines. Errors are still logged."""
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.ERROR)
