//! What check warns of.
