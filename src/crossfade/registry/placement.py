"""`Placement`: on which device a version runs, and with how many threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec

from crossfade.errors import LoadFailedError, ManifestError

Device = Literal["auto", "cpu", "gpu"]
MAX_THREADS = 1024


class Placement(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a version declares, or what the settings say of its model, which weighs more.

    Args:
        device: `auto` takes a GPU when there is one and the format can use it (PyTorch, ONNX); `gpu` insists.
        threads: Of one prediction. 0 leaves it to the format: the processors of the process for ONNX, one for trees,
            whose small batches many threads only slow down. PyTorch has one pool for the whole process.

    Example:
        >>> Placement(threads=2).over(Placement("gpu", 4))
        Placement(device='gpu', threads=2)
    """

    device: Device = "auto"
    threads: Annotated[int, msgspec.Meta(ge=0, le=MAX_THREADS)] = 0

    def over(self, declared: Placement) -> Placement:
        """Return this, completed by `declared` where this says nothing."""
        device = declared.device if self.device == "auto" else self.device
        return Placement(device, self.threads or declared.threads)

    def on_gpu(self, present: Callable[[], bool], flavor: str) -> bool:
        """Decide whether a model runs on a GPU.

        Args:
            present: Tells whether the library of the flavor can use one here; not asked when it does not matter.
            flavor: What errors call it.

        Raises:
            LoadFailedError: It has to run on a GPU, and there is none.
        """
        if self.device == "cpu":
            return False
        found = present()
        if self.device == "gpu" and not found:
            problem = (
                f"it is placed on a GPU, and flavor `{flavor}` has none here; "
                "serve it on the CPU with the setting `serving.models`, device `cpu`"
            )
            raise LoadFailedError(ref=flavor, problem=problem)
        return found


ANYWHERE = Placement()
ON_CPU = Placement("cpu")


def never() -> bool:
    """Tell that a format runs on the CPU only, whatever there is."""
    return False


def check_placement(placement: Placement) -> Placement:
    """Return a placement that can be declared.

    Raises:
        ManifestError: The device is unknown, or the number of threads is none.
    """
    try:
        return msgspec.convert(msgspec.to_builtins(placement), Placement)
    except msgspec.ValidationError as error:
        raise ManifestError(ref="placement", problem=str(error)) from error
