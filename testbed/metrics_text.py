"""What a text of metrics says, read by the parsers that come with the library that wrote it."""

from __future__ import annotations

from prometheus_client import Metric
from prometheus_client import parser as older_parser
from prometheus_client.openmetrics import parser


def families(text: str) -> list[Metric]:
    """The metrics of an OpenMetrics text; raises `ValueError` for what is none."""
    return list(parser.text_string_to_metric_families(text))  # type: ignore[no-untyped-call]


def older_families(text: str) -> list[Metric]:
    """The metrics of a text in Prometheus' older format."""
    return list(older_parser.text_string_to_metric_families(text))


def counted(text: str, name: str, *labels: str) -> dict[tuple[str, ...], float]:
    """The samples of that name that are not 0, by the values of their labels."""
    return {
        tuple(sample.labels[label] for label in labels): sample.value
        for family in families(text)
        for sample in family.samples
        if sample.name == name and sample.value
    }
