//! The table of error codes.

pub(crate) mod scripts;
