//! Text that grows only within bounds: the caller's own, and what the running script may still allocate.
//! Everything that builds text for a script builds it here, so that nothing is allocated first and refused afterwards.

use std::fmt;

use crate::script::builtins::ending::{Ending, Fallible, room};

/// A `String` with an end.
#[derive(Debug)]
pub(crate) struct Buffer {
    text: String,
    /// The length that the text may reach.
    limit: usize,
}

/// What stopped a buffer from growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The caller's bound.
    Limit,
    /// The script's memory.
    Memory,
}

impl Buffer {
    /// Empty, and never longer than `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { text: String::new(), limit }
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.text.len()
    }

    /// Makes sure that `bytes` more fit. Grows by doubling where there is room for it, else to just what is needed.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<(), Full> {
        let needed = self.text.len().saturating_add(bytes);
        if needed > self.limit {
            return Err(Full::Limit);
        }
        if needed <= self.text.capacity() {
            return Ok(());
        }
        // Growing may copy: old and new are then held at once, and the old is already counted.
        let room = room();
        if needed > room {
            return Err(Full::Memory);
        }
        let doubled = self.text.capacity().saturating_mul(2).max(64).min(self.limit);
        let capacity = if doubled > room { needed } else { needed.max(doubled) };
        self.text.reserve_exact(capacity - self.text.len());
        Ok(())
    }

    /// All of the text or nothing.
    pub(crate) fn push_str(&mut self, text: &str) -> Result<(), Full> {
        self.reserve(text.len())?;
        self.text.push_str(text);
        Ok(())
    }

    /// One character.
    pub(crate) fn push(&mut self, character: char) -> Result<(), Full> {
        self.reserve(character.len_utf8())?;
        self.text.push(character);
        Ok(())
    }

    /// The text itself, for writers that need a `String`; only after `reserve` for what they write.
    pub(crate) fn text_mut(&mut self) -> &mut String {
        &mut self.text
    }

    /// What was written.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// For numbers and the like; what stopped it is lost, so only where that cannot matter.
impl fmt::Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push_str(text).map_err(|_| fmt::Error)
    }
}

/// Builds text for a script without a bound of its own: what does not fit ends the run.
pub(crate) fn build(
    write: impl FnOnce(&mut Buffer) -> Result<(), Full>,
) -> Fallible<rhai::ImmutableString> {
    let mut buffer = Buffer::new(usize::MAX);
    write(&mut buffer).map_err(|_| Ending::Memory.error())?;
    Ok(buffer.into_text().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::builtins::ending::with_room;

    #[test]
    fn a_buffer_stops_at_its_limit_and_at_the_script_s_memory() {
        let mut buffer = Buffer::new(10);
        assert_eq!(buffer.push_str("0123456789"), Ok(()));
        assert_eq!(buffer.push('x'), Err(Full::Limit));
        assert_eq!(buffer.into_text(), "0123456789");

        let mut buffer = Buffer::new(usize::MAX);
        assert_eq!(with_room(100, || buffer.push_str(&"x".repeat(101))), Err(Full::Memory));
        assert_eq!(buffer.text.capacity(), 0);
        assert_eq!(with_room(100, || buffer.push_str(&"x".repeat(90))), Ok(()));
        assert!(buffer.text.capacity() <= 100);
    }
}
