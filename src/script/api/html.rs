//! `html::…`: text that may stand in HTML, and back.

use rhai::{ImmutableString, Module};

use super::Signature;
use crate::script::builtins::ending::Fallible;
use crate::script::builtins::set;
use crate::script::value::build;

pub(super) const SIGNATURES: [Signature; 2] = [
    Signature {
        name: "html::escape",
        parameters: "text",
        returns: "string",
        does: "Makes text safe inside an element or a quoted attribute",
    },
    Signature {
        name: "html::unescape",
        parameters: "text",
        returns: "string",
        does: "Undoes `escape`, and reads numeric references such as `&#8217;`",
    },
];

/// Each character that is escaped, and its name.
const NAMED: [(char, &str); 5] =
    [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&#39;")];
/// Names that come from elsewhere.
const FOREIGN: [(char, &str); 2] = [('\'', "&apos;"), ('\u{a0}', "&nbsp;")];

pub(super) fn module() -> Module {
    let mut module = Module::new();
    set(&mut module, "escape", escape);
    set(&mut module, "unescape", unescape);
    module
}

fn escape(text: &str) -> Fallible<ImmutableString> {
    let name_of = |character| NAMED.iter().find(|(plain, _)| *plain == character);
    build(|buffer| {
        let mut rest = text;
        while let Some(at) = rest.find(|character| name_of(character).is_some()) {
            buffer.push_str(&rest[..at])?;
            let mut characters = rest[at..].chars();
            if let Some((_, name)) = characters.next().and_then(name_of) {
                buffer.push_str(name)?;
            }
            rest = characters.as_str();
        }
        buffer.push_str(rest)
    })
}

fn unescape(text: &str) -> Fallible<ImmutableString> {
    build(|buffer| {
        let mut rest = text;
        while let Some(at) = rest.find('&') {
            buffer.push_str(&rest[..at])?;
            rest = &rest[at..];
            let (character, length) = reference(rest).unwrap_or(('&', 1));
            buffer.push(character)?;
            rest = &rest[length..];
        }
        buffer.push_str(rest)
    })
}

/// The character that the text begins with as a reference, and the reference's length.
fn reference(text: &str) -> Option<(char, usize)> {
    let known = NAMED.iter().chain(&FOREIGN).find(|(_, name)| text.starts_with(name));
    if let Some((character, name)) = known {
        return Some((*character, name.len()));
    }
    // The longest number, `&#x10ffff;`, has 10 characters.
    let end = text.bytes().take(10).position(|byte| byte == b';')?;
    let digits = text[..end].strip_prefix("&#")?;
    let code = match digits.strip_prefix(['x', 'X']) {
        Some(digits) => u32::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some((char::from_u32(code)?, end + 1))
}

#[cfg(test)]
mod tests {
    use crate::script::builtins::testing::{check, run_with};

    #[test]
    fn text_is_escaped_and_back() {
        check("html::escape(`<a href=\"x\">'&é`)", r#""&lt;a href=&quot;x&quot;&gt;&#39;&amp;é""#);
        check(
            "html::unescape(\"&lt;&gt;&amp;&quot;&#39;&apos;&nbsp;&#8217;&#x2019;&#X41;\")",
            "\"<>&\\\"''\\u{a0}’’A\"",
        );
        check(
            "html::unescape(\"& &x; &#; &#x110000; &#55296; &amp;lt; &#99999999999; &\")",
            "\"& &x; &#; &#x110000; &#55296; &lt; &#99999999999; &\"",
        );
        check("html::unescape(html::escape(\"<&>'\\\"é\"))", r#""<&>'\"é""#);
        assert_eq!(
            run_with(1000, "let s = \"\"; s.pad(300, '<'); html::escape(s)"),
            "ended: Memory"
        );
    }
}
