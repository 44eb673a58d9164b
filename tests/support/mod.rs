//! What every test here stands on: a project in a temporary folder, the real binary started in it, senders that sign, and waiting for conditions.

mod canary;
mod eventually;
mod events;
mod http;
mod inbox;
mod rhaiway;
#[cfg(debug_assertions)]
mod clock;
mod issuer;
mod sender;
mod admin;
mod stand_in;
pub(crate) mod upstream;

pub(crate) use admin::{admin, replay};
pub(crate) use canary::{no_canary, no_canary_below, no_secret};
#[cfg(debug_assertions)]
pub(crate) use clock::Clock;
pub(crate) use events::{event, events};
pub(crate) use eventually::eventually;
pub(crate) use http::{Connection, Response, read_until, render, request};
pub(crate) use issuer::{ISSUER, KeyServer, PUBLIC_PEM, Publishes, SigningKey, encode};
pub(crate) use rhaiway::{Project, Rhaiway};
pub(crate) use sender::{SECRET, Signed, clerk_event, now, signed, signed_at};
pub(crate) use stand_in::{StandIn, pay, token};

mod table;
pub(crate) use table::{check_rows, check_rows_of, logged, routes};
