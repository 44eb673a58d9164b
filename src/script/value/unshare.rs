//! Copies that share nothing with what they were made from. Rhai keeps a captured variable in one cell for all who see it, also inside arrays, maps
//! and other closures; a copy has values in place of these cells.

use rhai::{Dynamic, FnPtr};

use super::{Kind, LEVELS_MAX, kind};
use crate::script::builtins::ending::refused;
use crate::script::current::{self, Throw};

/// Replaces every shared cell of a value that is the caller's own by a copy of what is in it.
pub(in crate::script) fn copy(mut value: Dynamic) -> Result<Dynamic, Throw> {
    unshare(&mut value, LEVELS_MAX)?;
    Ok(value)
}

/// The same for what a closure has captured.
pub(in crate::script) fn copy_function(mut function: FnPtr) -> Result<FnPtr, Throw> {
    unshare_captured(&mut function, LEVELS_MAX)?;
    Ok(function)
}

/// `levels`: how many may follow. A closure that holds itself has no end.
fn unshare(value: &mut Dynamic, levels: usize) -> Result<(), Throw> {
    if value.is_shared() {
        // One cell may be met many times, so what all the copies take is looked at between them; no lock is held then.
        current::check()?;
        *value = inside(value)?;
    }
    match kind(value) {
        Kind::Array => {
            let levels = one_less(levels)?;
            let Ok(mut array) = value.as_array_mut() else { return Ok(()) };
            array.iter_mut().try_for_each(|item| unshare(item, levels))
        }
        Kind::Map => {
            let levels = one_less(levels)?;
            let Ok(mut map) = value.as_map_mut() else { return Ok(()) };
            map.values_mut().try_for_each(|item| unshare(item, levels))
        }
        Kind::Function => match value.write_lock::<FnPtr>() {
            Some(mut function) => unshare_captured(&mut function, levels),
            None => Ok(()),
        },
        _ => Ok(()),
    }
}

fn unshare_captured(function: &mut FnPtr, levels: usize) -> Result<(), Throw> {
    if !function.is_curried() {
        return Ok(());
    }
    let levels = one_less(levels)?;
    function.iter_curry_mut().try_for_each(|captured| unshare(captured, levels))
}

/// A copy of what a cell holds. A cell never holds a cell.
fn inside(cell: &Dynamic) -> Result<Dynamic, Throw> {
    match cell.read_lock::<Dynamic>() {
        Some(value) => Ok(value.clone()),
        None => Err(refused(
            "`parallel` copies what its closures capture, and a call on one of these variables still uses it; copy it to a `let` first",
        )),
    }
}

fn one_less(levels: usize) -> Result<usize, Throw> {
    levels.checked_sub(1).ok_or_else(|| {
        refused(&format!(
            "`parallel` copies what its closures capture, and this is nested deeper than {LEVELS_MAX} levels, or a closure holds itself"
        ))
    })
}
