//! What `rhaiway run` says on a terminal once it serves: one screen of 80 columns with what it serves, what is missing, and what to type next.

use std::net::SocketAddr;

use super::output::harmless;
use crate::config::{Config, Environment, Variable};
use crate::generation::Generation;
use crate::script::handler::Trigger;
use crate::webhook::sample;

/// Lines of a screen, without the one on which the cursor is left.
const LINES_MAX: usize = 23;
/// Rows of the table that are shown in any case.
const ROWS_MIN: usize = 4;
/// Columns of a screen.
const COLUMNS_MAX: usize = 80;
/// Variables that are not set and have a line each; more of them are only named.
const EXPLAINED_MAX: usize = 2;
/// Served whatever config and scripts say.
const BUILT_IN_ROWS: [(&str, &str); 2] =
    [("/healthz", "is it alive"), ("/readyz", "can it take deliveries")];
/// Characters of a path; what stands beside it starts in the same column up to here.
const PATH_MAX: usize = 40;

/// The screen, without a line feed at its end. `program` is how the reader called it.
pub(super) fn screen(
    config: &Config,
    generation: &Generation,
    address: SocketAddr,
    program: &str,
) -> String {
    let mut lines = vec![
        String::new(),
        format!("Rhaiway {} serves http://{address}", env!("CARGO_PKG_VERSION")),
    ];
    if let Some(url) = &config.server.public_url {
        lines.push(format!("The world reaches it at {url}"));
    }
    lines.push(String::new());
    let rest = rest(config, generation, program);
    let rows_max = LINES_MAX.saturating_sub(lines.len() + rest.len() + BUILT_IN_ROWS.len());
    lines.extend(table(generation, rows_max.max(ROWS_MIN)));
    lines.extend(rest);
    lines.join("\n")
}

/// What stands below the table.
fn rest(config: &Config, generation: &Generation, program: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let folder = config.scripts.dir.display();
    if generation.scripts.is_empty() && generation.broken.is_empty() {
        lines.push(format!(
            "No scripts yet: save one as {folder}/NAME.rhai, and it serves at once."
        ));
    } else {
        lines.push(format!("Scripts in {folder}/ are reloaded when you save them. Ctrl-C stops."));
    }
    if !generation.broken.is_empty() {
        let names = generation.broken.join(", ");
        lines
            .push(format!("Serve nothing until they load: {} (see above).", harmless(&names, 200)));
    }
    lines.extend(missing(config));
    lines.extend(next(config, generation, program));
    lines.push(String::new());
    lines
}

fn table(generation: &Generation, rows_max: usize) -> Vec<String> {
    let mut rows: Vec<(&str, String, String)> = Vec::new();
    for webhook in &generation.webhooks {
        rows.push(("POST", harmless(&webhook.path, PATH_MAX), format!("webhook {}", webhook.name)));
    }
    for script in &generation.scripts {
        for handler in &script.handlers {
            if let Trigger::Route { method, path } = &handler.trigger {
                rows.push((method.word(), harmless(path, PATH_MAX), script.path.to_string()));
            }
        }
    }
    // A word on those that are not shown takes the line of one.
    let shown = if rows.len() > rows_max { rows_max - 1 } else { rows.len() };
    let more = rows.len() - shown;
    rows.truncate(shown);
    rows.extend(BUILT_IN_ROWS.map(|(path, what)| ("GET", path.to_owned(), what.to_owned())));
    let width = rows.iter().map(|(_, path, _)| path.chars().count()).max().unwrap_or(0);
    let mut lines: Vec<String> = rows
        .iter()
        .map(|(method, path, what)| format!("  {method:<6} {path:<width$}  {what}"))
        .collect();
    if more > 0 {
        lines.push(format!("  … and {more} more routes"));
    }
    lines
}

/// Variables without which something does not work. Their values are nowhere here.
fn missing(config: &Config) -> Vec<String> {
    let unusable = config.variables.iter().filter_map(|variable| {
        let (why, source) = (variable.unusable.as_ref()?, variable.source.as_ref()?);
        Some(format!("Not used: {} from {source} ({}): {why}.", variable.name, variable.purpose))
    });
    let mut lines: Vec<String> = unusable.collect();
    let is_unset = |variable: &&Variable| variable.required && variable.source.is_none();
    let unset: Vec<&Variable> = config.variables.iter().filter(is_unset).collect();
    if unset.len() <= EXPLAINED_MAX {
        let line =
            |variable: &&Variable| format!("Not set: {} ({}).", variable.name, variable.purpose);
        lines.extend(unset.iter().map(line));
    } else {
        lines.push("Not set yet; what needs one of these says so, and the rest works:".to_owned());
        lines.extend(wrapped(unset.iter().map(|variable| &*variable.name)));
    }
    lines
}

/// Words in lines of a screen, each a little to the right.
fn wrapped<'a>(words: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        match lines.last_mut() {
            Some(line) if line.len() + word.len() < COLUMNS_MAX => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(format!("  {word}")),
        }
    }
    lines
}

/// What to type next, so that it can be copied: a secret to try with, or a sample event.
fn next(config: &Config, generation: &Generation, program: &str) -> Vec<String> {
    let configured = generation.webhooks.iter().find(|webhook| webhook.is_configured());
    let Some(webhook) = configured.or(generation.webhooks.first()) else { return Vec::new() };
    let kind = sample::kinds(&webhook.name).next().unwrap_or("TYPE");
    let send = format!("  {program} send {} {kind}", webhook.name);
    if configured.is_some() {
        return vec![
            String::new(),
            "Try it, in another terminal:".to_owned(),
            send,
            format!("  {program} events"),
        ];
    }
    let Some(variable) = webhook.unset.first() else { return Vec::new() };
    let heading = match config.server.environment {
        Environment::Development => {
            "To try it, set a webhook's secret, the sender's or one of your own:"
        }
        Environment::Production => {
            "Set it in .env, which is read at once, or in the environment before a start."
        }
    };
    let mut lines = vec![String::new(), heading.to_owned()];
    if config.server.environment == Environment::Development {
        lines.push(format!("  echo {variable}=whsec_$(openssl rand -base64 24) >> .dev.vars"));
    }
    lines.extend(["Then, in another terminal:".to_owned(), send]);
    lines
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::cli::schemes;
    use crate::config::{self, How};
    use crate::runtime;
    use crate::runtime::reload::Reloader;

    #[test]
    fn the_first_screen_of_what_ships_fits_80_columns_and_24_lines() {
        let how = How { development: true, known_schemes: &schemes() };
        // As it is typed in the folder of the project, which is where tests run.
        let config = Arc::new(config::load(Path::new("config.toml"), how).unwrap());
        let (webhooks, _) = runtime::webhooks(&config);
        let mut reloader = Reloader::new(&config, &webhooks, &Arc::default()).unwrap();
        let generation = reloader.look().0.unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], 8080));
        let screen = screen(&config, &generation, address, "target/release/rhaiway");
        // The last line feed leaves the cursor on a line of its own.
        assert!(screen.lines().count() < 24, "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
        for part in ["/api/webhooks/stripe", "/api/me", "/api/chat", "OPENAI_API_KEY", "send clerk"]
        {
            assert!(screen.contains(part), "{part}:\n{screen}");
        }
    }

    #[test]
    fn names_that_are_many_go_on_in_the_next_line() {
        let word = "A".repeat(38);
        let lines = wrapped([&*word, &*word, &*word].into_iter());
        assert_eq!(lines, [format!("  {word} {word}"), format!("  {word}")]);
        assert!(lines[0].len() < COLUMNS_MAX);
    }
}
