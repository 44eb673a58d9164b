//! What every test here stands on: a project in a temporary folder, the real binary started in it, senders that sign, and waiting for conditions.

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

pub(crate) use admin::{admin, replay};
#[cfg(debug_assertions)]
pub(crate) use clock::Clock;
pub(crate) use events::{event, events};
pub(crate) use eventually::eventually;
pub(crate) use http::{Connection, Response, render, request};
pub(crate) use issuer::{ISSUER, KeyServer, PUBLIC_PEM, Publishes, SigningKey, encode};
pub(crate) use rhaiway::{Project, Rhaiway};
pub(crate) use sender::{SECRET, Signed, clerk_event, now, signed, signed_at};

mod table;
pub(crate) use table::{check_rows, check_rows_of, logged, routes};
