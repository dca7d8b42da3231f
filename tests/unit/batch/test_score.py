"""A population scored ahead: the same as the server's answers, switched to at once, gone on with, nothing left over."""

import shutil
from pathlib import Path

import duckdb
import msgspec
import numpy as np
import pytest

import sevenfold as sf
from sevenfold.batch import score
from sevenfold.batch.score import Wanted, score_population
from sevenfold.errors import InputError, RunError
from sevenfold.serving.forgetting import Forgetting
from sevenfold.stores.log import frontier_us
from tests.unit.batch import scored as shop
from tests.unit.batch.scored import DAY0, HOUR

T_US = shop.known_at(150)
NOW_US = T_US + HOUR
USERS = [f"u{i}" for i in range(9)]

PIPELINES = {
    "plain": {},
    "filters": {"filter": [sf.Pipeline.Keep("item__count_1d", low=2)]},
    "reranks": {
        "rerank": [
            sf.Pipeline.Fresh("user_x_item__since_last", half_life="1 d", weight=0.5),
            sf.Pipeline.Cap("item__count_1d", most=1),
        ]
    },
    "pinned": {
        "rerank": [
            sf.Pipeline.Spread(["item__count_1d", "item__mean_pieces_7d"], relevance=0.3),
            sf.Pipeline.Cap("item__count_1d", most=1),
            sf.Pipeline.Pin(2, sf.Pipeline.Keep("item__mean_pieces_7d", low=2.5)),
        ]
    },
    "both": {
        "filter": [sf.Pipeline.Keep("own_score", low=0.0, nulls=True)],
        "rerank": [sf.Pipeline.Spread(["item__count_1d", "item__mean_pieces_7d"])],
    },
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home that has taken 150 sales in, served by a model of all features."""
    made = tmp_path_factory.mktemp("scored")
    shop.fill(made, shop.shop(), shop.sales_of(150))
    shop.promote(made, shop.shop(), shop.linear(shop.shop()))
    return made


def same(home: Path, system: sf.System, t_us: int, k: int | None = None) -> int:
    """How many slates of the table are what the online path answers, bit for bit; all of them must be."""
    _, made = shop.slates(home)
    told = shop.answers(home, system, USERS, t_us, k)
    for user, (items, scores, sources, rung) in told.items():
        if user not in made:
            assert not items
            continue
        slate = made[user]
        assert (slate.items, slate.scores, slate.sources) == (items, scores, sources), user
        assert (slate.rung, slate.as_of_us) == (rung, t_us)
    return len(made)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("memory_mib", [1024, 1])
def test_slates_are_what_the_server_answers_bit_for_bit(
    name: str, memory_mib: int, home: Path
) -> None:
    system = shop.shop(**PIPELINES[name])
    done = score_population(system, home, Wanted("all", T_US, memory_mib=memory_mib), NOW_US)
    assert done.table.total == 9
    assert done.table.slates == same(home, system, T_US)
    assert done.resumed == 0
    assert not shop.left_over(home)


@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("name", PIPELINES)
def test_fewer_than_a_slate_has_are_its_beginning_as_the_server_answers_them(
    name: str, k: int, home: Path
) -> None:
    """Whichever was asked for fewer, the run or the request."""
    system = shop.shop(**PIPELINES[name])
    score_population(system, home, Wanted("all", T_US), NOW_US)
    _, made = shop.slates(home)
    told = shop.answers(home, system, USERS, T_US, k)
    assert {user: slate.items[:k] for user, slate in made.items()} == {
        user: items for user, (items, *_) in told.items() if items
    }
    score_population(system, home, Wanted("all", T_US, k=k), NOW_US)
    assert same(home, system, T_US, k) == len(made)


def test_slates_of_a_rule_and_of_no_model_are_what_the_server_answers(tmp_path: Path) -> None:
    system = shop.shop()
    shop.fill(tmp_path, system, shop.sales_of(60))
    t_us = shop.known_at(60)
    table = score_population(system, tmp_path, Wanted("all", t_us), NOW_US).table
    assert (table.model, table.version) == ("none", 0)
    assert same(tmp_path, system, t_us) > 5
    shop.promote(tmp_path, system, shop.by_rule())
    score_population(system, tmp_path, Wanted("all", t_us + 1, k=7), NOW_US)
    assert same(tmp_path, system, t_us + 1, 7) > 5


def test_slates_of_trees_are_what_the_server_answers(tmp_path: Path) -> None:
    system = shop.shop(limit=19)
    shop.fill(tmp_path, system, shop.sales_of(80))
    shop.promote(tmp_path, system, shop.trees(system))
    t_us = shop.known_at(80)
    table = score_population(system, tmp_path, Wanted("all", t_us, k=8), NOW_US).table
    assert (table.model, table.version) == ("test", 1)
    assert same(tmp_path, system, t_us, 8) > 5
    different = {slate.scores for slate in shop.slates(tmp_path)[1].values()}
    assert len(different) > 5


def test_what_became_known_later_is_not_in_it(tmp_path: Path, home: Path) -> None:
    system, before = shop.shop(), tmp_path / "before"
    t_us = shop.known_at(80)  # an event became known then: it is not visible yet
    shop.fill(before, system, shop.sales_of(150)[:80])
    shop.promote(before, system, shop.linear(system))
    for place in (home, before):
        score_population(system, place, Wanted("all", t_us), NOW_US)
    assert shop.slates(home)[1] == shop.slates(before)[1]
    assert same(before, system, t_us) > 5


def test_only_those_asked_for_are_scored(home: Path, tmp_path: Path) -> None:
    system = shop.shop()
    table = score_population(system, home, Wanted("active=1h", T_US), NOW_US).table
    recent = {
        row["user"]
        for i, row in enumerate(shop.sales_of(150))
        if DAY0 + i * HOUR // 6 >= T_US - HOUR
    }
    assert 0 < len(recent) < 9
    assert set(shop.slates(home)[1]) == recent
    assert table.total == len(recent)

    file = tmp_path / "who.csv"
    file.write_text("user,note\nu3,x\nnobody,\nu3,again\n", "utf-8")
    assert score_population(system, home, Wanted(str(file), T_US), NOW_US).table.total == 2
    # Popular items are for everybody.
    assert set(shop.slates(home)[1]) == {"u3", "nobody"}


def test_a_file_of_the_slates(home: Path, tmp_path: Path) -> None:
    system = shop.shop()
    for name in ("out.parquet", "out.csv"):
        out = tmp_path / name
        score_population(system, home, Wanted("all", T_US, k=2, out=out), NOW_US)
        _, made = shop.slates(home)
        query = f"select user, item, score from '{out}' order by user, position"
        with duckdb.connect() as connection:
            rows = connection.execute(query).fetchall()
        wanted = [
            (user, item, at)
            for user in sorted(made)
            for item, at in zip(made[user].items, np.frombuffer(made[user].scores), strict=True)
        ]
        assert rows == wanted  # a float64 written in decimals is read as the same
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "out.parquet"]
    with pytest.raises(InputError, match=r"must end in \.parquet or \.csv"):
        score_population(system, home, Wanted("all", T_US, out=tmp_path / "out.txt"), NOW_US)


class _KilledError(Exception):
    """Where a process would have been killed."""


@pytest.mark.parametrize("pages", [1, 3])
def test_it_goes_on_where_it_was(pages: int, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = shop.shop()
    before = score_population(system, home, Wanted("all", T_US - HOUR), NOW_US).table
    monkeypatch.setattr(score, "_PAGE", 2)

    def killed(what: str, done: int, total: int) -> None:
        if what == "scoring" and done >= 2 * pages:
            raise _KilledError

    wanted = Wanted("all", T_US)
    with pytest.raises(_KilledError):
        score_population(system, home, wanted, NOW_US, killed)
    assert shop.slates(home)[0] == before  # the old one is served
    assert len(shop.left_over(home)) == 2 * pages + 1
    done = score_population(system, home, wanted, NOW_US)
    assert done.resumed == 2 * pages
    assert done.table.slates == same(home, system, T_US)
    assert not shop.left_over(home)


def test_another_begins_anew_and_frees_what_lies_there(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = shop.shop()
    monkeypatch.setattr(score, "_PAGE", 2)

    def killed(what: str, done: int, total: int) -> None:
        if what == "scoring":
            raise _KilledError

    others = [Wanted("all", T_US + 1), Wanted("active=3h", T_US), Wanted("all", T_US, k=3)]
    for other in others:
        with pytest.raises(_KilledError):
            score_population(system, home, Wanted("all", T_US), NOW_US, killed)
        assert score_population(system, home, other, NOW_US).resumed == 0
        assert not shop.left_over(home)
    with pytest.raises(_KilledError):
        score_population(system, home, Wanted("all", T_US), NOW_US, killed)
    promoted = tmp_path / "promoted"  # the other tests have the home as it was
    shutil.copytree(home, promoted)
    shop.promote(promoted, system, shop.linear(system, seed=2))
    assert score_population(system, promoted, Wanted("all", T_US), NOW_US).resumed == 0
    same(promoted, system, T_US)
    assert not shop.left_over(promoted)
    score_population(system, home, Wanted("all", T_US), NOW_US)
    assert not shop.left_over(home)


def test_nothing_becomes_known_before_the_instant_afterwards(tmp_path: Path) -> None:
    system = shop.shop()
    shop.fill(tmp_path, system, shop.sales_of(30))
    t_us = shop.known_at(40)
    score_population(system, tmp_path, Wanted("all", t_us), NOW_US)
    with shop.opened(tmp_path) as store, store.read() as txn:
        assert frontier_us(txn) == t_us
    with shop.serving(tmp_path, system, replay=False, now_us=shop.known_at(35)) as service:
        service.accept("sales", [shop.sales_of(31)[30]], None)
    table, made = shop.slates(tmp_path)
    again = score_population(system, tmp_path, Wanted("all", t_us), NOW_US).table
    assert msgspec.structs.replace(again, number=0) == msgspec.structs.replace(table, number=0)
    assert shop.slates(tmp_path)[1] == made


def test_what_cannot_be_scored_is_refused_in_words(home: Path, tmp_path: Path) -> None:
    system = shop.shop()

    def refused(wanted: Wanted, place: Path = home) -> str:
        with pytest.raises((InputError, RunError)) as error:
            score_population(system, place, wanted, NOW_US)
        return str(error.value)

    assert "still to come" in refused(Wanted("all", NOW_US + 1))
    assert "there is nobody" in refused(Wanted("all", DAY0 - HOUR))
    assert "no such file" in refused(Wanted("everybody", T_US))
    assert "'soon' is not a duration" in refused(Wanted("active=soon", T_US))
    assert "no store in" in refused(Wanted("all", T_US), tmp_path)
    file = tmp_path / "who.csv"
    file.write_text("user\nu1\n\nu2\n", "utf-8")
    assert "row 1 of" in refused(Wanted(str(file), T_US))
    file.write_text("customer\nu1\n", "utf-8")
    assert "there is no column 'user'" in refused(Wanted(str(file), T_US))
    with score.locked(home / "score.lock"):
        assert "another run scores" in refused(Wanted("all", T_US))


def test_who_is_forgotten_leaves_the_tables_too(tmp_path: Path) -> None:
    system = shop.shop()
    shop.fill(tmp_path, system, shop.sales_of(60))
    t_us = shop.known_at(60)
    score_population(system, tmp_path, Wanted("all", t_us), NOW_US)
    assert "u1" in shop.slates(tmp_path)[1]
    with shop.serving(tmp_path, system) as service:
        service.forget("user", "u1")
        _carry_out(service.forgetting)
    assert "u1" not in shop.slates(tmp_path)[1]
    with shop.opened(tmp_path) as store:
        job = Forgetting(store, system, list)
        job.order("item", "i3")
        _carry_out(job)
    made = shop.slates(tmp_path)[1]
    assert made
    assert not any("i3" in slate.items for slate in made.values())


def test_while_somebody_is_being_forgotten_nothing_is_scored(tmp_path: Path) -> None:
    system = shop.shop()
    shop.fill(tmp_path, system, shop.sales_of(30))
    with shop.serving(tmp_path, system) as service:
        service.forget("user", "u1")
    with pytest.raises(RunError, match="is being forgotten"):
        score_population(system, tmp_path, Wanted("all", shop.known_at(30)), NOW_US)


def _carry_out(job: Forgetting) -> None:
    for _ in range(1_000):
        if not job.step():
            return
    raise AssertionError("it does not end")
