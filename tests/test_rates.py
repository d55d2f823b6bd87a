import pytest

from pipeline.serving.protection.rates import Buckets, Rate, address_of, spend


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_holds_what_may_be_asked_at_once_and_fills_again() -> None:
    clock = Clock()
    buckets = Buckets(Rate(5, 10), clock=clock)
    assert [buckets.take("a") for _ in range(5)] == [0] * 5
    assert buckets.take("a") == pytest.approx(2)
    assert buckets.take("b") == 0  # another one's
    clock.now += 2
    assert [buckets.take("a") == 0 for _ in range(2)] == [True, False]
    clock.now += 100  # no more than full
    assert [buckets.take("a") == 0 for _ in range(6)] == [True] * 5 + [False]


def test_who_is_refused_waits_no_longer_for_asking_again() -> None:
    buckets = Buckets(Rate(1, 10), clock=Clock())
    assert buckets.take("a") == 0
    assert [buckets.take("a") for _ in range(3)] == [pytest.approx(10)] * 3


def test_in_the_long_run_the_rate_is_kept() -> None:
    clock = Clock()
    buckets = Buckets(Rate(60, 60), clock=clock)
    taken = 0
    for _ in range(3600):
        clock.now += 0.25
        taken += buckets.take("a") == 0
    assert taken == 900 + 59  # 15 minutes, and what the bucket held at first


def test_a_batch_is_answered_and_the_next_request_waits() -> None:
    clock = Clock()
    buckets = Buckets(Rate(10, 10), clock=clock)
    scope = {"expression.spend": [lambda images: buckets.spend("a", images)]}
    assert buckets.take("a") == 0
    spend(scope, 63)
    assert buckets.take("a") == pytest.approx(55)
    clock.now += 55
    assert buckets.take("a") == 0
    spend(scope, 0)
    spend(scope, -1)
    spend({}, 5)  # nobody counts
    clock.now += 1
    assert buckets.take("a") == 0


def test_memory_is_bounded_whatever_the_number_of_addresses() -> None:
    buckets = Buckets(Rate(1, 60), most=100, clock=Clock())
    for number in range(100_000):
        buckets.take(str(number))
    assert len(buckets) == 100
    assert buckets.take("99999") > 0  # the last ones are known
    assert buckets.take("0") == 0


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
    ],
)
def test_a_client_is_its_address_or_its_network(host: str, address: str) -> None:
    assert address_of({"client": (host, 5000)}) == address
