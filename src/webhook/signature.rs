//! HMAC over bytes, constant-time compare.
