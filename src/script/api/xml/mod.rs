//! `xml::…`: what third parties answer in XML (SOAP, lists of objects, feeds). An element is a map of `name`, `attributes`, `text` and
//! `children`, in which nothing depends on how many there happen to be; `find`, `all` and `text` lead to what is wanted. Names keep their
//! prefixes, the order of children is kept, and white space between elements is not.
//!
//! Entities of a document's own are refused, so that no text can become larger than it is.

mod find;
mod read;
mod write;

use rhai::{Dynamic, ImmutableString, Map, Module};

use super::Signature;
use super::named::Named;
use crate::script::builtins::ending::{Fallible, refused};
use crate::script::builtins::set;
use crate::script::value::{Buffer, Full, build};

pub(super) const SIGNATURES: [Signature; 6] = [
    Signature {
        name: "xml::parse",
        parameters: "text",
        returns: "map",
        does: "Reads a document; its outermost element is a map of `name`, `attributes`, `text` and `children`",
    },
    Signature {
        name: "xml::find",
        parameters: "element, path",
        returns: "map or ()",
        does: "The first element below it at a path such as `\"Body/GetPriceResponse/Price\"`",
    },
    Signature {
        name: "xml::all",
        parameters: "element, path",
        returns: "array",
        does: "Every element at a path, in their order",
    },
    Signature {
        name: "xml::text",
        parameters: "element, path",
        returns: "string or ()",
        does: "The text of the first element at a path, or an attribute: `\"item/@id\"`",
    },
    Signature {
        name: "xml::to_string",
        parameters: "element, [options]",
        returns: "string",
        does: "Writes an element; `#{ declaration: true }` puts `<?xml …?>` before it",
    },
    Signature {
        name: "xml::escape",
        parameters: "text",
        returns: "string",
        does: "Makes text safe inside an element or a quoted attribute",
    },
];

/// As deep as JSON may be.
const LEVELS_MAX: usize = crate::script::value::LEVELS_MAX;

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "parse", |text: Dynamic| read::parse(&text));
    set(&mut module, "find", |element: &mut Dynamic, path: &str| find::first(element, path));
    set(&mut module, "all", |element: &mut Dynamic, path: &str| find::all(element, path));
    set(&mut module, "text", |element: &mut Dynamic, path: &str| find::text(element, path));
    set(&mut module, "to_string", |element: &mut Map| write::to_string(element, Named::NONE));
    set(&mut module, "to_string", |element: &mut Map, options: Map| {
        write::to_string(element, Named::of(&options, &["declaration"])?)
    });
    set(&mut module, "escape", escape);
    module
}

fn escape(text: &str) -> Fallible<ImmutableString> {
    check_characters(text).map_err(|character| refused(&no_character(character)))?;
    build(|buffer| push_escaped(buffer, text))
}

/// Safe in text and in attributes; a reader makes the same text of it.
fn push_escaped(buffer: &mut Buffer, text: &str) -> Result<(), Full> {
    let mut rest = text;
    while let Some(at) = rest.find(['&', '<', '>', '"', '\'', '\t', '\n', '\r']) {
        buffer.push_str(&rest[..at])?;
        buffer.push_str(match rest.as_bytes()[at] {
            b'&' => "&amp;",
            b'<' => "&lt;",
            b'>' => "&gt;",
            b'"' => "&quot;",
            b'\'' => "&apos;",
            b'\t' => "&#9;",
            b'\n' => "&#10;",
            _ => "&#13;",
        })?;
        rest = &rest[at + 1..];
    }
    buffer.push_str(rest)
}

/// The first character that no XML may hold, not even as a reference.
fn check_characters(text: &str) -> Result<(), char> {
    text.chars().find(|character| !is_allowed(*character)).map_or(Ok(()), Err)
}

/// `Char` of XML 1.0.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..)
}

fn no_character(character: char) -> String {
    format!("the character U+{:04X} cannot stand in XML", u32::from(character))
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::{check, run_with};

    const SOAP: &str = r#"let doc = xml::parse(`<?xml version="1.0"?>
        <soap:Envelope xmlns:soap="http://schemas.xmlsoap.org/soap/envelope/">
          <soap:Body><m:GetPriceResponse xmlns:m="urn:x"><m:Price currency="EUR"> 1.90 </m:Price></m:GetPriceResponse></soap:Body>
        </soap:Envelope>`); "#;
    const LIST: &str = r#"let doc = xml::parse(`<ListBucketResult><Name>b</Name>
        <Contents><Key>a.txt</Key><Size>1</Size></Contents>
        <Contents><Key>b &amp; c</Key><Size>2</Size></Contents></ListBucketResult>`); "#;
    const FEED: &str = r#"let doc = xml::parse(`<rss><channel><atom:link href="https://example.com/feed"/><link>https://example.com</link>
        <item><title><![CDATA[<One> & only]]></title></item></channel></rss>`); "#;

    #[test]
    fn what_third_parties_answer_is_reached_by_paths() {
        check(&format!("{SOAP} xml::text(doc, \"Body/GetPriceResponse/Price\")"), "\"1.90\"");
        check(&format!("{SOAP} xml::text(doc, \"soap:Body/*/m:Price/@currency\")"), "\"EUR\"");
        check(&format!("{SOAP} xml::find(doc, \"Body/Fault\")"), "()");
        check(&format!("{SOAP} xml::text(xml::find(doc, \"Body/Fault\"), \"faultstring\")"), "()");
        check(
            &format!("{LIST} xml::all(doc, \"Contents\").map(|c| xml::text(c, \"Key\"))"),
            "[\"a.txt\", \"b & c\"]",
        );
        check(
            &format!("{LIST} xml::all(doc, \"Contents/Size\").map(|s| s.text)"),
            "[\"1\", \"2\"]",
        );
        check(&format!("{LIST} [xml::all(doc, \"Prefix\"), xml::all((), \"a\")]"), "[[], []]");
        check(
            &format!(
                "{FEED} [xml::text(doc, \"channel/link\"), xml::text(doc, \"channel/atom:link/@href\")]"
            ),
            "[\"https://example.com\", \"https://example.com/feed\"]",
        );
        check(&format!("{FEED} xml::text(doc, \"channel/item/title\")"), "\"<One> & only\"");
        check(&format!("{FEED} xml::find(doc, \"channel/item\").children[0].name"), "\"title\"");
        check("xml::text(xml::parse(\"<a id='1'/>\"), \"@id\")", "\"1\"");
    }

    #[test]
    fn a_path_that_leads_nowhere_by_its_form_is_refused() {
        for path in ["", "/a", "a/", "a//b", "@", "@id/a", "a/@id/b"] {
            check(
                &format!("xml::find(xml::parse(\"<a/>\"), \"{path}\")"),
                "INVALID_ARGUMENT: a path is names with `/` between them, such as \"Body/Price\", with `*` for any; \"@name\" at its end is an attribute",
            );
        }
        check(
            "xml::find(5, \"a\")",
            "INVALID_ARGUMENT: an element is a map as `xml::parse` gives it, not an integer",
        );
        check(
            "xml::find(xml::parse(\"<a b='1'/>\"), \"@b\")",
            "INVALID_ARGUMENT: an attribute is text: `xml::text` gives it",
        );
    }

    #[test]
    fn text_is_made_safe() {
        check("xml::escape(`<a b=\"c\">'&'`)", "\"&lt;a b=&quot;c&quot;&gt;&apos;&amp;&apos;\"");
        check(
            "xml::escape(\"\\x00\")",
            "INVALID_ARGUMENT: the character U+0000 cannot stand in XML",
        );
        let long = "let s = \"&\"; s.pad(100000, '&'); xml::escape(s)";
        assert_eq!(run_with(400_000, long), "ended: Memory");
    }
}
