"""`Loader`: makes this process hold what the snapshot asks for, one version at a time, on one thread of its own.

A version is ready only after the very bytes that are parsed had their digest, its golden requests gave the stored
answers, and it has been called a few times. Whatever goes wrong ends in the slot's state `failed` with the problem in
words; it is tried again after a pause, or at once when a switch asks for it again.
"""

from __future__ import annotations

import gc
import logging
import statistics
import threading
import time
from collections.abc import Callable
from itertools import chain

import msgspec
import numpy as np

from crossfade.core.tensors import DTYPES, Signature, Tensors, TensorSpec
from crossfade.errors import CrossfadeError, LoadFailedError, PredictionError
from crossfade.registry import golden
from crossfade.registry.golden import GoldenRequests
from crossfade.registry.versions import Manifest
from crossfade.serving.batching import Batcher, Predict
from crossfade.serving.memory import memory_limit, resident_bytes
from crossfade.serving.policy import Load, SlotView, Unload, next_action
from crossfade.serving.slots import Slot, SlotTable, State
from crossfade.settings import ServingSettings
from crossfade.traffic.snapshot import Aspired, Snapshot

_log = logging.getLogger(__name__)

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 300.0
"""Seconds before a failed version is tried again; doubled each time."""
_DRAIN_LOOK = 0.005
