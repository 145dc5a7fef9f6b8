"""The worker's own side of a call, without a process."""

import pickle
import socket
import threading

from tests.fakes import computing

from agenttask_threading import worker


def test_calls_are_answered_until_the_other_end_closes():
    ours, theirs = socket.socketpair()
    serving = threading.Thread(target=worker.serve, args=(theirs,))
    serving.start()
    with ours, ours.makefile("rwb") as stream:
        for number in (2, 3):
            call = pickle.dumps((computing.square, (number,)))
            stream.write(worker.LENGTH.pack(len(call)) + call)
            stream.flush()
            (length,) = worker.LENGTH.unpack(stream.read(worker.LENGTH.size))
            assert pickle.loads(stream.read(length)) == (True, number * number)
    serving.join(30)
    theirs.close()
    assert not serving.is_alive()


def test_whatever_a_function_does_there_is_an_answer():
    answers = [
        pickle.loads(worker.answer_to(pickle.dumps((function, ()))))
        for function in (computing.fail, computing.fail_unsendable, computing.leave, computing.lock)
    ]
    assert [(succeeded, type(error).__name__) for succeeded, error, _ in answers] == [
        (False, "KeyError"),
        (False, "RuntimeError"),
        (False, "RuntimeError"),
        (False, "TypeError"),
    ]
    assert "in fail" in answers[0][2]


def test_a_call_that_is_no_pickle_is_answered_too():
    succeeded, error, _ = pickle.loads(worker.answer_to(b"no pickle"))
    assert (succeeded, type(error)) == (False, pickle.UnpicklingError)
