//! `rhaiway docs CODE`: what an error code means.

use super::Exit;
use super::output::Output;
use crate::catalogue;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The code, such as E0201; without it all codes are listed
    code: Option<String>,
}

/// Prints the page, or the list.
pub(super) fn run(output: &Output, arguments: &Arguments) -> anyhow::Result<Exit> {
    let Some(code) = &arguments.code else {
        for code in catalogue::codes() {
            let heading =
                catalogue::page(code).and_then(|page| page.lines().next()).unwrap_or(code);
            output.data(heading.trim_start_matches("# "));
        }
        return Ok(Exit::Fine);
    };
    match catalogue::page(&code.to_uppercase()) {
        Some(page) => {
            output.data(page.trim_end());
            Ok(Exit::Fine)
        }
        None => anyhow::bail!(
            "there is no code `{}`; `rhaiway docs` lists those that exist",
            code.escape_debug()
        ),
    }
}
