//! What the documents show is true: every script in them passes `rhaiway check`, as a reader would find out.
//!
//! A block marked `rhai` is a script of its own. One marked `rhai,fragment` is not run: it shows a piece, or what is refused.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::Project;

/// Webhooks and values that the documents speak of.
const CONFIG: &str = r#"
[webhooks.clerk]
path = "/api/webhooks/clerk"
scheme = "svix"
secret_env = "CLERK_WEBHOOK_SECRET"

[auth.clerk]
kind = "clerk"
issuer = "https://clerk.example.com"

[webhooks.shop]
path = "/api/webhooks/shop"
scheme = "standard-webhooks"
secret_env = "CLERK_WEBHOOK_SECRET"

[auth.app]
kind = "token"
token_env = "CLERK_WEBHOOK_SECRET"

[providers.openai]
kind = "http"
base_url = "https://api.openai.com/v1"

[providers.slack]
kind = "http"
base_url = "https://slack.com/api"

[providers.weather]
kind = "http"
base_url = "https://weather.example.com"

[vars]
support_email = "help@example.com"
"#;

/// The module that examples import.
const MONEY: &str = "fn in_cents(text) { (parse_float(text) * 100.0).round().to_int() }";

/// README.md and docs/*.md, those that are there.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = fs::read_dir(root.join("docs")).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = pages
        .map(|entry| entry.path())
        .chain([root.join("README.md")])
        .filter(|path| path.is_file() && path.extension().is_some_and(|kind| kind == "md"))
        .collect();
    found.sort();
    found
}

/// The blocks of a language, each with the line on which it starts.
fn blocks(text: &str, language: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut open: Option<(bool, usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some((info.trim() == language, index + 2, String::new())),
            (Some(_), Some(_)) => {
                if let Some((true, start, block)) = open.take() {
                    found.push((start, block));
                }
            }
            (Some((_, _, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    found
}

#[test]
fn every_script_in_the_documents_passes_check() {
    let mut checked = 0;
    for path in documents() {
        let text = fs::read_to_string(&path).expect("it can be read");
        for (line, block) in blocks(&text, "rhai") {
            let project = Project::with_config(CONFIG, &block);
            project.write("scripts/lib/money.rhai", MONEY);
            let output = project.run(&["check", "--json"]);
            let said = String::from_utf8_lossy(&output.stdout);
            // A webhook of the config above that this one example does not handle is no fault of it.
            let others: Vec<&str> =
                said.lines().filter(|frame| !frame.contains("\"E0228\"")).collect();
            let place = format!("{}:{line}", path.display());
            assert!(
                output.status.success() && others.is_empty(),
                "{place}: {others:#?}\n{}",
                String::from_utf8_lossy(&output.stderr)
            );
            checked += 1;
        }
    }
    assert!(checked > 0, "the documents show scripts");
}

#[test]
fn the_page_of_the_configuration_shows_the_file_that_ships() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/configuration.md")).expect("the page");
    let shipped = fs::read_to_string(root.join("config.toml")).expect("the file");
    let shown = blocks(&page, "toml");
    assert_eq!(shown.len(), 1, "one block is the whole file");
    assert!(shown[0].1 == shipped, "docs/configuration.md is not config.toml as it ships");
}

#[test]
fn every_direct_dependency_has_its_reason_in_the_architecture() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("the manifest");
    let architecture = fs::read_to_string(root.join("ARCHITECTURE.md")).expect("the page");
    let reasons = architecture.split("## Dependencies").nth(1).expect("it says why");
    let mut named = 0;
    for section in ["[dependencies]", "[dev-dependencies]"] {
        let listed = manifest.split(section).nth(1).expect("the section");
        for line in listed.lines().skip(1).take_while(|line| !line.starts_with('[')) {
            if let Some((name, _)) = line.split_once(" = ") {
                assert!(reasons.contains(&format!("`{name}`")), "{name} has no reason");
                named += 1;
            }
        }
    }
    assert!(named > 30, "only {named} were found");
}
