//! Reads `multipart/form-data` chunk by chunk, wherever the chunks are cut. It keeps where the parts are and what they are called, never what is in
//! them; between two chunks it holds the beginning of a line or of a head.

use memchr::memmem::Finder;

use super::Part;
use super::disposition::{self, Head};

/// Parts of one body: as many as fields of a form (`webhook/request`).
const PARTS_MAX: usize = 10_000;
/// Bytes of the head of a part: two names and a content type have room.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Blanks behind a boundary, which some mail programs once added.
const PADDING_BYTES_MAX: usize = 64;

/// Why a body is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Broken {
    /// The content type names none.
    #[error("the content type of a multipart form must name its boundary")]
    NoBoundary,
    /// Or it is cut off.
    #[error("the form ends before its last boundary")]
    Truncated,
    /// Something else stands there.
    #[error("a line break must follow a boundary")]
    Boundary,
    /// A line of it is no header.
    #[error("the head of a part has a line that is no header")]
    Head,
    /// `HEAD_BYTES_MAX`.
    #[error("the head of a part has more than 8KiB")]
    HeadTooLong,
    /// Of a field, or a content type.
    #[error("the name of a field has more than 1KiB, or a content type more than 255 bytes")]
    NameTooLong,
    /// No `form-data` or no `name`.
    #[error("a part has no `Content-Disposition: form-data` with a name")]
    Unnamed,
    /// With base64 and the like, which no client sends any more.
    #[error("a part with a Content-Transfer-Encoding is not read")]
    Encoded,
    /// `PARTS_MAX`.
    #[error("a form has 10,000 parts at most")]
    TooManyParts,
}

/// The state between two chunks.
pub(crate) struct Reader {
    /// A line break, two hyphens and the boundary.
    delimiter: Finder<'static>,
    state: State,
    /// What is not understood yet.
    held: Vec<u8>,
    /// Where in the body `held` begins.
    position: u64,
    parts: Vec<Part>,
}

enum State {
    /// Nothing has been read; the first boundary needs no line break before it.
    Start,
    /// What stands before the first boundary is nobody's.
    Preamble,
    /// Right behind a boundary.
    Behind,
    Head,
    /// In the bytes of a part, which began there.
    Part(Head, u64),
    /// Behind the last boundary, nothing counts.
    End,
}

/// How far a step came.
enum Step {
    /// So many bytes are understood.
    Taken(usize, State),
    /// So many bytes are understood, and then more are needed.
    Needs(usize, State),
}

impl Reader {
    /// For a body whose content type names this boundary.
    pub(crate) fn new(boundary: &str) -> Self {
        Self {
            delimiter: Finder::new(&format!("\r\n--{boundary}")).into_owned(),
            state: State::Start,
            held: Vec::new(),
            position: 0,
            parts: Vec::new(),
        }
    }

    /// All of a body that is there.
    pub(crate) fn read(boundary: &str, body: &[u8]) -> Result<Vec<Part>, Broken> {
        let mut reader = Self::new(boundary);
        reader.push(body)?;
        reader.finish()
    }

    /// The next bytes of the body. After an error there is nothing more to be had.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if self.held.is_empty() {
            let taken = self.take(bytes)?;
            self.held.extend_from_slice(&bytes[taken..]);
            return Ok(());
        }
        let mut held = std::mem::take(&mut self.held);
        held.extend_from_slice(bytes);
        let taken = self.take(&held)?;
        held.drain(..taken);
        self.held = held;
        Ok(())
    }

    /// The parts, in their order, when the body is at its end. A file that nobody chose (no name, no bytes) is none.
    pub(crate) fn finish(mut self) -> Result<Vec<Part>, Broken> {
        if !matches!(self.state, State::End) {
            return Err(Broken::Truncated);
        }
        self.parts.retain(|part| part.file_name.as_deref() != Some("") || !part.range.is_empty());
        Ok(self.parts)
    }

    /// As many of the bytes as can be understood; their number.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let mut taken = 0;
        loop {
            let state = std::mem::replace(&mut self.state, State::End);
            let (step, is_over) = match self.step(state, &bytes[taken..])? {
                Step::Taken(step, state) => {
                    self.state = state;
                    (step, false)
                }
                Step::Needs(step, state) => {
                    self.state = state;
                    (step, true)
                }
            };
            taken += step;
            self.position += step as u64;
            if is_over {
                return Ok(taken);
            }
        }
    }

    fn step(&mut self, state: State, bytes: &[u8]) -> Result<Step, Broken> {
        match state {
            State::Start => Ok(self.start(bytes)),
            State::Preamble => Ok(match self.find(bytes) {
                Ok(found) => Step::Taken(self.behind(found), State::Behind),
                Err(passed) => Step::Needs(passed, State::Preamble),
            }),
            State::Behind => behind(bytes),
            State::Head => self.head(bytes),
            State::Part(head, start) => match self.find(bytes) {
                Ok(found) => {
                    let end = self.position + found as u64;
                    let Head { field, file_name, content_type } = head;
                    self.parts.push(Part { field, file_name, content_type, range: start..end });
                    Ok(Step::Taken(self.behind(found), State::Behind))
                }
                Err(passed) => Ok(Step::Needs(passed, State::Part(head, start))),
            },
            State::End => Ok(Step::Needs(bytes.len(), State::End)),
        }
    }

    fn start(&self, bytes: &[u8]) -> Step {
        let first = &self.delimiter.needle()[2..];
        if bytes.starts_with(first) {
            Step::Taken(first.len(), State::Behind)
        } else if first.starts_with(bytes) {
            Step::Needs(0, State::Start)
        } else {
            Step::Taken(0, State::Preamble)
        }
    }

    /// Where the next delimiter begins, or how many bytes are certainly before it.
    fn find(&self, bytes: &[u8]) -> Result<usize, usize> {
        let kept = self.delimiter.needle().len() - 1;
        self.delimiter.find(bytes).ok_or(bytes.len().saturating_sub(kept))
    }

    fn behind(&self, found: usize) -> usize {
        found + self.delimiter.needle().len()
    }

    fn head(&self, bytes: &[u8]) -> Result<Step, Broken> {
        // An empty line at once: a head without a line.
        if bytes.starts_with(b"\r\n") {
            return Err(Broken::Unnamed);
        }
        let searched = &bytes[..bytes.len().min(HEAD_BYTES_MAX)];
        let Some(end) = memchr::memmem::find(searched, b"\r\n\r\n") else {
            let is_too_long = searched.len() == HEAD_BYTES_MAX;
            return if is_too_long {
                Err(Broken::HeadTooLong)
            } else {
                Ok(Step::Needs(0, State::Head))
            };
        };
        if self.parts.len() >= PARTS_MAX {
            return Err(Broken::TooManyParts);
        }
        let head = disposition::head(&bytes[..end])?;
        let taken = end + 4;
        Ok(Step::Taken(taken, State::Part(head, self.position + taken as u64)))
    }
}

/// Two hyphens end the form; blanks and a line break begin a part.
fn behind(bytes: &[u8]) -> Result<Step, Broken> {
    if bytes.starts_with(b"--") {
        return Ok(Step::Taken(2, State::End));
    }
    let padding = bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    if padding > PADDING_BYTES_MAX {
        return Err(Broken::Boundary);
    }
    match &bytes[padding..] {
        [b'\r', b'\n', ..] => Ok(Step::Taken(padding + 2, State::Head)),
        [] | [b'\r'] => Ok(Step::Needs(0, State::Behind)),
        [b'-'] if padding == 0 => Ok(Step::Needs(0, State::Behind)),
        _ => Err(Broken::Boundary),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: &str = "before\r\n--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--x\r\n--b \t\r\n\
        content-disposition: form-data; name=f; filename=\"x.bin\"\r\nContent-Type: image/png\r\n\r\n\r\n--b\r\n\
        Content-Disposition: form-data; name=\"none\"; filename=\"\"\r\n\r\n\r\n--b--\r\nbehind --b\r\n";

    /// Its field, its file's name and what is in it.
    type Shown<'a> = (String, Option<String>, &'a str);

    fn parts(form: &str) -> Result<Vec<Shown<'_>>, Broken> {
        let parts = Reader::read("b", form.as_bytes())?;
        let text = |part: &Part| {
            let at = |offset: u64| usize::try_from(offset).unwrap();
            &form[at(part.range.start)..at(part.range.end)]
        };
        Ok(parts
            .iter()
            .map(|part| {
                let file_name = part.file_name.as_deref().map(str::to_owned);
                (part.field.to_string(), file_name, text(part))
            })
            .collect())
    }

    fn part(content: &str) -> String {
        format!("--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n{content}\r\n")
    }

    #[test]
    fn parts_lie_between_boundaries_and_what_stands_around_them_is_nobody_s() {
        let expected =
            [("a".to_owned(), None, "1\r\n--x"), ("f".to_owned(), Some("x.bin".to_owned()), "")];
        assert_eq!(parts(FORM).unwrap(), expected);
        assert_eq!(parts("--b--").unwrap(), []);
        assert_eq!(parts("\r\n--b--\r\n").unwrap(), []);
        assert_eq!(parts(&format!("{}--b--", part("--b"))).unwrap()[0].2, "--b");
    }

    #[test]
    fn what_is_no_form_says_why() {
        let check = |form: &str, expected: Broken| {
            assert_eq!(parts(form), Err(expected), "{}", &form[..form.len().min(80)]);
        };
        check("", Broken::Truncated);
        check("{}", Broken::Truncated);
        check("--b", Broken::Truncated);
        check("--b-", Broken::Truncated);
        check("--b\r\n", Broken::Truncated);
        check(&part("1"), Broken::Truncated);
        check(&format!("{}--b", part("1")), Broken::Truncated);
        check(&format!("{}--bc", part("1")), Broken::Boundary);
        check(&format!("{}--b\n\n", part("1")), Broken::Boundary);
        check(&format!("--b{}", " ".repeat(65)), Broken::Boundary);
        check("--b\r\n\r\n1\r\n--b--", Broken::Unnamed);
        check("--b\r\nContent-Type: a/b\r\n\r\n1\r\n--b--", Broken::Unnamed);
        check(&format!("--b\r\nx: {}", "y".repeat(9_000)), Broken::HeadTooLong);
        check(&format!("{}--b--", part("").repeat(10_001)), Broken::TooManyParts);
        assert_eq!(parts(&format!("{}--b--", part("").repeat(10_000))).unwrap().len(), 10_000);
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_where_the_chunks_are_cut(cuts in prop::collection::vec(0..FORM.len(), 0..20)) {
            let mut reader = Reader::new("b");
            let mut cuts = cuts;
            cuts.extend([0, FORM.len()]);
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                reader.push(&FORM.as_bytes()[pair[0]..pair[1]]).unwrap();
                prop_assert!(reader.held.len() <= HEAD_BYTES_MAX);
            }
            prop_assert_eq!(reader.finish(), Reader::read("b", FORM.as_bytes()));
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec(
            prop_oneof![
                Just("\r\n--b".to_owned()), Just("--b".to_owned()), Just("\r\n".to_owned()), Just("--".to_owned()),
                Just("Content-Disposition: form-data; name=\"".to_owned()), Just("filename*=UTF-8''%".to_owned()),
                ".{0,6}",
            ], 0..24,
        )) {
            _ = Reader::read("b", pieces.concat().as_bytes());
        }
    }
}
