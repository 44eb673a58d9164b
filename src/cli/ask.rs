//! Where commands look for events: in the running instance, or in its file where none runs.

use super::output::Output;
use crate::admin::client::{AskError, Client, Page};
use crate::admin::query::{LIMIT_MAX, go_on_after};
use crate::admin::wire;
use crate::config::Config;
use crate::id::EventId;
use crate::store::EventQuery;
use crate::store::sqlite::{ReadOnly, open_read_only};

/// Whom to ask.
pub(super) enum Asked {
    Instance(Client),
    File(Box<ReadOnly>),
}

impl Asked {
    /// The running instance if there is one.
    pub(super) async fn of(config: &Config) -> anyhow::Result<Self> {
        let client = Client::new(&config.admin.socket)?;
        let probe = EventQuery { limit: 1, ..EventQuery::default() };
        match client.events(&probe).await {
            Err(AskError::NotRunning) => {
                Ok(Self::File(Box::new(open_read_only(&config.storage.path)?)))
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(Self::Instance(client)),
        }
    }

    /// A page, perhaps an empty one though more follow.
    pub(super) async fn page(&self, query: &EventQuery) -> anyhow::Result<Page> {
        match self {
            Self::Instance(client) => Ok(client.events(query).await?),
            Self::File(file) => {
                let page = file.events(query)?;
                Ok(Page {
                    events: page.events.iter().map(wire::Event::from).collect(),
                    next: page.next,
                })
            }
        }
    }

    /// One with everything about it, if it is there.
    pub(super) async fn event(&self, id: EventId) -> anyhow::Result<Option<wire::EventDetail>> {
        match self {
            Self::Instance(client) => match client.event(id).await {
                Ok(detail) => Ok(Some(detail)),
                Err(AskError::Refused { status: 404, .. }) => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::File(file) => Ok(file.event(id)?.as_ref().map(wire::EventDetail::from)),
        }
    }

    /// So many, however many questions that takes. A search that goes on for long says so.
    pub(super) async fn events(
        &self,
        output: &Output,
        mut query: EventQuery,
    ) -> anyhow::Result<Vec<wire::Event>> {
        /// Questions after which a person would like to know that it goes on: some seconds.
        const QUESTIONS_UNSAID: usize = 50;
        let (limit, mut events) = (query.limit, Vec::new());
        for question in 1.. {
            query.limit = (limit - events.len()).min(LIMIT_MAX);
            let page = self.page(&query).await?;
            events.extend(page.events);
            if events.len() >= limit || page.next.is_none() {
                break;
            }
            go_on_after(&mut query, page.next);
            if question == QUESTIONS_UNSAID && output.is_terminal {
                output.say("still looking; `--since` and `--until` make it shorter");
            }
        }
        Ok(events)
    }
}
