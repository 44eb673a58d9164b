//! Built-ins of Rhai that must give way.
