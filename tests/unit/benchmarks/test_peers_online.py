"""Reads taken in turns: the first of each turn is counted apart, for both sides alike."""

from benchmarks.peers import online


def test_the_first_read_of_a_turn_is_counted_apart() -> None:
    asked: list[tuple[str, int]] = []

    def timed(name: str) -> online._Timed:
        def read(at: int) -> tuple[float, float]:
            is_first = not asked or asked[-1][0] != name
            asked.append((name, at))
            return (9.0, 8.0) if is_first else (1.0, 0.5)

        return online._Timed(read)

    ours, theirs = timed("ours"), timed("theirs")
    online._turns(3, None, (ours, theirs))
    for each in (ours, theirs):
        assert each.wall_first == [9.0] * 3
        assert each.cpu_first == [8.0] * 3
        assert each.wall == [1.0] * 9
        assert each.cpu == [0.5] * 9
    turns = online.WARM + 3
    assert len(asked) == 2 * turns * online.IN_A_ROW
    assert [at for name, at in asked if name == "ours"] == [
        at for name, at in asked if name != "ours"
    ]
