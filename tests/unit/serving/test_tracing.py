"""Answers are traced where a caller asks or the share says so, as spans that lie where the stages did."""

import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from sevenfold.adapters.otel import OpenTelemetryTraces
from sevenfold.clock import ManualClock, elapsed_s
from sevenfold.serving.tracing import Answered, Parent, Tracing, parent_of

ASK = {"request_id": "r1", "keys": {"customer": "ada"}}
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Kept:
    """Keeps what is traced."""

    def __init__(self) -> None:
        self.answered_: list[Answered] = []

    def answered(self, answered: Answered) -> None:
        self.answered_.append(answered)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (f"00-{TRACE}-{SPAN}-01", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"00-{TRACE}-{SPAN}-00", Parent(int(TRACE, 16), int(SPAN, 16), False)),
        (f"00-{TRACE}-{SPAN}-03", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"cc-{TRACE}-{SPAN}-01-what-comes", Parent(int(TRACE, 16), int(SPAN, 16), True)),
        (f"00-{TRACE}-{SPAN}-01-what-comes", None),
        (f"ff-{TRACE}-{SPAN}-01", None),
        (f"00-{'0' * 32}-{SPAN}-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE.upper()}-{SPAN}-01", None),
        (f"00-{TRACE}-{SPAN}", None),
        ("", None),
    ],
)
def test_the_span_of_a_caller_is_read_as_w3c_says(given: str, found: Parent | None) -> None:
    assert parent_of({b"traceparent": given.encode()}) == found


def test_a_caller_decides_and_else_the_share() -> None:
    sampled = {b"traceparent": f"00-{TRACE}-{SPAN}-01".encode()}
    left_out = {b"traceparent": f"00-{TRACE}-{SPAN}-00".encode()}
    none, every = Tracing(Kept(), 0.0, 1e9), Tracing(Kept(), 1.0, 1e9)
    assert none.wants(sampled, "r")[0]
    assert not every.wants(left_out, "r")[0]
    assert every.wants({}, "r") == (True, None)
    assert not none.wants({}, "r")[0]
    some = Tracing(Kept(), 0.1, 1e9)
    wanted = [name for name in map(str, range(2000)) if some.wants({}, name)[0]]
    assert 140 <= len(wanted) <= 260  # 200 +- 4.5 standard deviations; the same ones always
    assert all(some.wants({}, name)[0] for name in wanted)


def test_no_more_are_traced_than_are_allowed() -> None:
    tracing = Tracing(Kept(), 1.0, most_per_s=1e-6)
    assert not tracing.wants({}, "r")[0]  # not one yet
    tracing = Tracing(Kept(), 1.0, most_per_s=3.0)
    assert [tracing._has_room(tracing._since_s) for _ in range(4)] == [True, True, True, False]
    assert tracing._has_room(tracing._since_s + 0.5)
    assert not tracing._has_room(tracing._since_s)


def test_an_answer_has_a_span_and_each_stage_one_in_it(stall: Any) -> None:
    exporter = InMemorySpanExporter()
    clock = ManualClock(1_700_000_000_000_000)
    traces = OpenTelemetryTraces("stall", "1.2.3", SimpleSpanProcessor(exporter), clock)
    stall.app.site.tracing = Tracing(traces, 0.0)
    stall.post("/v1/recommend", ASK)
    assert exporter.get_finished_spans() == ()
    answer = stall.post(
        "/v1/rank",
        {**ASK, "request_id": "r2", "items": ["a", "b"]},
        traceparent=f"00-{TRACE}-{SPAN}-01",
    ).json()
    *stages, whole = exporter.get_finished_spans()
    assert [span.name for span in stages] == list(answer["timing_ms"])
    assert whole.name == "POST /v1/rank"
    assert (whole.parent.trace_id, whole.parent.span_id) == (int(TRACE, 16), int(SPAN, 16))
    assert {span.parent.span_id for span in stages} == {whole.context.span_id}
    assert {span.context.trace_id for span in stages} == {int(TRACE, 16)}
    told = dict(whole.attributes)
    assert (told["sevenfold.rung"], told["sevenfold.candidates"]) == (answer["rung"], 2)
    assert told["sevenfold.request_id"] == "r2"
    assert whole.resource.attributes["service.name"] == "sevenfold"
    # One after another from the arrival, and the whole ends last.
    starts = [span.start_time for span in stages]
    assert starts == [whole.start_time, *[span.end_time for span in stages[:-1]]]
    assert whole.end_time >= stages[-1].end_time
    taken_ms = [(span.end_time - span.start_time) / 1e6 for span in stages]
    assert taken_ms == pytest.approx(list(answer["timing_ms"].values()))
    # An answer that was given before is not made again.
    stall.post("/v1/recommend", ASK, traceparent=f"00-{TRACE}-{SPAN}-01")
    assert len(exporter.get_finished_spans()) == len(stages) + 1
    traces.close()


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """The address of a collector on loopback, and the bodies it is given."""
    taken: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", taken
        server.shutdown()
        thread.join(30)


def test_spans_reach_a_collector(
    collector: tuple[str, list[bytes]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, taken = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "corner")
    traces = OpenTelemetryTraces("stall", "1.2.3")
    traces.answered(Answered("/v1/rank", None, elapsed_s(), {"log": 5}, {"sevenfold.rung": "full"}))
    traces.close()  # sends what waits
    request = ExportTraceServiceRequest.FromString(taken[0])
    names = [span.name for span in request.resource_spans[0].scope_spans[0].spans]
    assert sorted(names) == ["POST /v1/rank", "log"]
    resource = {a.key: a.value.string_value for a in request.resource_spans[0].resource.attributes}
    assert (resource["service.name"], resource["sevenfold.system"]) == ("corner", "stall")


def test_what_answers_lacked_is_counted(stall: Any) -> None:
    stall.post("/v1/recommend", {**ASK, "timeout_ms": 1e-6})
    lines = stall.call("GET", "/metrics").text.splitlines()
    assert 'sevenfold_degraded_total{stage="score"} 1.0' in lines
    assert 'sevenfold_answers_total{rung="popular"} 1.0' in lines
    assert any(
        line.startswith('sevenfold_stage_seconds_bucket{le="5e-05",stage="wait"}') for line in lines
    )
