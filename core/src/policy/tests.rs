//! Tests of policies and boards.
