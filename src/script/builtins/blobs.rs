//! Functions of blobs that grow: they ask for room first.

use rhai::{Array, Blob, Module};

use super::arrays::ITEM_BYTES;
use super::ending::{Fallible, reserve};
use super::{set, set_mutating};

pub(super) fn register(module: &mut Module) {
    set(module, "blob", |length: i64| filled(length, 0));
    set(module, "blob", filled);
    set_mutating(module, "pad", pad);
    set(module, "to_array", to_array);
}

fn to_array(blob: &mut Blob) -> Fallible<Array> {
    reserve(blob.len().saturating_mul(ITEM_BYTES))?;
    Ok(blob.iter().map(|byte| i64::from(*byte).into()).collect())
}

fn filled(length: i64, value: i64) -> Fallible<Blob> {
    let length = usize::try_from(length).unwrap_or(0);
    reserve(length)?;
    Ok(vec![low_byte(value); length])
}

fn pad(blob: &mut Blob, length: i64, value: i64) -> Fallible<()> {
    let length = usize::try_from(length).unwrap_or(0);
    if length > blob.len() {
        // Growing may copy, so that both are held at once.
        reserve(length)?;
        blob.reserve_exact(length - blob.len());
        blob.resize(length, low_byte(value));
    }
    Ok(())
}

fn low_byte(value: i64) -> u8 {
    value.to_le_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, run_with};

    #[test]
    fn s16_s17_blobs_end_at_the_budget() {
        for script in [
            "blob(2000000000)",
            "blob(9223372036854775807, 1)",
            "let b = blob(); b.pad(2000000000, 1)",
            "let b = blob(16000000); b.to_array()",
        ] {
            assert_eq!(run_with(32 << 20, script), "ended: Memory", "{script}");
        }
        check(
            "let b = blob(2, 511); b.pad(4, 1); b.pad(1, 9); [b, b.to_array(), blob(-1).len()]",
            "[[ffff0101], [255, 255, 1, 1], 0]",
        );
    }
}
