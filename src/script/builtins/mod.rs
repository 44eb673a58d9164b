//! Built-ins of Rhai that must give way.

pub(crate) mod ending;
