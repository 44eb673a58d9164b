//! The commands.

mod send;
