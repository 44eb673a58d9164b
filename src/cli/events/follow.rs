//! `rhaiway events --follow`: what is stored, then new events as they come and what becomes of them, until Ctrl-C. It asks twice a second and holds a bounded
//! list of events that may still change. An instance that stops is waited for, and nothing that came meanwhile is left out.

use std::collections::{HashSet, VecDeque};
use std::future::pending;
use std::time::Duration;

use super::super::Exit;
use super::super::output::{Output, harmless};
use super::{Arguments, CELL, short_time};
use crate::admin::client::{AskError, Client};
use crate::admin::query::{IDS_MAX, LIMIT_MAX, go_on_after};
use crate::admin::wire;
use crate::config::Config;
use crate::id::EventId;
use crate::store::{EventOrder, EventQuery, JobState};

/// Between two looks: soon for a person, and nothing for an instance.
const PAUSE: Duration = Duration::from_millis(500);
/// Events that are looked at again, `IDS_MAX` a look. The oldest is let go for a new one, and that is said.
const WATCHED_MAX: usize = 1_000;

/// Follows until Ctrl-C, or until nobody reads what is printed.
pub(super) async fn follow(
    output: &Output,
    config: &Config,
    arguments: &Arguments,
) -> anyhow::Result<Exit> {
    let stop = async {
        if tokio::signal::ctrl_c().await.is_err() {
            pending::<()>().await;
        }
    };
    let mut follower = Follower {
        client: Client::new(&config.admin.socket)?,
        output,
        arguments,
        has_begun: false,
        last: None,
        listed: HashSet::new(),
        watched: VecDeque::new(),
        is_away: false,
        has_let_go: false,
        is_read: true,
    };
    tokio::select! {
        () = stop => Ok(Exit::Fine),
        ended = follower.run() => ended.map(|()| Exit::Fine),
    }
}

struct Follower<'a> {
    client: Client,
    output: &'a Output,
    arguments: &'a Arguments,
    has_begun: bool,
    /// Every event up to this one has been looked at.
    last: Option<EventId>,
    /// Those of the page before, which may come once more.
    listed: HashSet<String>,
    /// Those that may still change, the one that was looked at longest ago first.
    watched: VecDeque<Watched>,
    /// Nobody answered the last question.
    is_away: bool,
    has_let_go: bool,
    /// Somebody takes what is printed.
    is_read: bool,
}

struct Watched {
    id: EventId,
    /// State and attempts, as they were when it was last looked at.
    was: (String, u32),
}

impl Follower<'_> {
    async fn run(&mut self) -> anyhow::Result<()> {
        while self.is_read {
            match self.look().await {
                Ok(()) if self.is_away => {
                    self.is_away = false;
                    self.output.say("the instance answers again");
                }
                Ok(()) => {}
                Err(error) if is_absence(&error) => self.say_away(),
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(PAUSE).await;
        }
        Ok(())
    }

    fn say_away(&mut self) {
        if !self.is_away {
            self.is_away = true;
            self.output.say("no running instance answers; waiting for one (`rhaiway run`)");
        }
    }

    async fn look(&mut self) -> Result<(), AskError> {
        if !self.has_begun {
            self.begin().await?;
            self.has_begun = true;
        }
        self.look_for_new().await?;
        self.look_again().await
    }

    /// What is stored already, the oldest first, so that what follows stands below it.
    async fn begin(&mut self) -> Result<(), AskError> {
        // Before the list: what comes between the two is in the list, and seen as such.
        let last = self.newest().await?;
        let query = self.query(EventOrder::NewestFirst);
        let mut events = self.list(query.clone()).await?;
        if query.state.is_some() {
            // Those that are in another state may come to be in this one.
            let others = EventQuery { state: None, limit: LIMIT_MAX, ..query };
            let others = self.list(others).await?;
            for event in &others {
                if !self.is_wanted(event) {
                    self.watch(event);
                }
            }
        }
        events.reverse();
        self.last = last;
        self.listed = events.iter().map(|event| event.id.clone()).collect();
        for event in events {
            self.take(&event);
        }
        Ok(())
    }

    async fn list(&self, mut query: EventQuery) -> Result<Vec<wire::Event>, AskError> {
        let (limit, mut events) = (query.limit, Vec::new());
        loop {
            query.limit = limit - events.len();
            let page = self.client.events(&query).await?;
            events.extend(page.events);
            if page.next.is_none() || events.len() >= limit {
                return Ok(events);
            }
            go_on_after(&mut query, page.next);
        }
    }

    async fn look_for_new(&mut self) -> Result<(), AskError> {
        let mut query = EventQuery { state: None, ..self.query(EventOrder::OldestFirst) };
        query.limit = LIMIT_MAX;
        loop {
            // Before the page: what comes between the two is in the page, and comes once more with the next one.
            let newest = self.newest().await?;
            if newest == self.last {
                return Ok(());
            }
            go_on_after(&mut query, self.last);
            let page = self.client.events(&query).await?;
            let seen = page.events.iter().map(|event| event.id.clone()).collect();
            let listed = std::mem::replace(&mut self.listed, seen);
            for event in page.events.into_iter().filter(|event| !listed.contains(&event.id)) {
                self.take(&event);
            }
            self.last = page.next.or(newest);
            if page.next.is_none() {
                return Ok(());
            }
        }
    }

    async fn newest(&self) -> Result<Option<EventId>, AskError> {
        let query = EventQuery { limit: 1, ..EventQuery::default() };
        let page = self.client.events(&query).await?;
        Ok(page.events.first().and_then(|event| event.id.parse().ok()))
    }

    /// What became of those that may still change.
    async fn look_again(&mut self) -> Result<(), AskError> {
        let count = self.watched.len().min(IDS_MAX);
        if count == 0 {
            return Ok(());
        }
        let ids: Vec<EventId> = self.watched.iter().take(count).map(|watched| watched.id).collect();
        let events = self.client.these(&ids).await?;
        let before: Vec<Watched> = self.watched.drain(..count).collect();
        // One that is not among them has been deleted.
        for event in events {
            let is_it = |watched: &&Watched| watched.id.to_string() == event.id;
            let was = before.iter().find(is_it).map(|watched| &watched.was);
            if was == Some(&standing(&event)) {
                self.watch(&event);
            } else {
                self.take(&event);
            }
        }
        Ok(())
    }

    /// Prints it where it is wanted, and remembers it where it may change.
    fn take(&mut self, event: &wire::Event) {
        if self.is_wanted(event) {
            self.print(event);
        }
        self.watch(event);
    }

    fn watch(&mut self, event: &wire::Event) {
        let Ok(id) = event.id.parse() else { return };
        // A dead letter may be replayed; what is done begins anew as another event.
        let is_over = [JobState::Done, JobState::Ignored].map(JobState::word);
        if is_over.contains(&&*event.state) {
            return;
        }
        if self.watched.len() >= WATCHED_MAX {
            self.watched.pop_front();
            if !self.has_let_go {
                self.has_let_go = true;
                self.output.say(&format!(
                    "more than {WATCHED_MAX} events wait; what becomes of the oldest is not shown"
                ));
            }
        }
        self.watched.push_back(Watched { id, was: standing(event) });
    }

    fn is_wanted(&self, event: &wire::Event) -> bool {
        self.arguments.narrow.state.is_none_or(|state| state.word() == event.state)
    }

    fn query(&self, order: EventOrder) -> EventQuery {
        EventQuery { order, limit: self.arguments.limit, ..self.arguments.narrow.query() }
    }

    fn print(&mut self, event: &wire::Event) {
        let line = if self.arguments.json {
            serde_json::to_string(event).unwrap_or_default()
        } else {
            line(event, self.output.width())
        };
        self.is_read &= self.output.try_data(&line);
    }
}

/// Nobody serves, or not for long: a start or a stop is under way.
fn is_absence(error: &AskError) -> bool {
    match error {
        AskError::NotRunning | AskError::Failed(_) => true,
        AskError::Refused { status, .. } => *status == 503,
        AskError::Client(_) => false,
    }
}

fn standing(event: &wire::Event) -> (String, u32) {
    (event.state.clone(), event.attempts)
}

/// Columns that are as wide for every event, since nobody knows what follows.
fn line(event: &wire::Event, width: Option<usize>) -> String {
    let wire::Event { received_at, id, state, webhook, kind, error, .. } = event;
    let line = format!(
        "{}  {id}  {state:<8}  {}  {}  {}",
        short_time(received_at),
        harmless(webhook, CELL),
        harmless(kind, CELL),
        harmless(error.as_deref().unwrap_or_default(), CELL)
    );
    let line = line.trim_end();
    match width {
        Some(width) if line.chars().count() > width => {
            let cut: String = line.chars().take(width.saturating_sub(1)).collect();
            format!("{cut}…")
        }
        _ => line.to_owned(),
    }
}
