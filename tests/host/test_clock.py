"""The gateway's clock: even, whatever is done to the machine's."""

from a2a_gateway.host.clock import SystemClock


class Machine:
    """A machine whose clocks a test sets."""

    def __init__(self) -> None:
        self.wall = 1_800_000_000.0
        self.steady = 50.0

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.steady)

    def pass_time(self, seconds: float) -> None:
        self.wall += seconds
        self.steady += seconds


def test_time_passes_evenly_while_the_wall_clock_jumps() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.pass_time(10)
    machine.wall -= 3600
    machine.pass_time(5)
    assert (clock.now(), clock.wall()) == (1_800_000_015.0, 1_799_996_415.0)


def test_a_synchronised_clock_equals_the_wall_clock() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += 86_400
    clock.synchronise()
    machine.pass_time(2)
    assert clock.now() == clock.wall() == 1_800_086_402.0
