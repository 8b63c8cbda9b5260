import mmap
import os
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from vjepa_mlflow.runtime.channel import Channel, map_memory, memory_file, write


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    pair = Channel.pair()
    yield pair
    for end in pair:
        end.let_go()


def test_messages_come_whole_in_their_order_with_their_descriptors(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    large = os.urandom(1 << 20)  # more than a socket holds
    with memory_file() as memory:
        os.write(memory, b"inside")
        sending = threading.Thread(target=lambda: (one.send({"first": 1}), one.send(large, memory)))
        sending.start()
        assert other.receive() == ({"first": 1}, [])
        content, (descriptor,) = other.receive(descriptors=1)
        sending.join()
        assert content == large
        assert descriptor != memory
        assert os.pread(descriptor, 10, 0) == b"inside"
        os.close(descriptor)


def test_who_listens_hears_of_the_end(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    assert not other.has_something()
    one.send("the last")
    one.close()
    assert other.has_something()
    assert other.receive()[0] == "the last"
    with pytest.raises(EOFError):
        other.receive()
    with pytest.raises(BrokenPipeError):
        other.send("nobody is there")


def test_a_thread_that_waits_hears_that_its_own_end_was_closed(ends: tuple[Channel, Channel]) -> None:
    errors: list[type[BaseException]] = []
    begins = threading.Event()

    def wait() -> None:
        try:
            begins.set()
            ends[0].receive()
        except EOFError as error:
            errors.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    begins.wait()
    time.sleep(0.1)  # until it waits
    ends[0].close()
    ends[0].close()  # twice does no harm
    waiting.join(10)
    assert errors == [EOFError]


def test_a_fork_holds_no_end(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(writing)
        os.read(reading, 1)  # until the parent has heard
        os._exit(0)
    os.close(reading)
    try:
        one.let_go()
        assert other.has_something(5)
        with pytest.raises(EOFError):
            other.receive()
    finally:
        os.close(writing)
        os.waitpid(child, 0)


def test_memory_is_shared_without_that_changes_come_back() -> None:
    values = np.arange(1000, dtype=np.float32)
    with memory_file() as descriptor:
        write(descriptor, [memoryview(values), b"tail"])
        mapped = map_memory(descriptor)
        again = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    assert bytes(mapped) == values.tobytes() + b"tail"
    mapped[0] = 255
    assert again[0] == values.tobytes()[0]
