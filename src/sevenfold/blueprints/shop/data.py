"""Two years of a real online shop: 1,067,371 invoice lines, dirt and all.

UCI Online Retail II by Daqing Chen, CC BY 4.0; see `data/README.md`.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import duckdb
import numpy as np
import numpy.typing as npt

from sevenfold.loop.world import Requests, World
from sevenfold.types import US_PER_DAY, US_PER_S, Ints, Texts

__all__ = ["STREAM", "load_world"]

STREAM = "lines"

_QUERY = """
    select "Invoice" as invoice, "StockCode" as item, "Description" as description, "Quantity" as quantity,
           "Price" as price, cast(cast("Customer ID" as bigint) as varchar) as customer, "Country" as country,
           epoch_us("InvoiceDate") as sold_at
    from read_parquet($path)
    order by sold_at, file_row_number
"""


def load_world() -> World:
    """The shop as it happened: its lines as they came, and one request for each basket of a customer.

    A basket is an invoice of a known customer with at least one good line. It opens one second before the
    minute that its first good line is stamped with, so that nothing of that minute is known yet.
    """
    columns = _read()
    sold_us: Ints = columns["sold_at"].astype(np.int64)
    columns["sold_at"] = sold_us
    columns["cancelled"] = _starts_with(columns["invoice"], b"C").astype(np.int64)
    columns["day"] = sold_us / US_PER_DAY
    first = _first_lines(columns, sold_us)
    columns["opens"] = np.zeros(len(sold_us), dtype=np.int64)
    columns["opens"][first] = 1
    fields = {name: columns[name].take(first) for name in ("customer", "country")}
    requests = Requests(sold_us[first] - US_PER_S, columns["invoice"].take(first), fields)
    return World(STREAM, columns, sold_us, requests)


def _read() -> dict[str, Any]:
    with (
        as_file(files("sevenfold.blueprints.shop") / "data" / "online_retail_ii.parquet") as path,
        duckdb.connect() as connection,
    ):
        query = _QUERY.replace("read_parquet($path)", "read_parquet($path, file_row_number = true)")
        read = connection.execute(query, {"path": str(path)}).fetchnumpy()
    return {
        name: _texts(column) if column.dtype == object else np.asarray(column)
        for name, column in read.items()
    }


def _first_lines(columns: dict[str, Any], sold_us: Ints) -> Ints:
    """The row of each basket's first good line, in order of time."""
    good = columns["customer"].valid & (columns["cancelled"] == 0)
    good &= (columns["quantity"] > 0) & (columns["price"] > 0)
    rows = np.flatnonzero(good)
    invoices = columns["invoice"].take(rows).to_list()
    by_invoice = dict(zip(reversed(invoices), rows[::-1].tolist(), strict=True))
    first = np.sort(np.array(list(by_invoice.values()), dtype=np.int64))
    return first[np.argsort(sold_us[first], kind="stable")]


def _texts(column: npt.NDArray[np.object_]) -> Texts:
    missing = np.ma.getmaskarray(column)
    values = np.ma.getdata(column).tolist()
    return Texts.of([None if gone else value for value, gone in zip(values, missing, strict=True)])


def _starts_with(texts: Texts, first: bytes) -> npt.NDArray[np.bool_]:
    starts, lengths = texts.offsets[:-1], np.diff(texts.offsets)
    begins = texts.data[np.minimum(starts, len(texts.data) - 1)] == first[0]
    found: npt.NDArray[np.bool_] = begins & (lengths > 0)
    return found
