"""Topics of the Kafka protocol as a source, by librdkafka: JSON messages, offsets kept by us."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from sevenfold.clock import Clock, elapsed_s
from sevenfold.errors import InputError
from sevenfold.sources.lines import parse_object
from sevenfold.sources.protocol import Address, Batch, Offset, Origin, Poison, Source
from sevenfold.spec.stream import Stream

__all__ = ["KafkaSource", "open_address"]

_ROWS = 10_000
_WAIT_S = 0.5
_PATIENCE_S = 30.0


class KafkaSource:
    """The messages of one topic, each a JSON object; a part of its offset is a partition.

    No group is joined and no offset committed at the broker: the partitions are assigned, and read from where
    the store says. A message that is no object is a dead letter with its partition and offset. Messages that
    the broker has deleted before they were read are told of.
    """

    def __init__(self, address: Address, stream: Stream) -> None:
        self._topic = address.required("topic")
        self.name = f"{address.shown}?topic={self._topic}"
        self.waiting = 0
        self._stream, self._columns = stream, address.columns
        further = {name: value for name, value in address.options.items() if "." in name}
        self._settings: dict[str, Any] = {
            "group.id": "sevenfold",
            "log_level": 0,
            **further,
            "bootstrap.servers": address.place.removeprefix("//"),
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
        }
        self._consumer: Consumer | None = None

    def read(self, offset: Offset) -> Generator[Batch, None, None]:
        """The messages up to the end that every partition has now."""
        try:
            if self._consumer is None:
                self._consumer = Consumer(self._settings)
            consumer = self._consumer
            begins, notes = self._begins(consumer, offset)
            if notes:
                yield Batch([], {}, notes=notes)
            consumer.assign([TopicPartition(self._topic, p, at) for p, at in begins.items()])
            yield from self._messages(consumer, set(begins))
        except KafkaException as error:
            self.close()
            raise InputError(f"{self.name} cannot be read: {_told(error)}") from error

    def close(self) -> None:
        """Let go of the connection."""
        if self._consumer is not None:
            self._consumer.close()
        self._consumer = None

    def _begins(self, consumer: Consumer, offset: Offset) -> tuple[dict[int, int], list[str]]:
        """Where to begin in each partition that has more, and what is to be told of them."""
        topic = consumer.list_topics(self._topic, timeout=_PATIENCE_S).topics[self._topic]
        if topic.error is not None:
            raise KafkaException(topic.error)
        begins, notes = {}, []
        for partition in sorted(topic.partitions):
            kept = offset.get(str(partition))
            first, end = consumer.get_watermark_offsets(
                TopicPartition(self._topic, partition), timeout=_PATIENCE_S
            )
            at = OFFSET_BEGINNING if kept is None else int(kept["next"])
            if kept is not None and at > end:
                raise InputError(
                    f"{self.name}: partition {partition} ends at {end}, and was read up to {at}: it is another "
                    "topic of that name; read it under another address, or restore it"
                )
            if kept is not None and at < first:
                notes.append(
                    f"{self.name}: partition {partition} begins at {first:,}: {first - at:,} messages "
                    "were deleted before they were read"
                )
                at = first
            if max(at, first) < end:
                begins[partition] = at
        return begins, notes

    def _messages(self, consumer: Consumer, going: set[int]) -> Generator[Batch, None, None]:
        heard_s = elapsed_s()
        while going:
            rows: list[dict[str, Any]] = []
            places: list[Message] = []
            poison: list[Poison] = []
            moved: dict[str, dict[str, int]] = {}
            for message in consumer.consume(_ROWS, _WAIT_S):
                heard_s = elapsed_s()
                error = message.error()
                if error is None:
                    found = self._parsed(message)
                    if isinstance(found, Poison):
                        poison.append(found)
                    else:
                        rows.append(found)
                        places.append(message)
                    moved[str(message.partition())] = {"next": int(message.offset() or 0) + 1}
                elif error.code() == KafkaError._PARTITION_EOF:
                    going.discard(int(message.partition() or 0))
                else:
                    raise KafkaException(error)
            if moved:
                yield Batch(rows, moved, poison, self._origin_of(places))
            elif elapsed_s() - heard_s > _PATIENCE_S:
                raise InputError(
                    f"{self.name}: no message within {_PATIENCE_S:g} s where there are some"
                )

    def _parsed(self, message: Message) -> dict[str, Any] | Poison:
        place = self._place(message)
        where = f"topic {self._topic}, partition {place['partition']}, offset {place['offset']}"
        found = parse_object(message.value() or b"", where)
        if isinstance(found, Poison):
            return replace(found, origin=place)
        if self._columns is not None:
            return {name: found.get(own) for name, own in self._columns.items()}
        return found

    def _place(self, message: Message) -> dict[str, Any]:
        return {
            "topic": self._topic,
            "partition": int(message.partition() or 0),
            "offset": int(message.offset() or 0),
        }

    def _origin_of(self, places: list[Message]) -> Origin:
        return lambda row: self._place(places[row])


def open_address(address: Address, stream: Stream, _clock: Clock) -> Source:
    """The source at `kafka:HOST:PORT,...?topic=NAME`; options with a dot in them are librdkafka's."""
    return KafkaSource(address, stream)


def _told(error: KafkaException) -> str:
    first = error.args[0] if error.args else error
    return first.str() if isinstance(first, KafkaError) else str(first)
