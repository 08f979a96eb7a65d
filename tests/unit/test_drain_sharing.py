"""What apps share in the drain, memory and connections, no app can take from the others."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.drain.body_memory import BodyMemory
from cutover.drain.connection_slots import ConnectionSlots


class Body:
    """A body that is read until it is let go."""

    def __init__(self, memory: BodyMemory, app: str, size: int, log: list[str], name: str = "") -> None:
        self._end = asyncio.Event()
        self.app, self.size, self.held = app, size, False
        self.task = asyncio.create_task(self._read(memory, log, name or app))

    async def _read(self, memory: BodyMemory, log: list[str], name: str) -> str:
        try:
            async with memory.held(self.app, self.size, 600.0):
                self.held = True
                log.append(name)
                await self._end.wait()
        except TimeoutError:
            return "cut"
        finally:
            self.held = False
        return "read"

    def come(self) -> None:
        """Let the body arrive."""
        self._end.set()


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_an_app_has_its_share_and_its_bodies_keep_their_order() -> None:
    memory, log = BodyMemory(80, 20, 600.0), list[str]()
    shop = [Body(memory, "shop", 10, log, f"shop{number}") for number in range(5)]
    await settle()
    pdf = Body(memory, "pdf", 10, log)
    await settle()
    assert log == ["shop0", "shop1", "pdf"]
    for body in shop:
        body.come()
        await settle()
    assert log == ["shop0", "shop1", "pdf", "shop2", "shop3", "shop4"]
    pdf.come()
    await settle()
    assert (memory.left, memory.waiting) == (80, 0)


async def test_where_all_of_it_is_taken_the_app_with_least_goes_before_those_that_came_first() -> None:
    memory, log = BodyMemory(40, 30, 600.0), list[str]()
    held = [Body(memory, app, 10, log) for app in ("a", "a", "b", "b")]
    waiting = [Body(memory, "a", 10, log, "a again"), Body(memory, "pdf", 10, log)]
    await settle()
    held[3].come()
    await settle()
    assert log[4:] == ["pdf"]
    for body in (*held, *waiting):
        body.come()
    await settle()
    assert log[4:] == ["pdf", "a again"]


async def test_where_all_of_it_is_taken_the_app_with_least_is_next_and_what_never_comes_is_cut() -> None:
    memory, log = BodyMemory(40, 20, 0.0), list[str]()
    held = [Body(memory, app, 10, log) for app in ("a", "a", "b", "b")]
    await settle()
    assert [body.held for body in held] == [True] * 4  # nobody waits, and nothing is cut
    more = Body(memory, "a", 10, log)  # waits for its own app alone
    await settle()
    assert not any(body.task.done() for body in held)
    pdf = Body(memory, "pdf", 10, log)
    assert [await body.task for body in held] == ["cut"] * 4
    await settle()
    assert (more.held, pdf.held) == (True, True)
    assert log[4] == "pdf"
    for body in (more, pdf):
        body.come()
        assert await body.task == "read"
    assert memory.left == 40


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 10), st.sampled_from(["come", "go"])), max_size=40))
def test_the_memory_is_never_more_than_full_and_all_of_it_comes_back(bodies: list[tuple[str, int, str]]) -> None:
    async def run() -> None:
        memory, log = BodyMemory(25, 12, 600.0), list[str]()
        made = [Body(memory, app, size, log, str(number)) for number, (app, size, _) in enumerate(bodies)]
        ends = dict(zip(made, (end for _, _, end in bodies), strict=True))
        while ends:
            await settle()
            held = [body for body in made if body.held]
            assert memory.left == 25 - sum(body.size for body in held) >= 0
            for app in "abcd":
                assert sum(body.size for body in held if body.app == app) <= 12
            assert held, "somebody is always read"
            for body in (held[-1], list(ends)[-1]):  # one that is read, and one that may wait
                if ends.pop(body, None) == "go" or not body.held:
                    body.task.cancel()
                body.come()
        await asyncio.gather(*(body.task for body in made), return_exceptions=True)
        assert (memory.left, memory.waiting) == (25, 0)
        for app in "abcd":
            order = [int(name) for name in log if bodies[int(name)][0] == app]
            assert order == sorted(order)

    asyncio.run(run())


class Connection:
    """A connection that notes its end."""

    def __init__(self) -> None:
        self.ended = False

    def force_close(self) -> None:
        self.ended = True


async def test_the_oldest_connection_without_an_app_makes_room_first() -> None:
    slots = ConnectionSlots[Connection]()
    first, second, own = Connection(), Connection(), Connection()
    for connection in (first, second, own):
        slots.enter(connection, 600.0)
    slots.own(own, "pdf")
    assert slots.make(4)
    assert not first.ended
    assert slots.make(3)
    assert (first.ended, second.ended, own.ended) == (True, False, False)
    assert len(slots) == 2


async def test_the_app_with_the_most_makes_room_with_its_newest_unless_it_has_its_part_only() -> None:
    slots = ConnectionSlots[Connection]()
    made = {app: [Connection() for _ in range(number)] for app, number in (("a", 2), ("b", 3))}
    for app, connections in made.items():
        for connection in connections:
            slots.enter(connection, 600.0)
            slots.own(connection, app)
    assert slots.make(5)
    assert [one.ended for one in made["b"]] == [False, False, True]
    assert not any(one.ended for one in made["a"])


@pytest.mark.parametrize("most", [8, 16])
async def test_apps_that_have_no_more_than_their_part_keep_it(most: int) -> None:
    slots = ConnectionSlots[Connection]()
    made = [Connection() for _ in range(most)]
    for number, connection in enumerate(made):
        slots.enter(connection, 600.0)
        slots.own(connection, f"app-{number % 8}")
    assert not slots.make(most)
    assert not any(connection.ended for connection in made)


async def test_a_connection_that_has_ended_is_in_no_way() -> None:
    slots = ConnectionSlots[Connection]()
    made = [Connection() for _ in range(3)]
    for connection in made:
        slots.enter(connection, 600.0)
        slots.own(connection, "pdf")
    slots.left(made[0])
    slots.own(made[0], "pdf")  # it ended meanwhile
    slots.own(made[1], "shop")  # another drain on the same connection
    assert len(slots) == 2
    assert slots.make(2)
    assert sum(connection.ended for connection in made) == 1
    assert len(slots) == 1


@pytest.mark.usefixtures("virtual_time")
async def test_a_connection_without_an_app_ends_after_a_while() -> None:
    slots, connection = ConnectionSlots[Connection](), Connection()
    slots.enter(connection, 0.0)
    async with asyncio.timeout(30):
        while not connection.ended:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    assert len(slots) == 0
