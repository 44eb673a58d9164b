//! Stand-ins: Clerk, Stripe and OpenAI on localhost, for `rhaiway demo` and for tests. They answer as the published API references say: paths, keys,
//! states, errors, pages, streams. What they keep is in memory and bounded; nothing leaves this machine but webhooks that one is told to post.
//! An API is a function from a request to an answer, both plain data; `connection` is the only file that knows HTTP. `/_stand_in/` is how a test
//! tells it to misbehave and looks at what came.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpListener;

mod connection;
mod control;
mod behaviour;
mod request;
mod answer;
mod recorded;
mod webhook;
mod objects;
mod form;
mod multipart;
mod ids;

mod clerk;
mod stripe;
mod openai;

pub(crate) use self::behaviour::{Behaviour, Fail};

use self::answer::Answer;
use self::behaviour::Room;
use self::clerk::Clerk;
use self::ids::Ids;
use self::openai::OpenAi;
use self::recorded::Recorded;
use self::request::Request;
use self::stripe::Stripe;
use crate::clock::{self, Millis};

/// A third party that there is a stand-in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Name {
    /// Users, organisations, sessions and their tokens: <https://clerk.com/docs/reference/backend-api>.
    Clerk,
    /// Payments: <https://docs.stripe.com/api>.
    Stripe,
    /// Models: <https://platform.openai.com/docs/api-reference>.
    OpenAi,
}

impl Name {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Clerk, Self::Stripe, Self::OpenAi];

    /// As config names a provider's kind.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Clerk => "clerk",
            Self::Stripe => "stripe",
            Self::OpenAi => "openai",
        }
    }
}

/// What a stand-in begins with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Ids and whatever else is left to chance follow from it.
    pub(crate) seed: u64,
    /// How it misbehaves until it is told otherwise.
    pub(crate) behaviour: Behaviour,
}

/// A stand-in that has its port, and answers once it is served.
pub(crate) struct StandIn {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl StandIn {
    /// Takes the address; port 0 is a free one.
    pub(crate) async fn bind(
        name: Name,
        address: SocketAddr,
        settings: Settings,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let url = url(address);
        let api = match name {
            Name::Clerk => Api::Clerk(Clerk::new(&url, clock::now())),
            Name::Stripe => Api::Stripe(Stripe::new()),
            Name::OpenAi => Api::OpenAi(OpenAi::new()),
        };
        let state = State {
            api,
            ids: Ids::new(settings.seed),
            behaviour: settings.behaviour,
            recorded: Recorded::default(),
        };
        Ok(Self { listener, address, shared: Arc::new(Shared { name, state: Mutex::new(state) }) })
    }

    /// Where it answers, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        url(self.address)
    }

    /// Answers until it is dropped, and every connection with it.
    pub(crate) async fn serve(self) {
        connection::serve(&self.listener, &self.shared).await;
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// What all connections share. The lock is held while one answer is made, never while anything waits.
struct Shared {
    name: Name,
    state: Mutex<State>,
}

impl Shared {
    /// A panic under the lock would be a fault of one answer; the next one may still be right.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct State {
    api: Api,
    ids: Ids,
    behaviour: Behaviour,
    recorded: Recorded,
}

enum Api {
    Clerk(Clerk),
    Stripe(Stripe),
    OpenAi(OpenAi),
}

/// What an answer may depend on beside its request.
struct Moment {
    now: Millis,
    /// By the clock that measures.
    instant: Instant,
    /// The answer goes out so much later, and until then the request counts as being carried out.
    latency: Duration,
    /// What is left of a rate limit that it was told to have.
    room: Option<Room>,
}

impl Moment {
    /// Seconds since the epoch, as Stripe and OpenAI count.
    fn seconds(&self) -> i64 {
        self.now.0.div_euclid(1000)
    }
}

impl State {
    fn answer(&mut self, request: &Request, moment: &Moment) -> Answer {
        match &mut self.api {
            Api::Clerk(clerk) => clerk.answer(request, &mut self.ids, moment),
            Api::Stripe(stripe) => stripe.answer(request, &mut self.ids, moment),
            Api::OpenAi(openai) => openai.answer(request, &mut self.ids, moment),
        }
    }

    /// A failure of this status as the third party would word it.
    fn failure(&mut self, status: hyper::StatusCode) -> Answer {
        match &self.api {
            Api::Clerk(_) => clerk::failure(status, &mut self.ids),
            Api::Stripe(_) => stripe::failure(status, &mut self.ids),
            Api::OpenAi(_) => openai::failure(status, &mut self.ids),
        }
    }

    /// What it answers past a rate limit; there is room again after `wait`.
    fn limited(&mut self, wait: Duration) -> Answer {
        let answer = self.failure(hyper::StatusCode::TOO_MANY_REQUESTS);
        match &self.api {
            Api::Clerk(_) => clerk::limited(answer, wait),
            // Stripe says no moment.
            Api::Stripe(_) => answer,
            Api::OpenAi(_) => openai::limited(answer, wait),
        }
    }
}
