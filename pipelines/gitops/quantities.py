"""Kubernetes' quantities as numbers: memory in bytes, CPU in cores."""

import re

MIB = 1 << 20
MEMORY = re.compile(r"([0-9.]+)([kMGT]i?|Ki)?")
CPU = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m?)")
_UNITS = {
    "": 1,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 1 << 10,
    "Mi": MIB,
    "Gi": 1 << 30,
    "Ti": 1 << 40,
}


def memory_bytes(quantity: str) -> int:
    """Read an amount of memory; ValueError when it is none.

    >>> memory_bytes("320Mi") // MIB
    320
    """
    match = MEMORY.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity of memory, such as 320Mi")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def cpu_cores(quantity: str) -> float:
    """Read an amount of CPU; ValueError when it is none.

    >>> cpu_cores("250m"), cpu_cores("2")
    (0.25, 2.0)
    """
    match = CPU.fullmatch(str(quantity))
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity of CPU, such as 250m")
    return float(match[1]) / (1000 if match[2] else 1)


def is_quantity(resource: str, quantity: object) -> bool:
    """Say whether a value can be read as an amount of `cpu` or `memory`."""
    return bool((CPU if resource == "cpu" else MEMORY).fullmatch(str(quantity)))


def amount(resource: str, quantity: str) -> float:
    """Read an amount of `cpu` or of anything that is counted in bytes."""
    return cpu_cores(quantity) if resource == "cpu" else memory_bytes(quantity)


def written(resource: str, value: float) -> str:
    """Write an amount as people do.

    >>> written("cpu", 0.62), written("memory", 3 * MIB + 1)
    ('620m', '4Mi')
    """
    return f"{round(value * 1000)}m" if resource == "cpu" else f"{-(-int(value) // MIB)}Mi"
