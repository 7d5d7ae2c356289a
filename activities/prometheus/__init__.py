"""Prometheus: measure what users feel, one number at a time."""

from activities.prometheus.models import PrometheusQuery
from activities.prometheus.probes import PrometheusQueryProbe

__all__ = ["PrometheusQuery", "PrometheusQueryProbe"]
