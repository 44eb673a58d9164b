//! `print`, `debug`, `to_string` and `to_debug` of all that has parts or may be long: bounded, and never an error, for an error in
//! these is swallowed by Rhai, which then prints without bounds.

use rhai::{Array, Blob, Dynamic, FnPtr, ImmutableString, Map, Module};

use super::{lend, set};
use crate::script::value::{to_debug_text, to_text};

pub(super) fn register(module: &mut Module) {
    for name in ["print", "to_string", "debug", "to_debug"] {
        set(module, name, |array: &mut Array| lend(array, text));
        set(module, name, |map: &mut Map| lend(map, text));
        set(module, name, |blob: &mut Blob| lend(blob, text));
        set(module, name, |function: FnPtr| text(&function.into()));
    }
    for name in ["debug", "to_debug"] {
        set(module, name, |string: ImmutableString| {
            ImmutableString::from(to_debug_text(&string.into()))
        });
    }
}

fn text(value: &Dynamic) -> ImmutableString {
    to_text(value).into()
}
