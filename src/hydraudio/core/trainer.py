"""Lightning's trainer, which also decides how float32 products are computed."""

from __future__ import annotations

import inspect
import logging
from typing import Any, Literal

import lightning.pytorch as pl

from hydraudio.core.precision import settle_precision
from hydraudio.core.products import measured, use_products

log = logging.getLogger(__name__)


class Trainer(pl.Trainer):
    """Lightning's Trainer with one argument more, which acts on a CPU only.

    Args:
        precision: as Lightning's, listed so that the check knows it before the import; "auto": what
            the device computes natively, see :func:`hydraudio.core.precision.settle_precision`.
        products: "auto", "reference" or "onednn", see :func:`hydraudio.core.products.use_products`. It stays in force
            in this process until another trainer is made.
        kwargs: arguments of Lightning's Trainer.
    """

    __signature__ = inspect.signature(pl.Trainer).replace(
        parameters=[
            *inspect.signature(pl.Trainer).parameters.values(),
            inspect.Parameter("products", inspect.Parameter.KEYWORD_ONLY, default="auto", annotation=str),
        ]
    )

    # fmt: off
    def __init__(self, *, precision: Literal[
        "auto", "64-true", "32-true", "16-true", "bf16-true", "16-mixed", "bf16-mixed", "transformer-engine",
        "transformer-engine-float16", "64", "32", "16", "bf16", 64, 32, 16,
    ] | None = None, products: str = "auto", **kwargs: Any) -> None:
        # fmt: on
        settings = {"accelerator": kwargs.get("accelerator", "auto"), "precision": precision}
        settle_precision(settings)
        super().__init__(precision=settings["precision"], **kwargs)
        self.products = products
        on_cpu = self.strategy.root_device.type == "cpu"
        self.products_route = use_products(products if on_cpu else "reference")
        if on_cpu and products == "auto":
            log.info("Products of float32: %s; %s.", self.products_route, measured())

    def keep_products(self, route: str) -> None:
        """Continue with the route of the run so far, where the setting leaves the choice."""
        if self.products == "auto" and route != self.products_route and self.strategy.root_device.type == "cpu":
            self.products_route = use_products(route)
            log.info("Products of float32: %s, as before in this run.", route)
