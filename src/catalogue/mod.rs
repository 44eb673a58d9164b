//! The table of error codes.
