//! Timers: when an `every` of a script is due, its event is committed together with the note from when on the next one counts. A timer has one event at
//! work at a time; one that was missed, however often, is made up once.
//!
//! Times are those of the wall clock. Where it was set back, intervals count from now, and what cron has run already is not run again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::Notes;
use crate::clock::{self, Millis};
use crate::generation::Generation;
use crate::id::EventId;
use crate::script::api::event;
use crate::script::handler::Timer;
use crate::store::{Fired, Firing, NewEvent, Store, StoreError};

/// The longest sleep: what was missed while the machine slept is found then.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// After an error of the store.
const PAUSE: Duration = Duration::from_secs(1);

/// Looks after all of them, for the whole process.
pub(crate) struct Timers {
    store: Arc<dyn Store>,
    notes: Arc<Notes>,
    current: Arc<ArcSwap<Generation>>,
    /// From when on the next occurrence of each counts; `None` before the store was asked.
    known: Option<BTreeMap<Box<str>, Millis>>,
}

impl Timers {
    /// Nothing fires before `run`.
    pub(crate) fn new(
        store: &Arc<dyn Store>,
        notes: &Arc<Notes>,
        current: &Arc<ArcSwap<Generation>>,
    ) -> Self {
        Self {
            store: Arc::clone(store),
            notes: Arc::clone(notes),
            current: Arc::clone(current),
            known: None,
        }
    }

    /// Until the runtime stops; `swapped` tells of new generations.
    pub(crate) async fn run(mut self, mut swapped: watch::Receiver<u64>) {
        let mut clocks = clock::Watch::new();
        while !self.notes.is_stopping() {
            // What changes from here on wakes us again at once.
            swapped.mark_unchanged();
            let pause = match self.look().await {
                Ok(pause) => pause,
                Err(error) => {
                    tracing::error!("timers cannot be looked after: {error}");
                    PAUSE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.notes.any_timer_ended() => {}
                () = self.notes.stopped() => {}
                () = clocks.moved() => {}
                swapped = swapped.changed() => if swapped.is_err() { return },
            }
        }
    }

    /// Fires what is due; how long it may take until there is more.
    async fn look(&mut self) -> Result<Duration, StoreError> {
        let generation = self.current.load_full();
        self.learn(&generation).await?;
        let mut pause = LOOK_AGAIN;
        for (source, timer) in generation.timers() {
            if let Some(next) = self.fire_if_due(&source, timer).await? {
                pause = pause.min(clock::now().until(next));
            }
        }
        Ok(pause)
    }

    /// A timer that is new counts from now; one that no script has any more is forgotten.
    async fn learn(&mut self, generation: &Generation) -> Result<(), StoreError> {
        if self.known.is_none() {
            self.known = Some(self.store.timers().await?.into_iter().collect());
        }
        let known = self.known.get_or_insert_default();
        let gone = |timer: &str| {
            let of = |script: &Arc<str>| timer.starts_with(&format!("every:{script}/"));
            !generation.timers().any(|(source, _)| *source == *timer)
                && !generation.broken.iter().any(of)
        };
        let gone: Vec<Box<str>> = known.keys().filter(|timer| gone(timer)).cloned().collect();
        for timer in gone {
            self.store.forget_timer(&timer).await?;
            known.remove(&timer);
        }
        for (source, _) in generation.timers() {
            if !known.contains_key(&*source) {
                let (timer, counts_from) = (Box::from(&*source), clock::now());
                let seen = Firing { timer, counts_from, event: None };
                self.store.fire(seen).await?;
                known.insert((*source).into(), counts_from);
            }
        }
        Ok(())
    }

    /// When it is to be looked at next; `None`: when its event at work has ended, or never.
    async fn fire_if_due(
        &mut self,
        source: &str,
        timer: &Timer,
    ) -> Result<Option<Millis>, StoreError> {
        let Some(known) = self.known.as_mut().and_then(|known| known.get_mut(source)) else {
            return Ok(None);
        };
        loop {
            let now = clock::now();
            *known = (*known).min(now);
            let Some(next) = timer.schedule.next_after(*known) else { return Ok(None) };
            if next > now {
                return Ok(Some(next));
            }
            let event = occurrence(source, timer, next, now);
            let firing = Firing { timer: source.into(), counts_from: now, event: Some(event) };
            match self.store.fire(firing).await? {
                Fired::New(seq) => {
                    *known = now;
                    self.notes.overflow(seq, &source.into());
                }
                Fired::Noted => *known = now,
                Fired::Busy => return Ok(None),
            }
        }
    }
}

/// The event of one occurrence. By cron it is known by its time, so that none comes twice where the clock is set back.
fn occurrence(source: &str, timer: &Timer, due: Millis, now: Millis) -> NewEvent {
    let by_cron = timer.schedule.is_cron();
    NewEvent {
        id: EventId(clock::uuid()),
        webhook: source.into(),
        delivery_id: by_cron.then(|| due.to_string().into()),
        // One at a time.
        order_key: Some("".into()),
        kind: timer.expression.as_ref().into(),
        received_at: now,
        request: event::origin("timer", source),
        body: format!("{{\"scheduled_at\":{}}}", due.0).into_bytes().into(),
        replay_of: None,
    }
}
