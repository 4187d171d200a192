//! The synthetic set.
