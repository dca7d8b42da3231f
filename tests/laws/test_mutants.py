"""A planted one-line mistake in the algebra or an engine is caught by the laws.

Each mutant is the library with one line changed, run without compilation in a process of its own. The snippet
must occur exactly once, so that a mutant cannot rot unseen; the unchanged library must pass the same run.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = 60

MUTANTS = {
    "window tail at the hop after": (
        "algebra/value.py",
        "return (t_us - window) // hop * hop if hop > 0 else NEVER_US",
        "return ((t_us - window) // hop + 1) * hop if hop > 0 else NEVER_US",
    ),
    "tiles from the hop after": (
        "algebra/value.py",
        "end_after = t_us - window - hop",
        "end_after = t_us - window",
    ),
    "an event in the tile before its own": (
        "algebra/update.py",
        "state[newest] <= event_us < state[newest] + hop:",
        "state[newest] <= event_us <= state[newest] + hop:",
    ),
    "window tail exclusive": (
        "algebra/value.py",
        "while first > 0 and state[offset + 1 + (first - 1) * record] > end_after:",
        "while first > 0 and state[offset + 1 + (first - 1) * record] >= end_after:",
    ),
    "last tie goes to the one known earlier": (
        "algebra/update.py",
        "if event_us >= state[offset] and (tables.lasts[i, 1] == 1 or not np.isnan(x)):",
        "if event_us > state[offset] and (tables.lasts[i, 1] == 1 or not np.isnan(x)):",
    ),
    "offline sees the instant itself": (
        "algebra/replay.py",
        "while event < events_end and columns.known_us[event] < t:",
        "while event < events_end and columns.known_us[event] <= t:",
    ),
    "offline sees by event time": (
        "algebra/replay.py",
        "while event < events_end and columns.known_us[event] < t:",
        "while event < events_end and columns.event_us[event] < t:",
    ),
    "late event counted where it became known": (
        "algebra/update.py",
        "start = (event_us // hop) * hop",
        "start = (read_us // hop) * hop",
    ),
    "tiles dropped a hop too early": (
        "algebra/update.py",
        "known_us - tables.levels[level, 1] - tables.levels[level, 0]",
        "known_us - tables.levels[level, 1]",
    ),
    "a tile that a read can still reach is not made": (
        "algebra/update.py",
        "if event_us <= last_gone:",
        "if event_us <= last_gone + hop:",
    ),
    "a tile begun with one event has nothing of it but the sum": (
        "algebra/update.py",
        "        floats[at + 4] = x\n        return\n",
        "        floats[at + 4] = 0.0\n        return\n",
    ),
    "late event decays the wrong way": (
        "algebra/update.py",
        "floats[offset + 1] += x * 2.0 ** (-(reference - event_us) / half_life)",
        "floats[offset + 1] += x * 2.0 ** ((reference - event_us) / half_life)",
    ),
    "sum without its compensation": (
        "algebra/update.py",
        "    rest = low + error\n",
        "    rest = low\n",
    ),
    "distinct forgets that a value came again": (
        "algebra/cardinality.py",
        "newest = max(newest, event_us)",
        "newest = min(newest, event_us)",
    ),
    "ttl includes its end": (
        "algebra/value.py",
        "t_us - state[at] >= ttl_us:",
        "t_us - state[at] > ttl_us:",
    ),
    "a delete reads as a null": (
        "algebra/value.py",
        "DELETED:\n        return np.nan, _MISSING\n",
        "DELETED:\n        return np.nan, _NULL\n",
    ),
    "a delete goes stale": (
        "algebra/value.py",
        "or state[at + 1] == DELETED:\n",
        "or state[at + 1] == DELETED and not 0 < ttl_us <= t_us - state[at]:\n",
    ),
    "deletes are not marked": (
        "features/columns.py",
        "    if view.delete is not None:\n",
        "    if view.delete is not None and not batch:\n",
    ),
    "a link leads astray by one bit": (
        "features/reach.py",
        "((high & _HIGH) << _LOW_BITS)",
        "((high & _HIGH) << _BITS)",
    ),
    "a null link leads to some key": (
        "features/reach.py",
        "first | (second << _BITS)",
        "first | (second << _BITS) | np.uint64(1)",
    ),
    "a link ignores its ttl": (
        "features/plan.py",
        "ttl_us = parse_duration(feature.ttl) if feature.ttl else 0",
        "ttl_us = 0",
    ),
    "a deleted row still leads on": (
        "features/plan.py",
        "    delete = _deletes(table)\n",
        "    delete = None\n",
    ),
    "the view is read by the key that was given": (
        "features/reach.py",
        "link = reading.links.get(entity)",
        "link = None if entity in spine.keys else reading.links.get(entity)",
    ),
    "a state is another one": (
        "features/assemble.py",
        "columns[name] = states[plan.feature_by_state[name]].astype(np.float64)",
        "columns[name] = 0.0 * states[plan.feature_by_state[name]]",
    ),
    "an age is counted from the beginning": (
        "algebra/value.py",
        "    if kind == AGE:\n        return (t_us - state[at])",
        "    if kind == AGE:\n        return (t_us + state[at])",
    ),
    "deviations merged without their weight": (
        "algebra/moments.py",
        "once, once_low = _multiply(apart, apart_low, weight, weight_low)",
        "once, once_low = apart, apart_low",
    ),
    "deviations from a mean without its low half": (
        "algebra/moments.py",
        "mean, mean_low = _divide(total[0], total[1], count)",
        "mean, mean_low = _divide(total[0], 0.0, count)",
    ),
    "variance of a tile forgotten in the merge": (
        "algebra/moments.py",
        "square, square_low, floats[tile + moment], floats[tile + moment + 1]",
        "square, square_low, 0.0, 0.0",
    ),
    "first tie goes to the one known earlier": (
        "algebra/update.py",
        "columns.event_us[row] <= state[at]",
        "columns.event_us[row] < state[at]",
    ),
    "first leaves out the tile at the tail": (
        "algebra/value.py",
        "and state[begin] < tail:",
        "and state[begin] <= tail:",
    ),
    "newest values: a tie goes to the one known earlier": (
        "algebra/recent.py",
        "state[offset + 1 + 2 * place] > event_us:",
        "state[offset + 1 + 2 * place] >= event_us:",
    ),
    "newest values from before the window": (
        "algebra/recent.py",
        "if i < state[offset] and state[offset + 1 + 2 * i] >= tail:",
        "if i < state[offset]:",
    ),
    "quantile of the value below": (
        "algebra/counted.py",
        "            if below > rank:",
        "            if below >= rank:",
    ),
    "counts dropped a tile too early": (
        "algebra/counted.py",
        "        if state[offset + 2 + 3 * i] >= oldest:",
        "        if state[offset + 2 + 3 * i] > oldest:",
    ),
    "of equally frequent values the larger first": (
        "algebra/counted.py",
        "(before == count and values[2 * place - 2] < value)",
        "(before == count and values[2 * place - 2] > value)",
    ),
    "one value too many is tracked": (
        "algebra/counted.py",
        "    if different >= tracked:",
        "    if different > tracked:",
    ),
    "of equally rare values the smallest is forgotten": (
        "algebra/counted.py",
        "_is_larger(here, last)",
        "_is_larger(last, here)",
    ),
    "what is pushed out is lost to the sketch": (
        "algebra/cardinality.py",
        "mark, state[at] = state[at], mark",
        "state[at] = mark",
    ),
    "an estimate without its sketch": (
        "algebra/cardinality.py",
        "    for i in range(state[sketch]):",
        "    for i in range(0):",
    ),
    "an estimate passes for exact": (
        "algebra/cardinality.py",
        "math.floor(estimate + 0.5)), True",
        "math.floor(estimate + 0.5)), False",
    ),
    "a count at its cap is estimated": (
        "algebra/cardinality.py",
        "    if count <= tables.distincts[distinct, 1]:",
        "    if count < tables.distincts[distinct, 1]:",
    ),
    "the second number of a word is the first": (
        "algebra/vectors.py",
        "word = state[offset + 2 + i // 2] >> (32 * (i % 2))",
        "word = state[offset + 2 + i // 2]",
    ),
    "an older vector replaces a newer": (
        "algebra/vectors.py",
        "if state[offset] == 1 and event_us < state[offset + 1]:",
        "if state[offset] == 1 and event_us > state[offset + 1]:",
    ),
    "a vector outlives its delete": (
        "algebra/vectors.py",
        "state[offset] == 0 or state[offset + 2] == DELETED:",
        "state[offset] == 0:",
    ),
    "online applies a batch backwards": (
        "algebra/grouping.py",
        "bucket(place[ids], len(firsts))",
        "bucket(place[ids], len(firsts), np.arange(len(ids) - 1, -1, -1))",
    ),
    "online reads a tick late": (
        "engines/online.py",
        "t_us = int(spine.t_us[0]) if len(spine) else 0",
        "t_us = int(spine.t_us[0]) + 1 if len(spine) else 0",
    ),
    "online reads a view from the states of the one before": (
        "stores/kv.py",
        "[(words, part) for part in np.split(places, ends[:-1])]",
        "[(words, places[: len(hashes)]) for _, hashes in asked]",
    ),
    "online counts a second delivery in a batch": (
        "stores/dedupe.py",
        "            mask[row] = False\n",
        "            mask[row] = True\n",
    ),
    "online counts a second delivery later": (
        "stores/dedupe.py",
        "known_us - latest > self._horizon_us",
        "known_us - latest >= 0",
    ),
    "a tile at rest is counted although its window has passed": (
        "algebra/spans.py",
        "    end_after = t_us - window - hop - oldest_number",
        "    end_after = t_us - window - 2 * hop - oldest_number",
    ),
    "offline gives rows in the order of keys": (
        "algebra/replay.py",
        "            values[i_read, rows[first + i]] =",
        "            values[i_read, first + i] =",
    ),
    "filter left out": (
        "features/columns.py",
        "    if view.where is None:\n",
        "    if view.where is None or batch:\n",
    ),
    "lookup sees the instant itself": (
        "algebra/lookup.py",
        "while after + step <= end and known_us[after + step - 1] < t_us[i]:",
        "while after + step <= end and known_us[after + step - 1] <= t_us[i]:",
    ),
    "lookup sees the instant itself at the end of its search": (
        "algebra/lookup.py",
        "if known_us[middle] < t_us[i]:",
        "if known_us[middle] <= t_us[i]:",
    ),
    "lookup takes the earlier known of a tie": (
        "algebra/lookup.py",
        "if best < begins[key] or event_us[i] >= event_us[best]:",
        "if best < begins[key] or event_us[i] > event_us[best]:",
    ),
    "lookup takes the last known for the newest": (
        "algebra/lookup.py",
        "if skips or not in_order:",
        "if skips:",
    ),
    "lookup takes a null for a value": (
        "algebra/lookup.py",
        "skips = has_nulls and not nulls",
        "skips = nulls and not nulls",
    ),
    "lookup window without its hop": (
        "algebra/lookup.py",
        "event_us[event] >= ((t_us - window) // hop) * hop\n",
        "event_us[event] >= t_us - window\n",
    ),
    "lookup ttl includes its end": (
        "algebra/lookup.py",
        "if window > 0 and t_us - event_us[event] >= window:",
        "if window > 0 and t_us - event_us[event] > window:",
    ),
    "lookup reads a delete as a null": (
        "algebra/lookup.py",
        "    if bits[place] == DELETED:\n",
        "    if bits[place] != bits[place]:\n",
    ),
    "lookup gives rows in the order of keys": (
        "algebra/lookup.py",
        "        row = rows[i]\n",
        "        row = i\n",
    ),
}


ENRICHMENT = {
    "an event sees the row that is known with it": (
        "serving/runs.py",
        "    parts.sort(key=lambda part: part.stream in tables)\n",
        "    parts.sort(key=lambda part: part.stream not in tables)\n",
    ),
    "streams come in one after the other": (
        "serving/runs.py",
        "np.lexsort((place, which, known_us))",
        "np.lexsort((place, known_us, which))",
    ),
    "a late row overwrites a newer one": (
        "engines/rows.py",
        "if old is None or new.event_us >= old.event_us",
        "if old is None or new.event_us >= 0",
    ),
    "of rows at one instant the earlier known holds": (
        "engines/rows.py",
        "if old is None or new.event_us >= old.event_us",
        "if old is None or new.event_us > old.event_us",
    ),
    "of rows in one batch the last in the log holds": (
        "engines/rows.py",
        "np.lexsort((np.arange(len(rows)), batch.event_us[rows], ids))",
        "np.lexsort((np.arange(len(rows)), ids))",
    ),
    "a deleted row is looked up": (
        "engines/rows.py",
        "Row(event_us, None if is_gone else list(cells))",
        "Row(event_us, list(cells))",
    ),
    "a lookup ignores its ttl": (
        "serving/enrich.py",
        "known_us - since[ids] < parse_duration(lookup.ttl)",
        "known_us - since[ids] < 1 << 62",
    ),
    "an event has the row of another": (
        "engines/rows.py",
        "            out[i] = held[key]\n",
        "            out[i] = held[-1 - key]\n",
    ),
    "the log has the events as they came": (
        "serving/ingest.py",
        "        append(txn, kept)\n",
        "        append(txn, batch)\n",
    ),
}


def judge(
    library: Path, what: str = "engines", timeout_s: float = 240
) -> subprocess.CompletedProcess[str]:
    """The laws of `what` over the library in `library`."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(library), str(ROOT)]),
        "NUMBA_DISABLE_JIT": "1",
    }
    command = [sys.executable, "-m", "tests.laws.judge", str(EXAMPLES), what]
    return subprocess.run(
        command,
        env=environment,
        cwd=library,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@pytest.mark.parametrize("what", ["engines", "enrichment"])
def test_the_library_itself_passes(library: Path, what: str) -> None:
    done = judge(library, what)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "HELD" in done.stdout


@pytest.mark.parametrize("name", [*MUTANTS, *ENRICHMENT])
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    place, right, wrong = (MUTANTS | ENRICHMENT)[name]
    file = library / "sevenfold" / place
    source = file.read_text()
    assert source.count(right) == 1, (
        f"{right!r} is {source.count(right)} times in {place}: renew the mutant"
    )
    file.write_text(source.replace(right, wrong))
    done = judge(library, "enrichment" if name in ENRICHMENT else "engines")
    assert done.returncode == 3, f"not caught: {done.stdout}{done.stderr[-2000:]}"
    assert "BROKEN" in done.stdout
