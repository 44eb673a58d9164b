//! One pass over a whole text, which checks all of it and picks out a few scalars. It builds no tree, keeps nothing of what it passes,
//! and takes the same time for each byte however many keys an object has.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{JsonError, Pointer};

/// Pointers that one scan looks for; those after them are never found. A scheme needs three.
pub(super) const POINTERS_MAX: usize = 32;

/// Checks a prepared text from its first byte to its last, and picks out the scalars that the pointers name.
pub(crate) fn scan<'a>(text: &'a str, pointers: &[Pointer]) -> Result<Found<'a>, JsonError> {
    let mut found = vec![None; pointers.len()].into_boxed_slice();
    let pointers = &pointers[..pointers.len().min(POINTERS_MAX)];
    let active = (0..pointers.len()).fold(0, |active, index| active | 1 << index);
    let mut deserializer = serde_json::Deserializer::from_str(text);
    Walk { pointers, found: &mut found, active, depth: 0 }
        .deserialize(&mut deserializer)
        .and_then(|()| deserializer.end())
        .map_err(
            |error| if text.trim_ascii().is_empty() { JsonError::Empty } else { error.into() },
        )?;
    Ok(Found(found))
}

/// What a scan found, in the order of its pointers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Found<'a>(pub(super) Box<[Option<Scalar<'a>>]>);

impl<'a> Found<'a> {
    /// The value at pointer number `index`; `None` where the text has nothing there, or an array or object.
    pub(crate) fn get(&self, index: usize) -> Option<&Scalar<'a>> {
        self.0.get(index)?.as_ref()
    }
}

/// A value that is neither an array nor an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Scalar<'a> {
    /// `null`, which is not the same as absence.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer that fits.
    Integer(i64),
    /// A number with a point or an exponent, and `-0`.
    Float(f64),
    /// Borrowed from the text unless it was written with escapes.
    Text(Cow<'a, str>),
}

impl<'a> Scalar<'a> {
    /// Text as it is and a number as its digits; `None` for what names nothing.
    pub(crate) fn as_name(&self) -> Option<Cow<'a, str>> {
        match self {
            Self::Null | Self::Bool(_) => None,
            Self::Integer(number) => Some(number.to_string().into()),
            Self::Float(number) => Some(number.to_string().into()),
            Self::Text(text) => Some(text.clone()),
        }
    }
}

/// Reads one value on the way to what some pointers name.
struct Walk<'p, 'f, 'a> {
    pointers: &'p [Pointer],
    found: &'f mut [Option<Scalar<'a>>],
    /// One bit for each pointer whose first `depth` names have led here.
    active: u32,
    depth: usize,
}

impl<'a> Walk<'_, '_, 'a> {
    /// A value for those pointers that end here.
    fn set(self, scalar: &Scalar<'a>) {
        for (index, pointer) in self.pointers.iter().enumerate() {
            if self.active & 1 << index != 0 && pointer.names().len() == self.depth {
                self.found[index] = Some(scalar.clone());
            }
        }
    }

    /// The pointers that go on from here by a name.
    fn onward(&self, is_name: impl Fn(&str) -> bool) -> u32 {
        onward(self.pointers, self.active, self.depth, is_name)
    }

    /// One step down. What equal keys before this one have given is forgotten: the last one wins, with all that is under it.
    fn below(&mut self, active: u32) -> Walk<'_, '_, 'a> {
        for (index, value) in self.found.iter_mut().enumerate().take(POINTERS_MAX) {
            if active & 1 << index != 0 {
                *value = None;
            }
        }
        Walk { pointers: self.pointers, found: self.found, active, depth: self.depth + 1 }
    }
}

/// `/0` names the first element, `/00` and `/+0` none.
pub(super) fn is_index(name: &str, index: usize) -> bool {
    name.parse() == Ok(index) && (name == "0" || !name.starts_with(['0', '+']))
}

fn onward(pointers: &[Pointer], active: u32, depth: usize, is_name: impl Fn(&str) -> bool) -> u32 {
    pointers.iter().enumerate().fold(0, |onward, (index, pointer)| {
        let goes_on = active & 1 << index != 0
            && pointer.names().get(depth).is_some_and(|name| is_name(name));
        onward | u32::from(goes_on) << index
    })
}

impl<'a> DeserializeSeed<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Walk<'_, '_, 'a> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.set(&Scalar::Null);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(&Scalar::Bool(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(&Scalar::Integer(value));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        // Past i64 only in a text that was not prepared; then too the digits are kept.
        self.set(
            &i64::try_from(value)
                .map_or_else(|_| Scalar::Text(value.to_string().into()), Scalar::Integer),
        );
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.set(&Scalar::Float(value));
        Ok(())
    }

    fn visit_borrowed_str<E>(self, value: &'a str) -> Result<(), E> {
        self.set(&Scalar::Text(Cow::Borrowed(value)));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.set(&Scalar::Text(Cow::Owned(value.to_owned())));
        Ok(())
    }

    fn visit_map<A: MapAccess<'a>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(active) = map.next_key_seed(Key {
            pointers: self.pointers,
            active: self.active,
            depth: self.depth,
        })? {
            match active {
                0 => map.next_value::<Checked>().map(|_| ())?,
                active => map.next_value_seed(self.below(active))?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(mut self, mut seq: A) -> Result<(), A::Error> {
        for index in 0_usize.. {
            let active = self.onward(|name| is_index(name, index));
            let more = match active {
                0 => seq.next_element::<Checked>()?.is_some(),
                active => seq.next_element_seed(self.below(active))?.is_some(),
            };
            if !more {
                break;
            }
        }
        Ok(())
    }
}

/// Reads a key into the pointers that go on by it.
struct Key<'p> {
    pointers: &'p [Pointer],
    active: u32,
    depth: usize,
}

impl<'a> DeserializeSeed<'a> for Key<'_> {
    type Value = u32;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<u32, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = u32;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<u32, E> {
        Ok(onward(self.pointers, self.active, self.depth, |name| name == key))
    }
}

/// A value that is checked and dropped. serde's own `IgnoredAny` will not do: for it serde_json counts no levels and passes lone
/// surrogates and `1e400`.
struct Checked;

impl<'a> Deserialize<'a> for Checked {
    fn deserialize<D: Deserializer<'a>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Self)
    }
}

impl<'a> Visitor<'a> for Checked {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self, E> {
        Ok(self)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self, A::Error> {
        while map.next_key_seed(Key { pointers: &[], active: 0, depth: 0 })?.is_some() {
            map.next_value::<Self>()?;
        }
        Ok(self)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self, A::Error> {
        while seq.next_element::<Self>()?.is_some() {}
        Ok(self)
    }
}
