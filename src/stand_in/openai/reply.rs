//! What the model that is none replies: it says back what it was told, calls a tool that the prompt names, and says so many words as it is asked for.
//! It never answers a question, so whoever reads it sees at once that no model was there.

use serde_json::{Map, Value, json};

use super::super::ids::Ids;

/// Words of one reply. A stream of 50 a second lasts for minutes.
const WORDS_MAX: usize = 10_000;
/// Of what was told, said back.
const TOLD_MAX: usize = 2_000;
/// Letters of one token, roughly, as OpenAI's own rule of thumb has it.
const LETTERS_PER_TOKEN: usize = 4;

/// Tokens of one exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) input: u32,
    pub(super) output: u32,
}

impl Usage {
    pub(super) fn total(self) -> u32 {
        self.input.saturating_add(self.output)
    }
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Words, each of which is a token and a piece of a stream; cut where `max_tokens` ended it.
    Text {
        pieces: Vec<String>,
        is_cut: bool,
    },
    Tools(Vec<Call>),
}

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) name: String,
    /// JSON, as text.
    pub(super) arguments: String,
}

impl Call {
    /// The arguments in pieces, as a stream brings them.
    pub(super) fn pieces(&self) -> impl Iterator<Item = String> {
        let letters: Vec<char> = self.arguments.chars().collect();
        let chunks: Vec<String> = letters.chunks(6).map(|chunk| chunk.iter().collect()).collect();
        chunks.into_iter()
    }
}

impl Reply {
    /// Tokens that it has.
    pub(super) fn tokens(&self) -> u32 {
        let count = match self {
            Self::Text { pieces, .. } => pieces.len(),
            Self::Tools(calls) => calls.iter().map(|call| 5 + call.pieces().count()).sum(),
        };
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

/// What was asked, of chat completions and of responses alike.
pub(super) struct Prompt<'a> {
    /// What the user said last.
    pub(super) text: &'a str,
    /// What a tool gave, where that is the last that was said.
    pub(super) tool_result: Option<&'a str>,
    /// Name and schema of each tool.
    pub(super) tools: Vec<(&'a str, &'a Value)>,
    /// `none`, `required`, or the name of a tool.
    pub(super) tool_choice: Option<&'a str>,
    pub(super) tokens_max: Option<u64>,
}

/// The reply to a prompt.
pub(super) fn to(prompt: &Prompt<'_>, ids: &mut Ids) -> Reply {
    if prompt.tool_result.is_none() {
        let wanted = |name: &str| match prompt.tool_choice {
            Some("none") => false,
            Some("auto") | None => prompt.text.contains(name),
            Some("required") => true,
            Some(chosen) => chosen == name,
        };
        let calls: Vec<Call> = prompt
            .tools
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(name, schema)| Call {
                id: ids.next("call_", 24),
                name: (*name).to_owned(),
                arguments: arguments(prompt.text, schema).to_string(),
            })
            .collect();
        if !calls.is_empty() {
            return Reply::Tools(calls);
        }
    }
    let mut pieces = words(prompt);
    let most =
        prompt.tokens_max.map_or(WORDS_MAX, |most| usize::try_from(most).unwrap_or(WORDS_MAX));
    let is_cut = pieces.len() > most;
    pieces.truncate(most);
    Reply::Text { pieces, is_cut }
}

/// Roughly, as whoever has no tokenizer counts.
pub(super) fn tokens(text: &str) -> u32 {
    u32::try_from(text.chars().count().div_ceil(LETTERS_PER_TOKEN)).unwrap_or(u32::MAX)
}

fn words(prompt: &Prompt<'_>) -> Vec<String> {
    if let Some(count) = prompt.tool_result.is_none().then(|| words_asked(prompt.text)).flatten() {
        return (1..=count.min(WORDS_MAX)).map(|number| format!("{} ", number)).collect();
    }
    let (start, told) = match prompt.tool_result {
        Some(result) => ("The tool said: ", result),
        None => ("You said: ", prompt.text),
    };
    let told: String = told.chars().take(TOLD_MAX).collect();
    format!("{start}{told}").split_inclusive(' ').map(str::to_owned).collect()
}

/// The number in front of `words`.
fn words_asked(text: &str) -> Option<usize> {
    let before = text.split_once(" words")?.0;
    before.rsplit(' ').next()?.parse().ok()
}

/// The object that the prompt holds, or whatever the schema requires.
fn arguments(text: &str, schema: &Value) -> Value {
    let given = text.find('{').zip(text.rfind('}')).and_then(|(start, end)| text.get(start..=end));
    if let Some(given) = given.and_then(|given| serde_json::from_str(given).ok()) {
        return given;
    }
    let required: Vec<&str> = schema["required"]
        .as_array()
        .map(|names| names.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let example = |name: &str| {
        let property = &schema["properties"][name];
        match property["enum"].get(0) {
            Some(first) => first.clone(),
            None => match property["type"].as_str() {
                Some("integer" | "number") => json!(1),
                Some("boolean") => json!(true),
                Some("array") => json!([]),
                Some("object") => json!({}),
                _ => json!("example"),
            },
        }
    };
    let examples: Map<String, Value> =
        required.into_iter().map(|name| (name.to_owned(), example(name))).collect();
    Value::Object(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, tokens_max: Option<u64>) -> (String, bool) {
        let prompt =
            Prompt { text, tool_result: None, tools: Vec::new(), tool_choice: None, tokens_max };
        match to(&prompt, &mut Ids::new(1)) {
            Reply::Text { pieces, is_cut } => (pieces.concat(), is_cut),
            Reply::Tools(calls) => panic!("{calls:?}"),
        }
    }

    #[test]
    fn it_says_back_what_it_was_told_or_so_many_words() {
        assert_eq!(said("hello  you", None), ("You said: hello  you".to_owned(), false));
        assert_eq!(said("hello you", Some(3)), ("You said: hello ".to_owned(), true));
        assert_eq!(said("write 4 words please", None), ("1 2 3 4 ".to_owned(), false));
        assert_eq!(said("in other words", None).0, "You said: in other words");
    }

    #[test]
    fn it_calls_a_tool_that_the_prompt_names_with_what_the_prompt_gives() {
        let schema = json!({ "required": ["city", "days"], "properties": { "city": { "type": "string" }, "days": { "type": "integer" } } });
        let check = |text: &str, tool_choice, expected: Option<&str>| {
            let tools = vec![("get_weather", &schema)];
            let prompt = Prompt { text, tool_result: None, tools, tool_choice, tokens_max: None };
            let called = match to(&prompt, &mut Ids::new(1)) {
                Reply::Tools(calls) => Some(calls[0].arguments.clone()),
                Reply::Text { .. } => None,
            };
            assert_eq!(called.as_deref(), expected, "{text}");
        };
        check(r#"get_weather {"city":"Paris"}"#, None, Some(r#"{"city":"Paris"}"#));
        check("get_weather please", None, Some(r#"{"city":"example","days":1}"#));
        check("hello", None, None);
        check("hello", Some("required"), Some(r#"{"city":"example","days":1}"#));
        check("get_weather", Some("none"), None);
        check("hello", Some("get_weather"), Some(r#"{"city":"example","days":1}"#));
    }
}
