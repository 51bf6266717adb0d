//! A private server per test, and the facts and rollups that tests speak of.
