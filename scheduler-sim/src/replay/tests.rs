//! Replays of logs that boards of this test have kept.
