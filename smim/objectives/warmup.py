"""The warm-up of chapter 4 of the thesis, which MIM and A-MIM share."""


def warmup_weight(step: int | None, warmup_steps: int) -> float:
    """beta after `step` optimizer steps: from 0 to 1 in even steps; 1 where `step` is None or there is no warm-up."""
    if step is None or warmup_steps == 0:
        return 1.0
    return min(1.0, step / warmup_steps)
