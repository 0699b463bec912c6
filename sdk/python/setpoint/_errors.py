"""What is wrong with a pipeline."""

from __future__ import annotations

from typing import Optional


class PipelineError(Exception):
    """Something that cannot be run; its text says what is wrong, and what to do about it."""

    def __init__(self, message: str, *, step: Optional[str] = None) -> None:
        super().__init__(f"step `{step}`: {message}" if step else message)
        self.step = step
