//! An error with its place in a file: what rustc shows, as text for people and as JSON for tools. Everything that can point at a line
//! of config or of a script is told this way. It only draws; codes are explained in `catalogue/`. Whatever a source, a path or a
//! message holds, no control character of it reaches the terminal.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use annotate_snippets::{
    Annotation, AnnotationKind, Element, Group, Level, Message, Padding, Renderer, Snippet,
};
use serde_json::{Value, json};

/// One problem, ready to be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// Whether it stops something.
    pub(crate) severity: Severity,
    /// A page of the catalogue, such as `E0201`.
    pub(crate) code: &'static str,
    /// What happened, in a sentence without a full stop. Backticks for what can be typed.
    pub(crate) title: String,
    /// Where it is, if it is anywhere.
    pub(crate) place: Option<Place>,
    /// What it clashes with, where that is a place too.
    pub(crate) also: Vec<Place>,
    /// What to do about it: `help:` lines.
    pub(crate) help: Vec<String>,
    /// What else is true: `note:` lines, such as which version is still being served.
    pub(crate) notes: Vec<String>,
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Something does not go on.
    Error,
    /// Everything goes on.
    Warning,
}

/// Where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// As the reader would type it: `scripts/clerk.rhai`.
    pub(crate) path: String,
    /// The whole text of the file.
    pub(crate) source: Arc<str>,
    /// Bytes of the source that are at fault.
    pub(crate) span: Range<usize>,
    /// What to say under the marked bytes; may be empty.
    pub(crate) label: String,
}

impl Frame {
    /// Something that stops.
    pub(crate) fn error(code: &'static str, title: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, title.into())
    }

    /// Something that works but deserves a word.
    pub(crate) fn warning(code: &'static str, title: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, title.into())
    }

    fn new(severity: Severity, code: &'static str, title: String) -> Self {
        Self {
            severity,
            code,
            title,
            place: None,
            also: Vec::new(),
            help: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The same, pointing at a place.
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// The same with a second place, such as the first of two that clash.
    pub(crate) fn also(mut self, place: Place) -> Self {
        self.also.push(place);
        self
    }

    /// The same with one more `help:` line.
    pub(crate) fn help(mut self, line: impl Into<String>) -> Self {
        self.help.push(line.into());
        self
    }

    /// The same with one more `note:` line.
    pub(crate) fn note(mut self, line: impl Into<String>) -> Self {
        self.notes.push(line.into());
        self
    }

    /// As rustc would show it, with a line feed at the end.
    pub(crate) fn render(&self, colour: bool) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(visible(&self.title)).id(self.code));
        group = group.elements(self.snippets());
        if self.place.is_some() {
            group = group.element(Padding);
        }
        let docs = format!("rhaiway docs {}", self.code);
        let lines = (self.help.iter().map(|line| (Level::HELP, line.as_str())))
            .chain(self.notes.iter().map(|line| (Level::NOTE, line.as_str())))
            .chain([(Level::NOTE.with_name("docs"), docs.as_str())]);
        group = group.elements(lines.map(|(level, line)| message(level, line)));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let mut text = renderer.term_width(WIDTH).render(&[group]);
        text.push('\n');
        text
    }

    /// For tools: places count from 1, columns in characters, and an end is the first column that is no longer meant.
    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "code": self.code,
            "title": self.title,
            "path": null, "line": null, "column": null, "end_line": null, "end_column": null, "label": null,
            "help": self.help,
            "notes": self.notes,
            "also": self.also.iter().map(Place::to_json).collect::<Vec<_>>(),
        });
        if let (Some(place), Some(object)) = (&self.place, value.as_object_mut())
            && let Value::Object(fields) = place.to_json()
        {
            object.extend(fields);
        }
        value
    }

    /// One snippet for each file, the first place's file first; the second place is drawn in the same snippet where it can be.
    fn snippets(&self) -> Vec<Element<'_>> {
        let mut groups: Vec<Vec<(AnnotationKind, &Place)>> = Vec::new();
        let places = (self.place.iter().map(|place| (AnnotationKind::Primary, place)))
            .chain(self.also.iter().map(|place| (AnnotationKind::Context, place)));
        for (kind, place) in places {
            let same = |group: &&mut Vec<(AnnotationKind, &Place)>| {
                group.first().is_some_and(|(_, first)| {
                    first.path == place.path && Arc::ptr_eq(&first.source, &place.source)
                })
            };
            match groups.iter_mut().find(same) {
                Some(group) => group.push((kind, place)),
                None => groups.push(vec![(kind, place)]),
            }
        }
        groups.iter().filter_map(|group| snippet(group)).collect()
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.render(false))
    }
}

impl Place {
    /// Line and column of its first character, from 1.
    pub(crate) fn line_column(&self) -> (usize, usize) {
        line_column(&self.source, self.span.start)
    }

    fn to_json(&self) -> Value {
        let (line, column) = self.line_column();
        let (end_line, end_column) = line_column(&self.source, self.span.end.max(self.span.start));
        json!({
            "path": self.path, "line": line, "column": column,
            "end_line": end_line, "end_column": end_column, "label": self.label,
        })
    }
}

/// `config.toml:12:5`, as editors and terminals understand it.
impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(formatter, "{}:{line}:{column}", self.path)
    }
}

/// Line and column of a byte, both from 1; columns count characters. An offset inside a character means that character, one past
/// the end means the end.
pub(crate) fn line_column(source: &str, offset: usize) -> (usize, usize) {
    let before = &source[..source.floor_char_boundary(offset)];
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.bytes().filter(|byte| *byte == b'\n').count() + 1, before[start..].chars().count() + 1)
}

/// The known word that a misspelt one is nearest to, if any is near: one letter in three may be wrong.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Longer words are no slips of a finger, and comparing takes their length squared.
    const CHARACTERS_MAX: usize = 64;
    if word.chars().count() > CHARACTERS_MAX {
        return None;
    }
    let word = word.to_lowercase();
    let near = known.into_iter().filter_map(|known| {
        let lower = known.to_lowercase();
        let distance = strsim::damerau_levenshtein(&word, &lower);
        let part = word.len() >= 2 && (lower.starts_with(&word) || word.starts_with(&lower));
        (part || distance <= (lower.chars().count() / 3).max(1)).then_some((!part, distance, known))
    });
    near.min_by_key(|(far, distance, _)| (*far, *distance)).map(|(.., known)| known)
}

/// Columns of the whole frame.
const WIDTH: usize = 100;

/// The marked lines of one file and what is next to them. Of what lies between, empty lines are handed over, which are folded away.
fn snippet<'a>(places: &[(AnnotationKind, &'a Place)]) -> Option<Element<'a>> {
    let lines: Vec<usize> = places.iter().map(|(_, place)| place.line_column().0).collect();
    let (first_line, last_line) = (*lines.iter().min()?, *lines.iter().max()?);

    let mut text = String::new();
    let mut annotations: Vec<Annotation<'a>> = Vec::new();
    let (_, first) = places.first()?;
    for (number, line) in
        (first_line..=last_line).zip(first.source.split('\n').skip(first_line - 1))
    {
        let start = text.len();
        // The renderer shows a gap of one line rather than fold it.
        if lines.iter().any(|marked| marked.abs_diff(number) <= 1) {
            text.extend(line.strip_suffix('\r').unwrap_or(line).chars().map(visible_char));
        }
        for ((kind, place), _) in places.iter().zip(&lines).filter(|(_, line)| **line == number) {
            let span = characters(place, &line_of(place));
            let byte = |index: usize| {
                let line = &text[start..];
                start + line.char_indices().nth(index).map_or(line.len(), |(byte, _)| byte)
            };
            let mut annotation = kind.span(byte(span.start)..byte(span.end));
            if !place.label.is_empty() {
                annotation = annotation.label(visible(&place.label));
            }
            annotations.push(annotation);
        }
        text.push('\n');
    }
    let snippet = Snippet::source(text).line_start(first_line).path(visible(&first.path));
    Some(snippet.annotations(annotations).into())
}

/// The bytes of the line in which a place begins, without its line feed.
fn line_of(place: &Place) -> Range<usize> {
    let offset = place.source.floor_char_boundary(place.span.start);
    let start = place.source[..offset].rfind('\n').map_or(0, |newline| newline + 1);
    let end = place.source[offset..].find('\n').map_or(place.source.len(), |found| offset + found);
    let end = if place.source[start..end].ends_with('\r') { end - 1 } else { end };
    start..end
}

/// A place's span in characters of its first line; what goes on below is left out.
fn characters(place: &Place, line: &Range<usize>) -> Range<usize> {
    let index = |offset: usize| {
        let offset = place.source.floor_char_boundary(offset).clamp(line.start, line.end);
        place.source[line.start..offset].chars().count()
    };
    let start = index(place.span.start);
    start..index(place.span.end).max(start)
}

/// A `help:` or `note:` line. Its own line feeds stay: the renderer indents what follows them.
fn message<'a>(level: Level<'a>, line: &str) -> Message<'a> {
    let lines: Vec<Cow<'_, str>> = line.lines().map(visible).collect();
    level.message(lines.join("\n"))
}

/// Text in which nothing can move a cursor, change a colour or turn the writing round.
fn visible(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| c != '\t' && visible_char(c) == c) {
        return Cow::Borrowed(text);
    }
    text.chars().map(|c| if c == '\t' { ' ' } else { visible_char(c) }).collect::<String>().into()
}

/// One character for one, so that columns stay right. A tab stays a tab: the renderer widens it.
fn visible_char(character: char) -> char {
    match character {
        '\t' => '\t',
        // Each has its picture, in the same order, from U+2400 on.
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(character)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        '\u{80}'..='\u{9f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => '\u{fffd}',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(source: &str, marked: &str, label: &str) -> Place {
        let start = source.find(marked).unwrap();
        Place {
            path: "scripts/pay.rhai".to_owned(),
            source: source.into(),
            span: start..start + marked.len(),
            label: label.to_owned(),
        }
    }

    const PAY: &str = "// Charges.\nfn pay(total) {\n    let charge = stripe.payment_intents.creat(#{ amount: total });\n}\n";

    #[test]
    fn a_frame_shows_the_line_the_hint_and_where_to_read_on() {
        let frame = Frame::error("E0201", "`stripe.payment_intents` has no operation `creat`")
            .at(place(PAY, "creat", "did you mean `create`?"))
            .help("stripe.payment_intents.create(params: map, [options: map]) -> map")
            .note("not reloaded; still serving revision 7");
        insta::assert_snapshot!(frame.render(false), @r"
        error[E0201]: `stripe.payment_intents` has no operation `creat`
         --> scripts/pay.rhai:3:41
          |
        3 |     let charge = stripe.payment_intents.creat(#{ amount: total });
          |                                         ^^^^^ did you mean `create`?
          |
          = help: stripe.payment_intents.create(params: map, [options: map]) -> map
          = note: not reloaded; still serving revision 7
          = docs: rhaiway docs E0201
        ");
    }

    #[test]
    fn a_frame_without_a_place_has_no_source_line() {
        let frame =
            Frame::warning("E0110", "`CLERK_WEBHOOK_SECRET` is not set").help("set it in `.env`");
        insta::assert_snapshot!(frame.render(false), @r"
        warning[E0110]: `CLERK_WEBHOOK_SECRET` is not set
         |
         = help: set it in `.env`
         = docs: rhaiway docs E0110
        ");
    }

    #[test]
    fn o10_two_places_of_one_file_stand_in_one_snippet() {
        let source: Arc<str> =
            format!("path = \"/a\"\n{}path = \"/b\"\n", "x = 1\n".repeat(40)).into();
        let mut first = place(&source, "\"/a\"", "here");
        let mut second = place(&source, "\"/b\"", "and here");
        first.source = Arc::clone(&source);
        second.source = source;
        insta::assert_snapshot!(Frame::error("E0107", "both").at(second).also(first).render(false), @r#"
        error[E0107]: both
          --> scripts/pay.rhai:42:8
           |
         1 | path = "/a"
           |        ---- here
        ...
        42 | path = "/b"
           |        ^^^^ and here
           |
           = docs: rhaiway docs E0107
        "#);
    }

    #[test]
    fn o10_two_places_of_two_files_stand_in_two_snippets() {
        let frame = Frame::error("E0107", "both").at(place("a b", "a", "here")).also(Place {
            path: "scripts/other.rhai".to_owned(),
            ..place("x\ny\n", "y", "and here")
        });
        insta::assert_snapshot!(frame.render(false), @r"
        error[E0107]: both
         --> scripts/pay.rhai:1:1
          |
        1 | a b
          | ^ here
          |
         ::: scripts/other.rhai:2:1
          |
        2 | y
          | - and here
          |
          = docs: rhaiway docs E0107
        ");
    }

    #[test]
    fn a_long_line_is_cut_around_the_mark() {
        let source = format!("let a = \"{}\"; oops {}", "x".repeat(300), "y".repeat(300));
        let frame = Frame::error("E0201", "long").at(place(&source, "oops", "here"));
        insta::assert_snapshot!(frame.render(false), @r#"
        error[E0201]: long
         --> scripts/pay.rhai:1:313
          |
        1 | ...xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"; oops yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy...
          |                                            ^^^^ here
          |
          = docs: rhaiway docs E0201
        "#);
        assert_eq!(frame.to_json()["column"], 313);
    }

    #[test]
    fn tabs_wide_characters_and_crlf_keep_the_mark_under_its_text() {
        let frame = Frame::error("E0201", "odd").at(place(
            "ok\r\n\tname = \"日本\" bad\r\n",
            "bad",
            "here",
        ));
        insta::assert_snapshot!(frame.render(false), @r#"
        error[E0201]: odd
         --> scripts/pay.rhai:2:14
          |
        2 |     name = "日本" bad
          |                   ^^^ here
          |
          = docs: rhaiway docs E0201
        "#);
        assert_eq!(
            (frame.to_json()["line"].clone(), frame.to_json()["column"].clone()),
            (2.into(), 14.into())
        );
    }

    #[test]
    fn json_counts_in_characters_from_one() {
        let frame = Frame::error("E0201", "t").at(place("é = ü\nx", "ü", "l")).help("h").note("n");
        insta::assert_snapshot!(frame.to_json().to_string(), @r#"{"also":[],"code":"E0201","column":5,"end_column":6,"end_line":1,"help":["h"],"label":"l","line":1,"notes":["n"],"path":"scripts/pay.rhai","severity":"error","title":"t"}"#);
        insta::assert_snapshot!(Frame::error("E0201", "t").to_json().to_string(), @r#"{"also":[],"code":"E0201","column":null,"end_column":null,"end_line":null,"help":[],"label":null,"line":null,"notes":[],"path":null,"severity":"error","title":"t"}"#);
    }

    #[test]
    fn colour_is_the_callers_choice() {
        let frame = Frame::error("E0201", "t").at(place(PAY, "creat", "l"));
        assert!(frame.render(true).contains('\x1b'));
        assert!(!frame.render(false).contains('\x1b'));
    }

    #[test]
    fn nothing_that_others_wrote_controls_the_terminal() {
        let evil = "\x1b[2J\x07\u{9b}31m\u{202e}\r\x08";
        let mut evil_place = place(&format!("a {evil} b\n"), evil, evil);
        evil_place.path = format!("scripts/{evil}\n.rhai");
        let frame =
            Frame::error("E0201", evil).at(evil_place).help(evil).note(format!("{evil}\n{evil}"));
        let text = frame.render(false);
        assert!(
            text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}')),
            "{text:?}"
        );
    }

    #[test]
    fn a_slip_of_the_finger_is_told_from_another_word() {
        for (word, expected) in [
            ("lisen", Some("listen")),
            ("Listen", Some("listen")),
            ("max-body", Some("max_body")),
            ("wrokers", Some("workers")),
            ("work", Some("workers")),
            ("banana", None),
            ("", None),
        ] {
            assert_eq!(nearest(word, ["listen", "workers", "max_body"]), expected, "{word}");
        }
        assert_eq!(nearest(&"x".repeat(1 << 20), ["listen"]), None);
    }

    #[test]
    fn an_offset_outside_a_text_means_its_end() {
        assert_eq!(line_column("", 0), (1, 1));
        assert_eq!(line_column("a\n", 9), (2, 1));
        assert_eq!(line_column("é", 1), (1, 1));
        assert_eq!(line_column("é", 2), (1, 2));
    }

    proptest! {
        #[test]
        fn any_source_and_any_span_can_be_drawn(
            source in "(?s)(.{0,300}|[ -~]{300,900})", start in 0..900_usize, length in 0..900_usize, other in 0..900_usize,
        ) {
            let source: Arc<str> = source.into();
            let place = |start: usize, end: usize| Place {
                path: "x".to_owned(), source: Arc::clone(&source), span: start..end, label: "l".to_owned(),
            };
            let frame = Frame::error("E0201", "t").at(place(start, start + length)).also(place(other, start));
            let text = frame.render(false);
            prop_assert!(text.contains("rhaiway docs E0201"));
            prop_assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
            prop_assert!(frame.to_json()["line"].as_u64().unwrap() >= 1);
        }
    }
}
