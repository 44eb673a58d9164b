//! As written to as meant: all validation.
