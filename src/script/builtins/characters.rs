//! Characters of a string by position. Rhai's own collect every character into four bytes to find some of them; these walk the text
//! where it stands.

use std::any::TypeId;
use std::ops::{Range, RangeInclusive};

use rhai::{Dynamic, ImmutableString, Module};

use super::{index_of, set, set_getter, set_mutating};

pub(super) fn register(module: &mut Module) {
    iterating(module);
    cutting(module);
    set(module, "index_of", |text: &str, find: char, start: i64| {
        position(text, start, |rest| rest.find(find))
    });
    set(module, "index_of", |text: &str, find: &str, start: i64| {
        position(text, start, |rest| rest.find(find))
    });
    set_mutating(module, "pop", |text: &mut ImmutableString, count: i64| {
        let count = usize::try_from(count).unwrap_or(0);
        let at = count.checked_sub(1).map_or(text.len(), |last| {
            text.char_indices().rev().nth(last).map_or(0, |(index, _)| index)
        });
        let popped = ImmutableString::from(&text[at..]);
        *text = text[..at].into();
        popped
    });
}

fn iterating(module: &mut Module) {
    module.set_iterator::<Characters>();
    module.set_iter(TypeId::of::<ImmutableString>(), |text| {
        Box::new(Characters::of(text.cast(), 0, i64::MAX).map(Dynamic::from))
    });
    set(module, "chars", |text: ImmutableString| Characters::of(text, 0, i64::MAX));
    set_getter(module, "chars", |text: ImmutableString| Characters::of(text, 0, i64::MAX));
    set(module, "chars", |text: ImmutableString, start: i64| Characters::of(text, start, i64::MAX));
    set(module, "chars", Characters::of);
    set(module, "chars", |text: ImmutableString, range: Range<i64>| {
        let (start, length) = exclusive(&range);
        Characters::of(text, start, length)
    });
    set(module, "chars", |text: ImmutableString, range: RangeInclusive<i64>| {
        let (start, length) = inclusive(&range);
        Characters::of(text, start, length)
    });
}

/// `sub_string` gives a part, `crop` keeps only that part.
fn cutting(module: &mut Module) {
    set(module, "sub_string", |text: &str, start: i64| part(text, start, i64::MAX));
    set(module, "sub_string", |text: &str, start: i64, length: i64| part(text, start, length));
    set(module, "sub_string", |text: &str, range: Range<i64>| {
        let (start, length) = exclusive(&range);
        part(text, start, length)
    });
    set(module, "sub_string", |text: &str, range: RangeInclusive<i64>| {
        let (start, length) = inclusive(&range);
        part(text, start, length)
    });
    set_mutating(module, "crop", |text: &mut ImmutableString, start: i64| {
        *text = part(text, start, i64::MAX);
    });
    set_mutating(module, "crop", |text: &mut ImmutableString, start: i64, length: i64| {
        *text = part(text, start, length);
    });
    set_mutating(module, "crop", |text: &mut ImmutableString, range: Range<i64>| {
        let (start, length) = exclusive(&range);
        *text = part(text, start, length);
    });
    set_mutating(module, "crop", |text: &mut ImmutableString, range: RangeInclusive<i64>| {
        let (start, length) = inclusive(&range);
        *text = part(text, start, length);
    });
}

/// The characters of a string one after the other, without a copy.
#[derive(Clone, Debug)]
struct Characters {
    text: ImmutableString,
    next: usize,
    end: usize,
}

impl Characters {
    fn of(text: ImmutableString, start: i64, length: i64) -> Self {
        let Range { start, end } = bytes(&text, start, length);
        Self { text, next: start, end }
    }
}

impl Iterator for Characters {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        let character = self.text[self.next..self.end].chars().next()?;
        self.next += character.len_utf8();
        Some(character)
    }
}

fn part(text: &str, start: i64, length: i64) -> ImmutableString {
    text[bytes(text, start, length)].into()
}

/// Where `length` characters from `start` on stand; a negative start counts from the end. What lies outside is left out.
fn bytes(text: &str, start: i64, length: i64) -> Range<usize> {
    let length = usize::try_from(length).unwrap_or(0);
    let start = byte_of(text, start);
    let end = text[start..].char_indices().nth(length).map_or(text.len(), |(at, _)| start + at);
    start..end
}

/// Where the character at `start` begins.
fn byte_of(text: &str, start: i64) -> usize {
    let count = usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX);
    if start >= 0 {
        text.char_indices().nth(count).map_or(text.len(), |(at, _)| at)
    } else {
        text.char_indices().rev().nth(count - 1).map_or(0, |(at, _)| at)
    }
}

/// Where something is found from the character `start` on, in characters; -1 for nowhere.
fn position(text: &str, start: i64, find: impl Fn(&str) -> Option<usize>) -> i64 {
    let from = byte_of(text, start);
    // Not even an empty text is found behind the end.
    if from == text.len() {
        return -1;
    }
    index_of(find(&text[from..]).map(|at| text[..from + at].chars().count()))
}

fn exclusive(range: &Range<i64>) -> (i64, i64) {
    let start = range.start.max(0);
    (start, range.end.saturating_sub(start))
}

fn inclusive(range: &RangeInclusive<i64>) -> (i64, i64) {
    let start = (*range.start()).max(0);
    (start, range.end().saturating_sub(start).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, engine};

    #[test]
    fn characters_are_walked_cut_and_found_by_position() {
        check("let a = []; for c in \"aé\" { a.push(c); } a", "['a', 'é']");
        check(
            "let a = []; for c in \"abcd\".chars(1, 2) { a.push(c); } for c in \"abcd\".chars(-1) { a.push(c); } a",
            "['b', 'c', 'd']",
        );
        check(
            "let a = []; for c in \"abcd\".chars(1..=2) { a.push(c); } for c in \"abcd\".chars(3..9) { a.push(c); } a",
            "['b', 'c', 'd']",
        );
        check(
            "[\"aébc\".sub_string(1, 2), \"abc\".sub_string(-2), \"abc\".sub_string(5), \"abc\".sub_string(1..2), \"abc\".sub_string(1..=1)]",
            "[\"éb\", \"bc\", \"\", \"b\", \"b\"]",
        );
        check("let s = \"abcdef\"; s.crop(1, 4); s.crop(1..=2); s", "\"cd\"");
        check(
            "[\"abcb\".index_of('b', 2), \"abcb\".index_of(\"b\", -1), \"abc\".index_of('b', 5), \"\".index_of(\"\", 0), \"éb\".index_of(\"b\", 1)]",
            "[3, 3, -1, -1, 1]",
        );
        check(
            "let s = \"abé\"; [s.pop(2), s, s.pop(9), s, s.pop(1)]",
            "[\"bé\", \"a\", \"a\", \"\", \"\"]",
        );
        check("let s = \"ab\"; [s.pop(), s.pop(0), s.pop(-1), s]", "['b', \"\", \"\", \"a\"]");
    }

    #[test]
    fn every_position_is_taken_without_a_panic() {
        let engine = engine();
        let edges = [i64::MIN, i64::MIN + 1, -3, -1, 0, 1, 2, 3, i64::MAX - 1, i64::MAX];
        for start in edges {
            for length in edges {
                let call = format!(
                    "let s = \"aéb\"; let x = {start}; let y = {length}; [s.sub_string(x, y), s.sub_string(x..y), s.sub_string(x..=y), s.index_of('é', x), s.pop(x), s.chars(x, y)]; s.crop(x, y); s.crop(x..=y); s.pad(-x / 2 - 1 & 7, 'x'); let a = [1, 2]; a.get(x); a.index_of(1, x); a.find(|v| v == 2, y); s.split(\"é\", x)"
                );
                engine.eval::<rhai::Dynamic>(&call).map(|_| ()).unwrap_or_else(|error| {
                    assert!(error.to_string().contains("overflow"), "{call}: {error}");
                });
            }
        }
    }
}
