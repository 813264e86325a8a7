"""Training episodes become curves of their returns and lengths."""

import pytest

from covey_server.curves.training_episodes import TrainingEpisodes


def test_means_are_over_the_episodes_since_the_last_time() -> None:
    episodes = TrainingEpisodes()
    episodes.add(7, [1.0, 2.0], 10)
    episodes.add(7, [3.0, 4.0], 20)
    episodes.add(9, [5.0, 6.0], 60)
    (everyone, nobody), *members = episodes.take({7: 1}, ["speaker", "listener"])
    assert nobody is None
    assert everyone == pytest.approx(
        {
            "train/return": 7.0,
            "train/return/speaker": 3.0,
            "train/return/listener": 4.0,
            "train/episode_length": 30.0,
            "train/episodes": 3.0,
        }
    )
    assert members == [({"place_1/train_return": 5.0}, 7)], "of those that live"
    assert list(episodes.take({7: 1}, ["speaker", "listener"])) == []
