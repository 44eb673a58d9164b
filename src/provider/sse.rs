//! Server-sent events as they come off the wire (WHATWG HTML, "9.2 Server-sent events"), whatever pieces the network makes of them.
//!
//! Promises: the same events for every way of cutting the bytes; at most 1 MiB is held of one event; a stream that ends in the middle of an event
//! says so, where the standard drops the half event without a word. What is not UTF-8 becomes U+FFFD, as the standard has it.

use std::collections::VecDeque;
use std::mem::take;

/// Bytes of one event. Real ones have a few hundred; a whole answer of a model in one event has less.
pub(super) const EVENT_BYTES_MAX: usize = 1 << 20;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// Its type; empty where the stream does not name one.
    pub(super) kind: String,
    /// Its lines, joined by line feeds.
    pub(super) data: String,
    /// The last id that the stream has named.
    pub(super) id: String,
    /// After how many milliseconds a client is to come again, where the event says so.
    pub(super) retry: Option<u64>,
}

/// Why no more events come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("an event of its stream has more than 1 MiB")]
    TooLong,
    #[error("its stream ended in the middle of an event")]
    Cut,
}

/// Takes bytes, gives events.
#[derive(Debug, Default)]
pub(super) struct Parser {
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The last byte was a carriage return, so that a line feed belongs to it.
    after_return: bool,
    /// Past where a byte order mark may stand.
    begun: bool,
    /// What the lines of the event have said so far.
    data: Vec<u8>,
    /// Lines of data, empty ones too.
    has_data: bool,
    kind: String,
    id: String,
    retry: Option<u64>,
    ready: VecDeque<Event>,
    too_long: bool,
}

impl Parser {
    /// The next bytes.
    pub(super) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        if self.too_long {
            return Err(Malformed::TooLong);
        }
        if self.after_return && !bytes.is_empty() {
            self.after_return = false;
            bytes = bytes.strip_prefix(b"\n").unwrap_or(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
            self.check(line.len())?;
            if self.line.is_empty() {
                self.end_of_line(line);
            } else {
                let mut whole = take(&mut self.line);
                whole.extend_from_slice(line);
                self.end_of_line(&whole);
            }
            bytes = match bytes[end] {
                b'\r' if rest.is_empty() => {
                    self.after_return = true;
                    rest
                }
                b'\r' => rest.strip_prefix(b"\n").unwrap_or(rest),
                _ => rest,
            };
        }
        self.check(bytes.len())?;
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// The next event that is whole.
    pub(super) fn next(&mut self) -> Option<Event> {
        self.ready.pop_front()
    }

    /// Nothing more comes.
    pub(super) fn end(&self) -> Result<(), Malformed> {
        let is_half = self.has_data || !self.line.is_empty() || !self.kind.is_empty();
        if is_half { Err(Malformed::Cut) } else { Ok(()) }
    }

    fn check(&mut self, more: usize) -> Result<(), Malformed> {
        self.too_long |= self.line.len() + self.data.len() + more > EVENT_BYTES_MAX;
        if self.too_long { Err(Malformed::TooLong) } else { Ok(()) }
    }

    fn end_of_line(&mut self, line: &[u8]) {
        let line = match line.strip_prefix(b"\xef\xbb\xbf") {
            Some(rest) if !self.begun => rest,
            _ => line,
        };
        self.begun = true;
        if line.is_empty() {
            return self.dispatch();
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (field, value) = match colon {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match field {
            b"data" => {
                if self.has_data {
                    self.data.push(b'\n');
                }
                self.has_data = true;
                self.data.extend_from_slice(value);
            }
            b"event" => self.kind = text(value),
            b"id" if !value.contains(&0) => self.id = text(value),
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                self.retry = text(value).parse().ok();
            }
            // A comment, or a field that the standard does not know.
            _ => {}
        }
    }

    /// An empty line: what has data is an event, what has none is forgotten.
    fn dispatch(&mut self) {
        let (kind, data, retry) = (take(&mut self.kind), take(&mut self.data), self.retry.take());
        if take(&mut self.has_data) {
            self.ready.push_back(Event { kind, data: text(&data), id: self.id.clone(), retry });
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn events(pieces: &[&[u8]]) -> (Vec<Event>, Result<(), Malformed>) {
        let mut parser = Parser::default();
        let fed = pieces.iter().try_for_each(|piece| parser.feed(piece));
        let ended = fed.and_then(|()| parser.end());
        (std::iter::from_fn(|| parser.next()).collect(), ended)
    }

    fn data(text: &str) -> Vec<String> {
        let (events, ended) = events(&[text.as_bytes()]);
        assert_eq!(ended, Ok(()), "{text:?}");
        events.into_iter().map(|event| event.data).collect()
    }

    #[test]
    fn v24_lines_end_as_they_like_and_fields_are_what_the_standard_says() {
        let check = |text: &str, expected: &[&str]| assert_eq!(data(text), expected, "{text:?}");
        check("data: a\n\ndata: b\n\n", &["a", "b"]);
        check("data: a\r\rdata: b\r\r", &["a", "b"]);
        check("data: a\r\n\r\ndata: b\r\n\r\n", &["a", "b"]);
        check("data: a\r\n\ndata: b\n\r\n", &["a", "b"]);
        check("\u{feff}data: a\n\n", &["a"]);
        check("data: \u{feff}\n\n\u{feff}data: b\n\n", &["\u{feff}"]);
        check(": hi\n:\n\ndata: a\n: still\n\n", &["a"]);
        check("data:a\n\ndata:  a\n\n", &["a", " a"]);
        check("data: a\ndata\ndata: b\n\n", &["a\n\nb"]);
        check("data\ndata\n\n", &["\n"]);
        check("data\n\ndata:\n\nevent: x\n\n", &["", ""]);
        check("data : a\nDATA: b\ndate: c\n\n", &[]);
        check("data: a:b\n\n", &["a:b"]);
        check("\n\n\n", &[]);
    }

    #[test]
    fn v24_kind_id_and_retry_are_read_and_an_id_stays() {
        let text = "event: x\nid: 1\nretry: 3000\ndata: a\n\ndata: b\nretry: 3s\n\nid: a\0b\ndata: c\n\nid\ndata: d\n\n";
        let (events, ended) = events(&[text.as_bytes()]);
        assert_eq!(ended, Ok(()));
        let told: Vec<_> =
            events.iter().map(|event| (&*event.kind, &*event.id, event.retry)).collect();
        assert_eq!(
            told,
            [("x", "1", Some(3000)), ("", "1", None), ("", "1", None), ("", "", None)]
        );
    }

    #[test]
    fn v25_an_event_of_more_than_1_mib_ends_the_stream_whatever_it_is_made_of() {
        let line = [b"data: ", &*vec![b'x'; 10 << 20], b"\n\n"].concat();
        let lines = "data: 0123456789\n".repeat(200_000);
        for bytes in [&line[..], lines.as_bytes()] {
            for piece in [1 << 10, 1 << 14, bytes.len()] {
                let pieces: Vec<_> = bytes.chunks(piece).collect();
                assert_eq!(events(&pieces), (Vec::new(), Err(Malformed::TooLong)));
            }
        }
        let many = "data: 0123456789\n\n".repeat(200_000);
        assert_eq!(events(&[many.as_bytes()]).0.len(), 200_000, "only one of them counts");
    }

    #[test]
    fn v25_an_end_in_the_middle_is_an_error_and_not_a_silent_end() {
        let cut =
            ["data: a\n", "data: a", "data", "event: x\n", ": hi", "data: \u{e4}\n\ndata: \u{e4}"];
        for text in cut {
            assert_eq!(events(&[text.as_bytes()]).1, Err(Malformed::Cut), "{text:?}");
        }
        let half = &"data: \u{e4}".as_bytes()[..7];
        assert_eq!(events(&[half]).1, Err(Malformed::Cut));
        for text in ["", "data: a\n\n", "id: 1\n", ": hi\n", "data: a\r\n\r"] {
            assert_eq!(events(&[text.as_bytes()]).1, Ok(()), "{text:?}");
        }
    }

    #[test]
    fn a_character_that_two_pieces_share_stays_whole() {
        let bytes = "data: \u{1f600}\n\n".as_bytes();
        for cut in 0..=bytes.len() {
            let (events, _) = events(&[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(events[0].data, "\u{1f600}");
        }
    }

    /// The standard's words, over the whole text at once.
    fn reference(text: &str) -> Vec<Event> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let text = text.replace("\r\n", "\n").replace('\r', "\n");
        let mut lines: Vec<&str> = text.split('\n').collect();
        // Behind the last line break stands no line that has ended.
        lines.pop();
        let (mut events, mut event, mut id) = (Vec::new(), Event::default(), String::new());
        for line in lines {
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "" if line.is_empty() => {
                    let mut done = take(&mut event);
                    if done.data.pop().is_some() {
                        events.push(Event { id: id.clone(), ..done });
                    }
                }
                "data" => event.data += &format!("{value}\n"),
                "event" => event.kind = value.to_owned(),
                "id" if !value.contains('\0') => id = value.to_owned(),
                "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                    event.retry = value.parse().ok();
                }
                _ => {}
            }
        }
        events
    }

    fn text() -> impl Strategy<Value = String> {
        let parts = "data|event|id|retry|:|: |:  |\n|\r|\r\n|\n\n|\r\n\r\n|a|12|\u{e4}|\u{1f600}|\u{feff}|\0|x: y";
        let part = prop::sample::select(parts.split('|').collect::<Vec<_>>());
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn v24_every_way_of_cutting_gives_what_the_standard_says_of_the_whole(
            text in text(),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(events(&pieces).0, reference(&text));
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
            _ = events(&pieces);
        }
    }
}
