//! XML text into elements. quick-xml takes the text apart and pairs the tags; what makes a document of them (one outermost element, no text
//! beside it, nothing defined by itself) is seen to here, and depth and memory are bounded on the way.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use rhai::{Array, Dynamic, EvalAltResult, ImmutableString, Map};

use super::super::with_bytes;
use super::{LEVELS_MAX, check_characters, no_character};
use crate::script::builtins::ending::{Ending, Fallible, reserve, thrown};
use crate::script::value::Buffer;

/// What an element costs beside its name and text: four entries of a map, two further containers.
const ELEMENT_BYTES: usize = 1200;
/// What an attribute costs beside its text; the first of an element costs a node of its map.
const ATTRIBUTE_BYTES: usize = 600;
/// Of one element. Whether one comes twice is found out by comparing each with each.
const ATTRIBUTES_MAX: usize = 1000;
/// Bytes of what the parser says that an error repeats; it quotes names.
const SAID_MAX: usize = 200;

pub(super) fn parse(text: &Dynamic) -> Fallible<Dynamic> {
    with_bytes(text, |bytes| {
        let text = str::from_utf8(bytes).map_err(|error| {
            invalid(&String::from_utf8_lossy(&bytes[..error.valid_up_to()]), "it is not UTF-8 text")
        })?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        read(text)
    })?
}

fn read(text: &str) -> Fallible<Dynamic> {
    let mut reader = Reader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut document = Document::default();
    loop {
        let event = reader.read_event();
        let position = match &event {
            Ok(_) => reader.buffer_position(),
            Err(_) => reader.error_position(),
        };
        let before = text.get(..usize::try_from(position).unwrap_or(usize::MAX)).unwrap_or(text);
        let taken = match event {
            Ok(Event::Eof) => return document.end().map_err(|stop| stop.at(text)),
            Ok(event) => document.take(&event),
            Err(error) => Err(Stop::from(error)),
        };
        taken.map_err(|stop| stop.at(before))?;
    }
}

/// What is wrong, before its line is known.
enum Stop {
    Memory,
    Invalid(String),
}

impl Stop {
    fn at(self, before: &str) -> Box<EvalAltResult> {
        match self {
            Self::Memory => Ending::Memory.error(),
            Self::Invalid(why) => invalid(before, &why),
        }
    }
}

impl<E: Into<quick_xml::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        let mut said = error.into().to_string();
        said.truncate(said.floor_char_boundary(SAID_MAX));
        Self::Invalid(said)
    }
}

/// What has been read so far.
#[derive(Default)]
struct Document {
    open: Vec<Element>,
    root: Option<Dynamic>,
}

/// An element whose end has not come.
struct Element {
    name: ImmutableString,
    attributes: Map,
    /// Elements, and the text between them that is not only white space.
    children: Array,
    has_elements: bool,
    /// Text since the last tag.
    run: Buffer,
}

impl Document {
    fn take(&mut self, event: &Event<'_>) -> Result<(), Stop> {
        match event {
            Event::Start(start) => self.begin(start),
            Event::End(_) => self.close(),
            Event::Text(text) => self.text(&text.xml10_content()),
            Event::CData(text) => self.text(&text.xml10_content()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref()? {
                Some(character) => self.text(character.encode_utf8(&mut [0; 4])),
                None => self.text(predefined(reference)?),
            },
            Event::DocType(definition) if definition.contains('[') => Err(stop(
                "it defines entities or the like of its own (`<!DOCTYPE … [`), and these are refused",
            )),
            Event::DocType(_)
            | Event::Decl(_)
            | Event::PI(_)
            | Event::Comment(_)
            | Event::Empty(_)
            | Event::Eof => Ok(()),
        }
    }

    fn begin(&mut self, start: &BytesStart<'_>) -> Result<(), Stop> {
        if self.root.is_some() {
            return Err(stop("a second outermost element begins"));
        }
        if self.open.len() >= LEVELS_MAX {
            return Err(Stop::Invalid(format!("nested deeper than {LEVELS_MAX}")));
        }
        if let Some(parent) = self.open.last_mut() {
            parent.flush()?;
        }
        let name = start.name().into_inner();
        room_for(ELEMENT_BYTES + name.len())?;
        let mut attributes = Map::new();
        for attribute in start.attributes() {
            let attribute = attribute.map_err(quick_xml::Error::from)?;
            if attributes.len() >= ATTRIBUTES_MAX {
                return Err(Stop::Invalid(format!(
                    "an element has more than {ATTRIBUTES_MAX} attributes"
                )));
            }
            let name = attribute.key.into_inner();
            room_for(ATTRIBUTE_BYTES + 2 * (name.len() + attribute.value.len()))?;
            let value = attribute.normalized_value(XmlVersion::Explicit1_0)?;
            check(&value)?;
            attributes.insert(name.into(), ImmutableString::from(&*value).into());
        }
        self.open.push(Element {
            name: name.into(),
            attributes,
            children: Array::new(),
            has_elements: false,
            run: Buffer::new(usize::MAX),
        });
        Ok(())
    }

    fn text(&mut self, text: &str) -> Result<(), Stop> {
        check(text)?;
        match self.open.last_mut() {
            Some(element) => element.run.push_str(text).map_err(|_| Stop::Memory),
            None if text.trim().is_empty() => Ok(()),
            None => Err(stop("text stands outside of the outermost element")),
        }
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(element) = self.open.pop() else {
            return Err(stop("an element ends that never began"));
        };
        let value = element.into_value()?;
        match self.open.last_mut() {
            Some(parent) => {
                parent.has_elements = true;
                parent.children.push(value);
            }
            None => self.root = Some(value),
        }
        Ok(())
    }

    fn end(self) -> Result<Dynamic, Stop> {
        match (self.open.last(), self.root) {
            (None, Some(root)) => Ok(root),
            (None, None) => Err(stop("there is no element in it")),
            (Some(open), _) => {
                let name: String = open.name.chars().take(SAID_MAX / 4).collect();
                Err(Stop::Invalid(format!("`<{name}>` is never closed")))
            }
        }
    }
}

impl Element {
    /// Makes a child of the text since the last tag.
    fn flush(&mut self) -> Result<(), Stop> {
        let run = std::mem::replace(&mut self.run, Buffer::new(usize::MAX)).into_text();
        if !run.trim().is_empty() {
            self.children.push(shared(run)?.into());
        }
        Ok(())
    }

    fn into_value(mut self) -> Result<Dynamic, Stop> {
        self.flush()?;
        let text = self.whole_text()?;
        if !self.has_elements {
            self.children.clear();
        }
        let mut map = Map::new();
        map.insert("name".into(), self.name.into());
        map.insert("attributes".into(), self.attributes.into());
        map.insert("text".into(), text.into());
        map.insert("children".into(), self.children.into());
        Ok(map.into())
    }

    /// Its own text without that of its children, and without white space at its ends.
    fn whole_text(&self) -> Result<ImmutableString, Stop> {
        let mut text = Buffer::new(usize::MAX);
        for child in &self.children {
            if let Some(part) = child.read_lock::<ImmutableString>() {
                text.push_str(&part).map_err(|_| Stop::Memory)?;
            }
        }
        let text = text.into_text();
        let trimmed = text.trim();
        if trimmed.len() == text.len() { shared(text) } else { shared(trimmed.to_owned()) }
    }
}

fn shared(text: String) -> Result<ImmutableString, Stop> {
    room_for(text.len())?;
    Ok(text.into())
}

fn room_for(bytes: usize) -> Result<(), Stop> {
    reserve(bytes).map_err(|_| Stop::Memory)
}

/// The five that every document has.
fn predefined(name: &str) -> Result<&'static str, Stop> {
    quick_xml::escape::resolve_predefined_entity(name).ok_or_else(|| {
        let name: String = name.chars().take(SAID_MAX / 4).collect();
        Stop::Invalid(format!("the entity `&{name};` is not known; only `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&apos;` and numbers such as `&#8217;` are"))
    })
}

fn check(text: &str) -> Result<(), Stop> {
    check_characters(text).map_err(|character| Stop::Invalid(no_character(character)))
}

fn stop(why: &str) -> Stop {
    Stop::Invalid(why.to_owned())
}

/// `before` is the text up to where it is.
fn invalid(before: &str, why: &str) -> Box<EvalAltResult> {
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    thrown("INVALID_XML", &format!("line {line}: {why}"))
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::{check, run_with};

    fn reads(text: &str, expected: &str) {
        check(&format!("xml::parse(`{text}`)"), expected);
    }

    fn refuses(text: &str, expected: &str) {
        reads(text, &format!("INVALID_XML: {expected}"));
    }

    #[test]
    fn an_element_is_a_map_of_its_parts() {
        reads(
            "<a x='1' y=\"&lt;2&gt;\"><b>one</b><c/><b>two</b></a>",
            r##"#{"attributes": #{"x": "1", "y": "<2>"}, "children": [#{"attributes": #{}, "children": [], "name": "b", "text": "one"}, #{"attributes": #{}, "children": [], "name": "c", "text": ""}, #{"attributes": #{}, "children": [], "name": "b", "text": "two"}], "name": "a", "text": ""}"##,
        );
        reads(
            "<p>Hello <b>big</b> world<!-- no --> &amp; &#8217;<![CDATA[<x>]]></p>",
            r##"#{"attributes": #{}, "children": ["Hello ", #{"attributes": #{}, "children": [], "name": "b", "text": "big"}, " world & ’<x>"], "name": "p", "text": "Hello  world & ’<x>"}"##,
        );
        check(
            "xml::parse(`\u{feff}<?xml version='1.0' encoding='UTF-8'?><!DOCTYPE html><?pi x?><a>\r\n x\r\ny \r\n</a>\n`).text",
            r#""x\ny""#,
        );
        check("xml::parse(\"<a/>\".to_blob()).name", "\"a\"");
    }

    #[test]
    fn what_is_no_document_says_on_which_line() {
        refuses(
            "<a>\n<b>\n</a>",
            "line 3: ill-formed document: expected `</b>`, but `</a>` was found",
        );
        refuses("<a>\n<b></b>", "line 2: `<a>` is never closed");
        refuses("", "line 1: there is no element in it");
        refuses("hello", "line 1: text stands outside of the outermost element");
        refuses("<a/>\nx", "line 2: text stands outside of the outermost element");
        refuses("<a/>\n<b/>", "line 2: a second outermost element begins");
        refuses(
            "<a>&nbsp;</a>",
            "line 1: the entity `&nbsp;` is not known; only `&amp;`, `&lt;`, `&gt;`, `&quot;`, `&apos;` and numbers such as `&#8217;` are",
        );
        refuses(
            "<a>&#0;</a>",
            "line 1: invalid character reference: 0x0 character is not permitted in XML",
        );
        refuses("<a>&#1;</a>", "line 1: the character U+0001 cannot stand in XML");
        check(
            "xml::parse(\"<a b='\\x01'/>\")",
            "INVALID_XML: line 1: the character U+0001 cannot stand in XML",
        );
        check(
            "let b = \"<a>  </a>\".to_blob(); b[4] = 255; xml::parse(b)",
            "INVALID_XML: line 1: it is not UTF-8 text",
        );
        check(
            "xml::parse(())",
            "INVALID_ARGUMENT: a string or a blob is needed, not (); is the field missing?",
        );
        for text in [
            "<",
            "<a",
            "<a b/>",
            "<a b=c/>",
            "<a x='1' x='2'/>",
            "</a>",
            "<!--",
            "<![CDATA[",
            "<a>&</a>",
            "<a b='&x;'/>",
        ] {
            let shown = crate::script::builtins::testing::run(&format!("xml::parse(`{text}`)"));
            assert!(shown.starts_with("INVALID_XML: line 1: "), "{text}: {shown}");
        }
    }

    #[test]
    fn s20_no_document_grows_beyond_its_text_or_the_budget() {
        let laughs = "<!DOCTYPE l [<!ENTITY a \"ha\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
        refuses(
            laughs,
            "line 1: it defines entities or the like of its own (`<!DOCTYPE … [`), and these are refused",
        );
        let nested = |levels: usize| format!("{}{}", "<a>".repeat(levels), "</a>".repeat(levels));
        check(&format!("xml::parse(`{}`).name", nested(127)), "\"a\"");
        refuses(&nested(128), "line 1: nested deeper than 127");
        let many: String = (0..1001).map(|n| format!(" a{n}=''")).collect();
        refuses(&format!("<a{many}/>"), "line 1: an element has more than 1000 attributes");
        let long = "let s = \"<a>\"; s.pad(200000, 'x'); s += \"</a>\"; xml::parse(s)";
        assert_eq!(run_with(150_000, long), "ended: Memory");
        assert_eq!(run_with(1_000, "xml::parse(\"<a/>\")"), "ended: Memory");
    }
}
