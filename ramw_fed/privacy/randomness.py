"""Where noise and samples come from: a cryptographic stream in use, a seeded one in tests.

A generator made for simulation can be told from its own output, and whoever knows its state takes the noise away again.
Here the bits are AES-256 in counter mode under a key of the operating system. The noise is float32 in the end: that it
leaks through its lowest bits (Mironov 2012, https://doi.org/10.1145/2382196.2382264) is not prevented.
"""

import hashlib
import math
import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray
from torch import Tensor

SEED_VARIABLE = "RAMW_FED_TEST_NOISE_SEED"
"""Environment variable that makes noise repeatable, and worthless: for tests."""

_BITS = (1 << 53) - 1  # what a float64 holds exactly
_BLOCK = 1 << 14  # numbers made at once: what lies between fits the cache


class Randomness(Protocol):
    """Noise and coin tosses."""

    @property
    def is_seeded(self) -> bool:
        """Whether it can be repeated, and so protects nobody."""
        ...

    def normal(self, shape: Sequence[int], std: float, device: torch.device) -> Tensor:
        """Return independent normal numbers of mean 0, float32, on ``device``."""
        ...

    def bernoulli(self, n: int, p: float) -> NDArray[np.bool_]:
        """Return ``n`` independent coin tosses that are true with probability ``p``."""
        ...


def secure() -> Randomness:
    """Return a stream under a new key of the operating system, another one in every process that a fork makes."""
    return _Stream(None)


def seeded(*parts: str | int) -> Randomness:
    """Return the stream that ``parts`` decide, in their order: for tests only."""
    return _Stream(hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest())


def from_environment(*parts: str | int) -> Randomness:
    """Return :func:`secure`; where ``RAMW_FED_TEST_NOISE_SEED`` is set, the stream that it and ``parts`` decide."""
    seed = os.environ.get(SEED_VARIABLE, "")
    return seeded(seed, *parts) if seed else secure()


class _Stream:
    """AES-256-CTR as numbers. It cannot be copied or pickled, as the cipher cannot: no two objects share a stream."""

    def __init__(self, key: bytes | None) -> None:
        self._is_seeded = key is not None
        self._start(key or os.urandom(32))

    @property
    def is_seeded(self) -> bool:
        return self._is_seeded

    def normal(self, shape: Sequence[int], std: float, device: torch.device) -> Tensor:
        """Box and Muller in float64, rounded last; the longest tail of 53 bits is 8.65 standard deviations."""
        size = math.prod(shape)
        numbers = torch.empty(size + size % 2, dtype=torch.float32)
        for start in range(0, len(numbers), _BLOCK):
            block = numbers[start : start + _BLOCK]
            half = len(block) // 2
            uniform = torch.from_numpy(self._draw(2 * half)).double().add_(0.5).mul_(2.0**-53)
            radius = uniform[:half].log_().mul_(-2 * std**2).sqrt_()
            angle = uniform[half:].mul_(2 * math.pi)
            block[:half] = radius * angle.cos()
            block[half:] = radius * angle.sin_()
        return numbers[:size].view(*shape).to(device)

    def bernoulli(self, n: int, p: float) -> NDArray[np.bool_]:
        return self._draw(n) < p * 2.0**53

    def _draw(self, count: int) -> NDArray[np.int64]:
        """Return numbers in [0, 2**53)."""
        if not self._is_seeded and self._process != _process():
            self._start(os.urandom(32))  # else parent and child would add the same noise
        return np.frombuffer(self._cipher.update(bytes(8 * count)), np.int64) & _BITS

    def _start(self, key: bytes) -> None:
        self._process = _process()
        self._cipher = Cipher(algorithms.AES256(key), modes.CTR(bytes(16))).encryptor()


_forks = 0


def _process() -> tuple[int, int]:
    """Return what differs between a process and its child; numbers of processes alone are used again."""
    return os.getpid(), _forks


def _count_fork() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count_fork)
