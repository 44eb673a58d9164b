//! What a signature scheme is: a row of `schemes.toml`, read once. A scheme says where the signature, the time, the id and the type of
//! a delivery are and what is signed; it holds no secret and decides nothing. `verifier.rs` interprets it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::{HeaderMap, HeaderName};
use serde::Deserialize;

use super::signature::{Algorithm, Encoding, SecretEncoding, SecretForm};
use crate::json::{Found, Pointer, PointerError};

static ROWS: &str = include_str!("schemes.toml");

static SCHEMES: LazyLock<Box<[Scheme]>> =
    LazyLock::new(|| read(ROWS).expect("the rows are part of the program, and a test reads them"));

/// How one kind of sender signs and describes its deliveries.
#[derive(Debug)]
pub(crate) struct Scheme {
    /// As config names it.
    pub(crate) name: Box<str>,
    /// `None`: nothing is signed, and everybody is believed.
    pub(crate) signing: Option<Signing>,
    /// Where the sender's own id of a delivery is.
    pub(crate) id: Option<Place>,
    /// Where the type of the event is.
    pub(crate) kind: Option<Place>,
    /// What scripts see as `event.data`; `None`: the whole payload.
    pub(crate) data: Option<Pointer>,
    /// What bodies are taken.
    pub(crate) payload: Payload,
    /// What `json::scan` is to look for so that `describe` can tell id and type.
    pub(crate) pointers: Box<[Pointer]>,
}

/// What a scheme signs, and where the signature is.
#[derive(Debug)]
pub(crate) struct Signing {
    /// The signature's header, by family: the first one that a delivery has decides which names of the other lists count.
    pub(crate) signature: Box<[HeaderName]>,
    /// Between the items of that header.
    pub(crate) separator: char,
    /// Before each signature of the header.
    pub(crate) prefix: Box<str>,
    /// How each signature is written.
    pub(crate) encoding: Encoding,
    /// How each signature is made.
    pub(crate) algorithm: Algorithm,
    /// Of what, one piece after the other.
    pub(crate) content: Box<[Piece]>,
    /// With what.
    pub(crate) secret: SecretForm,
    /// When; `None`: senders do not say, and a recorded delivery stays valid.
    pub(crate) timestamp: Option<Timestamp>,
}

/// One part of what is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// The delivery's id, from its header.
    Id,
    /// As the header writes it.
    Timestamp,
    /// The raw bytes.
    Body,
    /// Text that is always the same.
    Literal(Box<str>),
}

/// Where the time of signing is, in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Timestamp {
    /// A header of its own, by family.
    Header(Box<[HeaderName]>),
    /// An item of the signature's header that begins so.
    Item(Box<str>),
}

/// Where a delivery says something about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// A header, by family.
    Header(Box<[HeaderName]>),
    /// The pointer with this number in `Scheme::pointers`.
    Body(usize),
}

/// What bodies a scheme's senders post.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Payload {
    /// JSON whatever its label; anything else is refused.
    Json,
    /// JSON, form or text, by content type.
    Any,
}

impl Scheme {
    /// The scheme that config calls so.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        SCHEMES.iter().find(|scheme| &*scheme.name == name)
    }

    /// Every scheme, in the order of their names.
    pub(crate) fn all() -> &'static [Self] {
        &SCHEMES
    }

    /// Every name that config may use.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        SCHEMES.iter().map(|scheme| &*scheme.name)
    }

    /// Whether a sender puts its id of a delivery into a header.
    pub(crate) fn has_id_header(&self) -> bool {
        matches!(self.id, Some(Place::Header(_)))
    }

    /// The event's type, as text: a number becomes its digits, and what is no name becomes `""`, as does the absence of any.
    pub(crate) fn kind<'a>(
        &self,
        headers: &'a HeaderMap,
        found: Option<&Found<'a>>,
    ) -> Cow<'a, str> {
        self.kind.as_ref().and_then(|place| place.look(headers, found)).unwrap_or_default()
    }
}

impl Place {
    /// What stands there, if it is text or a number.
    pub(crate) fn look<'a>(
        &self,
        headers: &'a HeaderMap,
        found: Option<&Found<'a>>,
    ) -> Option<Cow<'a, str>> {
        match self {
            Self::Header(names) => {
                let value = names.iter().find_map(|name| headers.get(name))?;
                value.to_str().ok().map(Cow::Borrowed)
            }
            Self::Body(pointer) => found?.get(*pointer)?.as_name(),
        }
    }
}

/// A header's name in one family: the last one where a list is shorter than the signature's.
pub(crate) fn in_family(names: &[HeaderName], family: usize) -> Option<&HeaderName> {
    names.get(family).or(names.last())
}

/// A row as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    signing: Option<SigningRow>,
    #[serde(default)]
    id: Vec<Box<str>>,
    #[serde(default)]
    r#type: Vec<Box<str>>,
    data: Option<Box<str>>,
    payload: Payload,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SigningRow {
    /// For the reader of the row.
    #[serde(rename = "docs")]
    _docs: Box<str>,
    signature: Vec<Box<str>>,
    separator: char,
    prefix: Box<str>,
    encoding: Encoding,
    algorithm: Algorithm,
    signed: Box<str>,
    secret: SecretEncoding,
    #[serde(default)]
    secret_prefix: Box<str>,
    timestamp: Option<TimestampRow>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum TimestampRow {
    Header(Vec<Box<str>>),
    Item(Box<str>),
}

/// What is wrong with a row.
#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error(transparent)]
    Toml(#[from] toml::de::Error),
    #[error("`{0}` cannot be a header's name")]
    Header(Box<str>),
    #[error(transparent)]
    Pointer(#[from] PointerError),
    #[error("`signed` knows {{id}}, {{timestamp}} and {{body}}, and this goes wrong at `{0}`")]
    Signed(Box<str>),
    #[error("`signed` needs an id or a time, and the row names no header for it")]
    Missing,
}

fn read(rows: &str) -> Result<Box<[Scheme]>, RowError> {
    let rows: BTreeMap<Box<str>, Row> = toml::from_str(rows)?;
    rows.into_iter().map(|(name, row)| row.meant(name)).collect()
}

impl Row {
    fn meant(self, name: Box<str>) -> Result<Scheme, RowError> {
        let mut pointers = Vec::new();
        let id = place(&self.id, &mut pointers)?;
        let kind = place(&self.r#type, &mut pointers)?;
        let data = self.data.map(|pointer| pointer.parse()).transpose()?;
        let signing = self.signing.map(SigningRow::meant).transpose()?;
        if let Some(signing) = &signing {
            let has_id = matches!(id, Some(Place::Header(_)));
            if signing.content.iter().any(|piece| match piece {
                Piece::Id => !has_id,
                Piece::Timestamp => signing.timestamp.is_none(),
                Piece::Body | Piece::Literal(_) => false,
            }) {
                return Err(RowError::Missing);
            }
        }
        Ok(Scheme {
            name,
            signing,
            id,
            kind,
            data,
            payload: self.payload,
            pointers: pointers.into(),
        })
    }
}

impl SigningRow {
    fn meant(self) -> Result<Signing, RowError> {
        Ok(Signing {
            signature: headers(&self.signature)?,
            separator: self.separator,
            prefix: self.prefix,
            encoding: self.encoding,
            algorithm: self.algorithm,
            content: pieces(&self.signed)?,
            secret: SecretForm { prefix: self.secret_prefix, encoding: self.secret },
            timestamp: match self.timestamp {
                None => None,
                Some(TimestampRow::Header(names)) => Some(Timestamp::Header(headers(&names)?)),
                Some(TimestampRow::Item(prefix)) => Some(Timestamp::Item(prefix)),
            },
        })
    }
}

fn place(texts: &[Box<str>], pointers: &mut Vec<Pointer>) -> Result<Option<Place>, RowError> {
    match texts {
        [] => Ok(None),
        [pointer] if pointer.starts_with('/') => {
            pointers.push(pointer.parse()?);
            Ok(Some(Place::Body(pointers.len() - 1)))
        }
        names => headers(names).map(Place::Header).map(Some),
    }
}

fn headers(names: &[Box<str>]) -> Result<Box<[HeaderName]>, RowError> {
    names.iter().map(|name| name.parse().map_err(|_| RowError::Header(name.clone()))).collect()
}

fn pieces(signed: &str) -> Result<Box<[Piece]>, RowError> {
    let mut pieces = Vec::new();
    let mut rest = signed;
    while !rest.is_empty() {
        let wrong = || RowError::Signed(rest.into());
        let (piece, length) = if rest.starts_with('{') {
            let end = rest.find('}').ok_or_else(wrong)? + 1;
            let piece = match &rest[..end] {
                "{id}" => Piece::Id,
                "{timestamp}" => Piece::Timestamp,
                "{body}" => Piece::Body,
                _ => return Err(wrong()),
            };
            (piece, end)
        } else {
            let end = rest.find('{').unwrap_or(rest.len());
            (Piece::Literal(rest[..end].into()), end)
        };
        pieces.push(piece);
        rest = &rest[length..];
    }
    Ok(pieces.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    #[test]
    fn the_rows_of_the_program_read() {
        let schemes = read(ROWS).unwrap();
        assert_eq!(
            Scheme::names().collect::<Vec<_>>(),
            ["none", "standard-webhooks", "stripe", "svix"]
        );
        assert_eq!(Scheme::all().len(), schemes.len());
        assert!(Scheme::named("svix").is_some() && Scheme::named("Svix").is_none());
    }

    #[test]
    fn only_none_is_unsigned() {
        let unsigned: Vec<&str> = Scheme::all()
            .iter()
            .filter(|scheme| scheme.signing.is_none())
            .map(|scheme| &*scheme.name)
            .collect();
        assert_eq!(unsigned, ["none"]);
    }

    #[test]
    fn what_is_signed_is_read_from_its_template() {
        let literal = |text: &str| Piece::Literal(text.into());
        for (signed, expected) in [
            (
                "{id}.{timestamp}.{body}",
                vec![Piece::Id, literal("."), Piece::Timestamp, literal("."), Piece::Body],
            ),
            (
                "v0:{timestamp}:{body}",
                vec![literal("v0:"), Piece::Timestamp, literal(":"), Piece::Body],
            ),
            ("{body}", vec![Piece::Body]),
        ] {
            assert_eq!(*pieces(signed).unwrap(), expected);
        }
        for signed in ["{bdoy}", "{body", "x{", "{}"] {
            assert!(pieces(signed).is_err(), "{signed}");
        }
    }

    #[test]
    fn a_row_that_cannot_work_is_refused() {
        let signing = |signed: &str| {
            format!(
                "docs = ''\nsignature = ['a']\nseparator = ' '\nprefix = ''\nencoding = 'hex'\nalgorithm = 'hmac-sha256'\nsigned = '{signed}'\nsecret = 'raw'"
            )
        };
        for row in [
            "payload = 'xml'".to_owned(),
            "payload = 'any'\ntyp = ['/a']".to_owned(),
            "payload = 'any'\ntype = ['/~']".to_owned(),
            "payload = 'any'\ntype = ['no header']".to_owned(),
            "payload = 'any'\ndata = 'data'".to_owned(),
            format!("payload = 'any'\n[x.signing]\n{}", signing("{id}.{body}")),
            format!("payload = 'any'\nid = ['/id']\n[x.signing]\n{}", signing("{id}.{body}")),
            format!("payload = 'any'\n[x.signing]\n{}", signing("{timestamp}.{body}")),
        ] {
            assert!(read(&format!("[x]\n{row}")).is_err(), "{row}");
        }
        assert!(read(&format!("[x]\npayload = 'any'\n[x.signing]\n{}", signing("{body}"))).is_ok());
    }

    /// The type that a scheme reads from a body.
    fn kind(scheme: &str, body: &str) -> String {
        let scheme = Scheme::named(scheme).unwrap();
        let found = json::scan(body, &scheme.pointers).unwrap();
        scheme.kind(&HeaderMap::new(), Some(&found)).into_owned()
    }

    #[test]
    fn p15_a_type_is_text_or_the_digits_of_a_number_and_nothing_else() {
        for (body, expected) in [
            (r#"{"type":"user.created"}"#, "user.created"),
            (r#"{"type":7}"#, "7"),
            (r#"{"type":18446744073709551615}"#, "18446744073709551615"),
            (r#"{"type":"*\n\u001b"}"#, "*\n\u{1b}"),
            (r#"{"type":null}"#, ""),
            (r#"{"type":["user.created"]}"#, ""),
            (r#"{"type":{"a":1}}"#, ""),
            (r#"{"type":true}"#, ""),
            (r#"{}"#, ""),
            (r#"[]"#, ""),
            (r#""type""#, ""),
        ] {
            for scheme in Scheme::names() {
                assert_eq!(kind(scheme, body), expected, "{scheme}: {body}");
            }
        }
        let long = "x".repeat(1 << 20);
        assert_eq!(kind("svix", &format!(r#"{{"type":"{long}"}}"#)), long);
    }

    #[test]
    fn without_a_body_to_look_into_there_is_no_type() {
        assert_eq!(Scheme::named("svix").unwrap().kind(&HeaderMap::new(), None), "");
    }
}
