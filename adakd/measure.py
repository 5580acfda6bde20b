"""The functions of `adakd.temperatures`, by an earlier name."""

from .temperatures import logits_of, measure_temperatures, summarize_temperatures

__all__ = ["logits_of", "measure_temperatures", "summarize_temperatures"]
