//! TypeIDs: a prefix that says what it names, `_`, and the base32 form of a UUIDv7
//! (<https://github.com/jetify-com/typeid/tree/main/spec>). They sort by the time they were made.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Crockford's alphabet in lower case, as the TypeID specification asks.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 128 bits in 5-bit letters.
const LETTERS: usize = 26;

/// An event: `evt_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct EventId(pub(crate) Uuid);

/// One handler's work on one event: `job_…`. It follows from the event's id and the job's number, so it is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct JobId(pub(crate) Uuid);

/// One HTTP request that came in: `req_…`, where the client brought no id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(pub(crate) Uuid);

impl EventId {
    /// What every event's id starts with.
    pub(crate) const PREFIX: &'static str = "evt";

    /// The id of this event's job number `n`: the last 16 bits of the event's random part, moved by `n` + 1.
    pub(crate) fn job(self, n: u32) -> JobId {
        JobId(Uuid::from_u128(self.0.as_u128() ^ (u128::from(n & 0xffff) + 1)))
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_typeid(formatter, Self::PREFIX, self.0)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_typeid(formatter, "job", self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_typeid(formatter, "req", self.0)
    }
}

/// The text is not an event id; `evt_` and 26 letters of base32 were expected.
#[derive(Debug, thiserror::Error)]
#[error("not an event id; they look like `evt_01h455vb4pex5vsknk084sn02q`")]
pub(crate) struct NotAnEventId;

impl FromStr for EventId {
    type Err = NotAnEventId;

    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let letters = text.strip_prefix("evt_").ok_or(NotAnEventId)?;
        if letters.len() != LETTERS {
            return Err(NotAnEventId);
        }
        let mut bits: u128 = 0;
        for (index, letter) in letters.bytes().enumerate() {
            let digit = ALPHABET.iter().position(|known| *known == letter).ok_or(NotAnEventId)?;
            // 26 letters hold 130 bits: the first may only use three of its five.
            if index == 0 && digit > 7 {
                return Err(NotAnEventId);
            }
            bits = bits << 5 | digit as u128;
        }
        Ok(Self(Uuid::from_u128(bits)))
    }
}

fn write_typeid(formatter: &mut fmt::Formatter<'_>, prefix: &str, uuid: Uuid) -> fmt::Result {
    let mut letters = [0; LETTERS];
    let mut bits = uuid.as_u128();
    for letter in letters.iter_mut().rev() {
        *letter = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    let letters = std::str::from_utf8(&letters).map_err(|_| fmt::Error)?;
    formatter.write_str(prefix)?;
    formatter.write_str("_")?;
    formatter.write_str(letters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_specification_s_example_reads_and_writes() {
        let uuid: Uuid = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        let text = "evt_01h455vb4pex5vsknk084sn02q";
        assert_eq!(EventId(uuid).to_string(), text);
        assert_eq!(text.parse::<EventId>().unwrap(), EventId(uuid));
    }

    #[test]
    fn what_is_not_an_event_id_is_refused() {
        for text in [
            "",
            "evt_",
            "req_01h455vb4pex5vsknk084sn02q",
            "evt_81h455vb4pex5vsknk084sn02q",
            "evt_01H455VB4PEX5VSKNK084SN02Q",
            "evt_01h455vb4pex5vsknk084sn02'",
            "'; drop table events",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text}");
        }
    }
}
