//! Which variable came from where.
