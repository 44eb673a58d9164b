//! Functions of strings that grow, split or copy. Rhai's own allocate many times what they are given before anyone looks, and its
//! `pad` with an empty string never ends. Each of these counts first.

use rhai::{Array, Blob, Dynamic, EvalAltResult, ImmutableString, Module, Position};

use super::arrays::ITEM_BYTES;
use super::ending::{Fallible, reserve};
use super::{set, set_mutating};
use crate::script::value::build;

/// What a script pays for one more string: the value, the counted box, the text that is too long to stand inside it.
const STRING_BYTES: usize = ITEM_BYTES + 48;
/// How much of a text an error repeats.
const SHOWN_MAX: usize = 64;

pub(super) fn register(module: &mut Module) {
    replacing(module);
    padding(module);
    splitting(module);
    with_blobs(module);
    changing_case(module);
    set(module, "parse_int", |text: &str| parse_int(text, 10));
    set(module, "parse_int", parse_int);
    set(module, "parse_float", parse_float);
}

fn replacing(module: &mut Module) {
    set_mutating(module, "replace", |text: &mut ImmutableString, find: &str, by: &str| {
        replace(text, find, by)
    });
    set_mutating(module, "replace", |text: &mut ImmutableString, find: &str, by: char| {
        replace(text, find, by.encode_utf8(&mut [0; 4]))
    });
    set_mutating(module, "replace", |text: &mut ImmutableString, find: char, by: &str| {
        replace(text, find.encode_utf8(&mut [0; 4]), by)
    });
    set_mutating(module, "replace", |text: &mut ImmutableString, find: char, by: char| {
        replace(text, find.encode_utf8(&mut [0; 4]), by.encode_utf8(&mut [0; 4]))
    });
}

/// In place, as Rhai has it.
fn replace(text: &mut ImmutableString, find: &str, by: &str) -> Fallible<()> {
    let count = text.matches(find).count();
    if count == 0 {
        return Ok(());
    }
    let kept = text.len() - count * find.len();
    let needed = kept.saturating_add(count.saturating_mul(by.len()));
    reserve(needed)?;
    let mut result = String::with_capacity(needed);
    let mut end = 0;
    for (start, found) in text.match_indices(find) {
        result.push_str(&text[end..start]);
        result.push_str(by);
        end = start + found.len();
    }
    result.push_str(&text[end..]);
    *text = result.into();
    Ok(())
}

fn padding(module: &mut Module) {
    set_mutating(module, "pad", |text: &mut ImmutableString, length: i64, by: char| {
        pad(text, length, by.encode_utf8(&mut [0; 4]))
    });
    set_mutating(module, "pad", |text: &mut ImmutableString, length: i64, by: &str| {
        pad(text, length, by)
    });
}

/// Repeats `by` behind the text until it has `length` characters.
fn pad(text: &mut ImmutableString, length: i64, by: &str) -> Fallible<()> {
    let length = usize::try_from(length).unwrap_or(0);
    let characters = by.chars().count();
    let missing = length.saturating_sub(text.chars().count());
    if missing == 0 || characters == 0 {
        return Ok(());
    }
    let rest = by.chars().take(missing % characters).map(char::len_utf8).sum::<usize>();
    let whole = missing / characters;
    let needed = whole.saturating_mul(by.len()).saturating_add(rest).saturating_add(text.len());
    reserve(needed)?;
    let mut result = String::with_capacity(needed);
    result.push_str(text);
    for _ in 0..whole {
        result.push_str(by);
    }
    result.push_str(&by[..rest]);
    *text = result.into();
    Ok(())
}

fn splitting(module: &mut Module) {
    set(module, "split", |text: ImmutableString| pieces(&text, || text.split_whitespace()));
    set(module, "split", |text: ImmutableString, by: &str| pieces(&text, || text.split(by)));
    set(module, "split", |text: ImmutableString, by: char| pieces(&text, || text.split(by)));
    set(module, "split_rev", |text: ImmutableString, by: &str| pieces(&text, || text.rsplit(by)));
    set(module, "split_rev", |text: ImmutableString, by: char| pieces(&text, || text.rsplit(by)));
    set(module, "split", |text: ImmutableString, by: &str, most: i64| {
        pieces(&text, || text.splitn(at_least_one(most), by))
    });
    set(module, "split", |text: ImmutableString, by: char, most: i64| {
        pieces(&text, || text.splitn(at_least_one(most), by))
    });
    set(module, "split_rev", |text: ImmutableString, by: &str, most: i64| {
        pieces(&text, || text.rsplitn(at_least_one(most), by))
    });
    set(module, "split_rev", |text: ImmutableString, by: char, most: i64| {
        pieces(&text, || text.rsplitn(at_least_one(most), by))
    });
    set(module, "to_chars", to_chars);
}

fn to_chars(text: &str) -> Fallible<Array> {
    reserve(text.chars().count().saturating_mul(ITEM_BYTES))?;
    Ok(text.chars().map(Dynamic::from).collect())
}

/// The pieces as an array; they are counted before they are made.
fn pieces<'a, I: Iterator<Item = &'a str>>(
    text: &ImmutableString,
    split: impl Fn() -> I,
) -> Fallible<Array> {
    let count = split().count();
    if text.is_empty() || count == 1 && split().next() == Some(text.as_str()) {
        return Ok(vec![text.clone().into()]);
    }
    reserve(count.saturating_mul(STRING_BYTES).saturating_add(text.len()))?;
    let mut array = Array::with_capacity(count);
    array.extend(split().map(|piece| Dynamic::from(ImmutableString::from(piece))));
    Ok(array)
}

fn at_least_one(most: i64) -> usize {
    usize::try_from(most.max(1)).unwrap_or(usize::MAX)
}

/// Bytes that are read as UTF-8 where a string meets a blob.
fn with_blobs(module: &mut Module) {
    set(module, "as_string", |blob: Blob| lossy("", &blob, ""));
    set(module, "+", |text: &str, blob: Blob| lossy(text, &blob, ""));
    set(module, "+", |blob: Blob, text: &str| lossy("", &blob, text));
    for name in ["+=", "append"] {
        set_mutating(module, name, |text: &mut ImmutableString, blob: Blob| {
            lossy(text, &blob, "").map(|longer| *text = longer)
        });
    }
}

/// What is not UTF-8 becomes `�`, which is three times as long.
fn lossy(before: &str, blob: &[u8], after: &str) -> Fallible<ImmutableString> {
    build(|buffer| {
        buffer.push_str(before)?;
        for chunk in blob.utf8_chunks() {
            buffer.push_str(chunk.valid())?;
            if !chunk.invalid().is_empty() {
                buffer.push(char::REPLACEMENT_CHARACTER)?;
            }
        }
        buffer.push_str(after)
    })
}

/// A few characters get longer when their case changes.
fn changing_case(module: &mut Module) {
    set(module, "to_upper", |text: ImmutableString| upper(&text));
    set(module, "to_lower", |text: ImmutableString| lower(&text));
    set_mutating(module, "make_upper", |text: &mut ImmutableString| {
        upper(text).map(|upper| *text = upper)
    });
    set_mutating(module, "make_lower", |text: &mut ImmutableString| {
        lower(text).map(|lower| *text = lower)
    });
}

fn upper(text: &ImmutableString) -> Fallible<ImmutableString> {
    let needed = text.chars().flat_map(char::to_uppercase).map(char::len_utf8).sum();
    reserve(needed)?;
    Ok(text.to_uppercase().into())
}

fn lower(text: &ImmutableString) -> Fallible<ImmutableString> {
    let needed = text.chars().flat_map(char::to_lowercase).map(char::len_utf8).sum();
    reserve(needed)?;
    Ok(text.to_lowercase().into())
}

fn parse_int(text: &str, radix: i64) -> Fallible<i64> {
    let Some(radix) = u32::try_from(radix).ok().filter(|radix| (2..=36).contains(radix)) else {
        return Err(arithmetic(format!("Invalid radix: '{radix}'")));
    };
    i64::from_str_radix(text.trim(), radix).map_err(|error| {
        arithmetic(format!("Error parsing integer number '{}': {error}", shown(text)))
    })
}

fn parse_float(text: &str) -> Fallible<f64> {
    text.trim().parse().map_err(|error| {
        arithmetic(format!("Error parsing floating-point number '{}': {error}", shown(text)))
    })
}

/// The start of a text, for an error: a script may give megabytes, and a `catch` copies the message again.
fn shown(text: &str) -> String {
    let mut start: String = text.chars().take(SHOWN_MAX).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    start
}

fn arithmetic(message: String) -> Box<EvalAltResult> {
    EvalAltResult::ErrorArithmetic(message, Position::NONE).into()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, run_with};

    const BUDGET: usize = 32 << 20;

    fn ends(script: &str) {
        assert_eq!(run_with(BUDGET, script), "ended: Memory", "{script}");
    }

    #[test]
    fn s15_a_replacement_that_cannot_fit_ends_the_run_before_it_allocates() {
        let large = "let s = \"a\"; s.pad(1048576, 'a'); let r = s; ";
        ends(&format!("{large} s.replace(\"a\", r)"));
        ends(&format!("{large} s.replace('a', r)"));
        ends(&format!("{large} s.replace(\"\", r)"));
        assert_eq!(
            run_with(BUDGET, &format!("{large} s.replace(\"a\", \"bb\"); s.len()")),
            "2097152"
        );
        check("let s = \"abcabc\"; s.replace(\"b\", \"--\"); s", "\"a--ca--c\"");
        check(
            "let s = \"abab\"; s.replace('a', 'x'); s.replace(\"b\", 'y'); s.replace('x', \"\"); s",
            "\"yy\"",
        );
        check("let s = \"aé\"; s.replace(\"\", \".\"); s", "\".a.é.\"");
        check("let s = \"a\"; s.replace(\"x\", \"y\"); s", "\"a\"");
    }

    #[test]
    fn s16_padding_a_string_ends_at_the_budget() {
        for pad in ["2000000000, 'x'", "2000000000, \"xy\"", "9223372036854775807, \"é\""] {
            ends(&format!("let s = \"a\"; s.pad({pad})"));
        }
        check("let s = \"a\"; s.pad(6, \"é-\"); s", "\"aé-é-é\"");
        check(
            "let s = \"abc\"; s.pad(2, '.'); s.pad(-1, '.'); s.pad(5, \"\"); s.pad(4, '.'); s",
            "\"abc.\"",
        );
    }

    #[test]
    fn s17_splitting_a_large_string_ends_at_the_budget() {
        let large = "let s = \",\"; s.pad(4000000, ','); ";
        for split in [
            "split(\"\")",
            "split(\",\")",
            "split(',')",
            "split(\",\", 3000000)",
            "split(',', 3000000)",
            "split_rev(\",\")",
            "split_rev(',')",
            "split_rev(\",\", 3000000)",
            "split_rev(',', 3000000)",
            "to_chars()",
        ] {
            ends(&format!("{large} s.{split}"));
        }
        ends("let s = \"\"; s.pad(4000000, \"a \"); s.split()");
        assert_eq!(run_with(BUDGET, &format!("{large} s.split(\",\", 2).len()")), "2");
    }

    #[test]
    fn strings_are_split_as_rhai_splits_them() {
        check("\"a,b,c\".split(\",\")", "[\"a\", \"b\", \"c\"]");
        check("\"a,b,c\".split(',', 2)", "[\"a\", \"b,c\"]");
        check("\"a,b,c\".split_rev(\",\")", "[\"c\", \"b\", \"a\"]");
        check("\"a,b,c\".split_rev(',', 2)", "[\"c\", \"a,b\"]");
        check("\" a  b \".split()", "[\"a\", \"b\"]");
        check(
            "[\"\".split(), \"\".split(\",\"), \"ab\".split(\"\"), \"ab\".split(\",\", 0)]",
            "[[\"\"], [\"\"], [\"\", \"a\", \"b\", \"\"], [\"ab\"]]",
        );
        check("\"aé\".to_chars()", "['a', 'é']");
        check("\"hello\".split(2)", "[\"he\", \"llo\"]");
    }

    #[test]
    fn bytes_that_are_no_text_are_counted_as_they_grow() {
        ends("let b = blob(12000000, 255); b.as_string()");
        ends("let b = blob(12000000, 255); \"a\" + b");
        check(
            "let b = blob(2, 255); b.push(65); let s = \"x\"; s += b; [b.as_string(), \"a\" + b, b + \"z\", s]",
            "[\"��A\", \"a��A\", \"��Az\", \"x��A\"]",
        );
        check("[\"straße\".to_upper(), \"ÀB\".to_lower()]", "[\"STRASSE\", \"àb\"]");
        check(
            "let s = \"aB\"; s.make_upper(); let t = \"aB\"; t.make_lower(); [s, t]",
            "[\"AB\", \"ab\"]",
        );
    }

    #[test]
    fn an_error_of_a_parser_repeats_only_the_start() {
        check(
            "[parse_int(\" 42 \"), parse_int(\"ff\", 16), parse_float(\"1.5\")]",
            "[42, 255, 1.5]",
        );
        check(
            "parse_int(\"x\")",
            "Error parsing integer number 'x': invalid digit found in string",
        );
        check("parse_int(\"1\", 1)", "Invalid radix: '1'");
        check(
            "let s = \"x\"; s.pad(1000, 'x'); try { parse_float(s) } catch (err) { return err.message.len() < 200 }",
            "true",
        );
    }
}
