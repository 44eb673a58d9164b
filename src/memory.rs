//! The counting allocator: what a run holds.
