//! Tickets: each lets one browser in, once and within a minute, so that no process has the token among its arguments, which other users
//! of a machine may read.

use super::{
    Admin,
    gate::{Peer, Reached},
    problem::Problem,
    user,
};
use axum::{
    Json,
    extract::{Extension, State, rejection::JsonRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::warn;
use utoipa::ToSchema;

/// Where one is exchanged; whoever does it has no token yet.
pub(super) const EXCHANGE: &str = "/v1/tickets/exchange";

/// How long one is good: a browser may take its time to start.
const LIFE: Duration = Duration::from_secs(60);
/// Tickets at once: beyond them the oldest goes.
const MOST: usize = 4;
/// 256 random bits.
const BYTES: usize = 32;

/// Those that nobody has used yet.
#[derive(Default)]
pub(super) struct Tickets(Mutex<VecDeque<Kept>>);

struct Kept {
    /// Of the ticket: nothing can be learnt of it by the time that a comparison takes.
    digest: [u8; 32],
    /// What it is exchanged for: whoever asked for the ticket has brought it.
    token: String,
    /// The user who asked for it, where that is known.
    user: Option<u32>,
    until: Instant,
}

/// Why there is nothing for a ticket.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    /// It was used, is too old, was never made, or went to make room.
    Unknown,
    /// It was made for another user than this one.
    Stranger(u32),
}

impl Tickets {
    fn make(&self, token: &str, user: Option<u32>, now: Instant) -> io::Result<String> {
        let mut bits = [0; BYTES];
        getrandom::fill(&mut bits).map_err(io::Error::other)?;
        let ticket = hex::encode(bits);
        let mut kept = self.kept(now);
        if kept.len() == MOST {
            kept.pop_front();
        }
        kept.push_back(Kept { digest: digest(&ticket), token: token.to_owned(), user, until: now + LIFE });
        Ok(ticket)
    }

    /// The token for a ticket, which is used up. `user` is asked only for one that is good.
    fn take(&self, ticket: &str, user: impl FnOnce() -> Option<u32>, now: Instant) -> Result<String, Refusal> {
        let digest = digest(ticket);
        let mut kept = self.kept(now);
        let place = kept.iter().position(|one| one.digest == digest).ok_or(Refusal::Unknown)?;
        let wanted = kept.get(place).and_then(|one| one.user);
        // It stays good for whom it was made.
        if let (Some(wanted), Some(user)) = (wanted, user())
            && user != wanted
        {
            return Err(Refusal::Stranger(user));
        }
        kept.remove(place).map(|one| one.token).ok_or(Refusal::Unknown)
    }

    /// Those that are good still. Nothing that is done under the lock can be left half done.
    fn kept(&self, now: Instant) -> MutexGuard<'_, VecDeque<Kept>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|one| one.until > now);
        kept
    }
}

fn digest(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket).into()
}

/// A ticket as it is given out and brought back.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Ticket {
    /// 64 hex digits.
    pub ticket: String,
}

/// What a ticket is exchanged for.
#[derive(Serialize, ToSchema)]
pub(super) struct Exchanged {
    token: String,
}

/// A ticket for the dashboard
///
/// Whoever brings it within a minute gets the token, once: for an address that others may see, such as an argument of a browser. A
/// connection of another user of this machine than the one who asked for it gets nothing.
#[utoipa::path(post, path = "/v1/tickets", tag = "dashboard", responses((status = 201, body = Ticket)))]
pub(super) async fn ticket(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(Reached(reached)): Extension<Reached>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let brought = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.split_once(' '));
    let Some((_, token)) = brought else {
        return Err(Problem::new(StatusCode::UNAUTHORIZED, "the call needs the token"));
    };
    let user = owner(peer, reached).await;
    let made = admin.tickets.make(token.trim(), user, Instant::now());
    let ticket =
        made.map_err(|error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("there are no random bits: {error}")))?;
    Ok((StatusCode::CREATED, [(header::CACHE_CONTROL, "no-store")], Json(Ticket { ticket })).into_response())
}

/// The token for a ticket
///
/// Needs no token. A ticket is good once.
#[utoipa::path(post, path = EXCHANGE, tag = "dashboard", security(), request_body = Ticket, responses(
    (status = 200, body = Exchanged),
    (status = 403, description = "It was used before, or is older than a minute", body = Problem),
))]
pub(super) async fn exchange(
    State(admin): State<Arc<Admin>>,
    Extension(Peer(peer)): Extension<Peer>,
    Extension(Reached(reached)): Extension<Reached>,
    offered: Result<Json<Ticket>, JsonRejection>,
) -> Result<Response, Problem> {
    let Json(Ticket { ticket }) = offered.map_err(|rejection| Problem::new(rejection.status(), rejection.body_text()))?;
    let taken = tokio::task::spawn_blocking(move || admin.tickets.take(&ticket, || user::of(peer, reached), Instant::now()));
    let refused =
        |detail: &str| Problem::new(StatusCode::FORBIDDEN, detail).remedy("`hotbay dashboard` opens the page with another");
    match taken.await.unwrap_or(Err(Refusal::Unknown)) {
        Ok(token) => Ok(([(header::CACHE_CONTROL, "no-store")], Json(Exchanged { token })).into_response()),
        Err(Refusal::Unknown) => Err(refused("the ticket of this address was used before, or is older than a minute")),
        Err(Refusal::Stranger(user)) => {
            warn!(user, "another user than the one who opens the dashboard has its address, and was refused");
            Err(refused("the ticket of this address is another user's"))
        }
    }
}

async fn owner(peer: SocketAddr, reached: SocketAddr) -> Option<u32> {
    tokio::task::spawn_blocking(move || user::of(peer, reached)).await.ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ticket_is_good_once_for_a_minute_and_for_whom_it_was_made() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let ticket = tickets.make("token", Some(7), now).unwrap();
        assert_eq!(tickets.take(&ticket, || Some(8), now), Err(Refusal::Stranger(8)));
        assert_eq!(tickets.take(&ticket, || Some(7), now).as_deref(), Ok("token"));
        assert_eq!(tickets.take(&ticket, || Some(7), now), Err(Refusal::Unknown));
        let old = tickets.make("token", None, now).unwrap();
        assert_eq!(tickets.take(&old, || None, now + LIFE), Err(Refusal::Unknown));
        assert_eq!(tickets.take("", || unreachable!("nobody is looked for"), now), Err(Refusal::Unknown));
        // Where one of both is not known, the ticket has to do.
        let ticket = tickets.make("token", Some(7), now).unwrap();
        assert!(tickets.take(&ticket, || None, now).is_ok());
    }

    #[test]
    fn few_are_kept() {
        let (tickets, now) = (Tickets::default(), Instant::now());
        let made: Vec<_> = (0..=MOST).map(|_| tickets.make("token", None, now).unwrap()).collect();
        let good = made.iter().filter(|ticket| tickets.take(ticket, || None, now).is_ok());
        assert_eq!(good.count(), MOST);
        assert!(made.iter().all(|ticket| ticket.len() == 2 * BYTES));
    }
}
