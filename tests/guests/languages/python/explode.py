"""Raises from a module of its own, in line 5 of it."""


def explode(name: str) -> None:
    raise LookupError(f"no place for {name}")
