"""Traces of answers as OpenTelemetry spans; needs the extra `otel`."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_ON

from sevenfold.clock import Clock, SystemClock, elapsed_s
from sevenfold.serving.tracing import Answered, Parent

__all__ = ["OpenTelemetryTraces"]


class OpenTelemetryTraces:
    """Writes one span of an answer and one of each of its stages, after the answer is made.

    Without `processor` they go in batches, in a thread, to where the variables of the OTLP exporter say
    (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_EXPORTER_OTLP_HEADERS`); `OTEL_SERVICE_NAME` names the service. What is traced
    is decided before, so every span given here is kept.
    """

    def __init__(
        self,
        system: str,
        version: str,
        processor: SpanProcessor | None = None,
        clock: Clock | None = None,
    ) -> None:
        resource = Resource.create({"service.version": version, "sevenfold.system": system})
        if str(resource.attributes["service.name"]).startswith("unknown_service"):
            resource = resource.merge(Resource({"service.name": "sevenfold"}))
        self._provider = TracerProvider(ALWAYS_ON, resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("sevenfold", version)
        self._clock = clock or SystemClock()

    def answered(self, answered: Answered) -> None:
        """Write the spans of one answer, which ends now."""
        now_ns = self._clock.now_us() * 1000
        begun_ns = now_ns - round((elapsed_s() - answered.arrived_s) * 1e9)
        whole = self._tracer.start_span(
            f"POST {answered.route}",
            None if answered.parent is None else _context(answered.parent),
            trace.SpanKind.SERVER,
            {"http.route": answered.route, **answered.told},
            start_time=begun_ns,
        )
        within = trace.set_span_in_context(whole)
        at_ns = begun_ns
        for stage, taken_us in answered.timing_us.items():
            span = self._tracer.start_span(stage, within, start_time=at_ns)
            at_ns += taken_us * 1000
            span.end(at_ns)
        whole.end(max(now_ns, at_ns))

    def close(self) -> None:
        """Send what waits, and end."""
        self._provider.shutdown()


def _context(parent: Parent) -> Context:
    given = trace.SpanContext(
        parent.trace, parent.span, is_remote=True, trace_flags=trace.TraceFlags(parent.is_sampled)
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(given))
