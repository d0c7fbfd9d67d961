"""The training benchmark: what it counts."""

from benchmarks.sequence_training import cost


def test_throughput_leaves_the_first_epoch_out() -> None:
    result = {"ends": [(100.0, 50.0), (102.0, 51.0), (104.0, 52.0)], "peak_rss_bytes": 7}
    assert cost(result, 10) == {
        "sequences_per_second": 5.0,
        "sequences_per_cpu_second": 10.0,
        "peak_rss_bytes": 7,
    }
