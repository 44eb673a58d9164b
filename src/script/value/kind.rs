//! What kind of value something is: one question instead of one for each type.

use std::any::TypeId;
use std::ops::{Range, RangeInclusive};

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map};

/// What a value is, for everything that treats each kind in its own way. Never call it on a shared value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::script) enum Kind {
    Unit,
    Bool,
    Int,
    Float,
    Char,
    Text,
    Array,
    Map,
    Blob,
    Function,
    Timestamp,
    Range,
    RangeInclusive,
    /// A captured variable: look inside with `read_lock::<Dynamic>`, which gives `None` while it is in use.
    Shared,
    Other,
}

impl Kind {
    /// How messages name it.
    pub(in crate::script) const fn words(self) -> &'static str {
        match self {
            Self::Unit => "()",
            Self::Bool => "a bool",
            Self::Int => "an integer",
            Self::Float => "a float",
            Self::Char => "a character",
            Self::Text => "a string",
            Self::Array => "an array",
            Self::Map => "a map",
            Self::Blob => "a blob",
            Self::Function => "a function",
            Self::Timestamp => "a timestamp",
            Self::Range | Self::RangeInclusive => "a range",
            Self::Shared => "a variable in use",
            Self::Other => "a value of another type",
        }
    }
}

/// Asks for the type once. Rhai's own `type_id` panics on a shared value that is in use, so those are told apart first.
pub(in crate::script) fn kind(value: &Dynamic) -> Kind {
    if value.is_shared() {
        return Kind::Shared;
    }
    let id = value.type_id();
    if id == TypeId::of::<ImmutableString>() {
        Kind::Text
    } else if id == TypeId::of::<Map>() {
        Kind::Map
    } else if id == TypeId::of::<i64>() {
        Kind::Int
    } else if id == TypeId::of::<Array>() {
        Kind::Array
    } else if id == TypeId::of::<()>() {
        Kind::Unit
    } else if id == TypeId::of::<bool>() {
        Kind::Bool
    } else if id == TypeId::of::<f64>() {
        Kind::Float
    } else if id == TypeId::of::<char>() {
        Kind::Char
    } else if id == TypeId::of::<Blob>() {
        Kind::Blob
    } else if id == TypeId::of::<FnPtr>() {
        Kind::Function
    } else if id == TypeId::of::<Range<i64>>() {
        Kind::Range
    } else if id == TypeId::of::<RangeInclusive<i64>>() {
        Kind::RangeInclusive
    } else if id == TypeId::of::<rhai::Instant>() {
        Kind::Timestamp
    } else {
        Kind::Other
    }
}
