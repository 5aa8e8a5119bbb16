//! A response body on its way through the proxy: slowed, stopped or cut at an exact byte.
//!
//! Owns the path of the bytes from the upstream to the client's connection. A body the upstream
//! itself breaks off is cut at the same byte towards the client. The request counts as in flight
//! until its body is through or dropped.
//!
//! Never changes a byte, and never waits for more than one piece of the body at a time.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::try_unfold;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use tokio::sync::Notify;
use tokio::time::sleep;

use super::InFlight;
use super::connection::Handle;

/// Pieces a second under a bandwidth limit: enough to look like a steady flow.
const PIECES_PER_SECOND: u64 = 50;

/// What is to happen to a body.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// After this many bytes, this.
    pub(super) stop: Option<(u64, Stop)>,
}

/// How a body stops.
#[derive(Debug)]
pub(super) enum Stop {
    /// For good, and the connection with it.
    Break,
    /// Until notified.
    Pause(Arc<Notify>),
}

struct Passage {
    upstream: Incoming,
    left: Bytes,
    sent: u64,
    plan: Plan,
    handle: Arc<Handle>,
    in_flight: InFlight,
}

/// The body as the client is to get it.
pub(super) fn shape(
    upstream: Incoming,
    plan: Plan,
    handle: Arc<Handle>,
    in_flight: InFlight,
) -> impl Body<Data = Bytes, Error = hyper::Error> + Send + 'static {
    StreamBody::new(try_unfold(
        Passage { upstream, left: Bytes::new(), sent: 0, plan, handle, in_flight },
        Passage::next,
    ))
}

impl Passage {
    async fn next(mut self) -> Result<Option<(Frame<Bytes>, Passage)>, hyper::Error> {
        loop {
            let mut room = usize::MAX;
            match &self.plan.stop {
                Some((at, Stop::Break)) if *at <= self.sent => self.break_off().await,
                Some((at, Stop::Pause(go_on))) if *at <= self.sent => {
                    go_on.notified().await;
                    self.plan.stop = None;
                }
                Some((at, _)) => room = usize::try_from(*at - self.sent).unwrap_or(usize::MAX),
                None => {}
            }
            if self.left.is_empty() {
                match self.upstream.frame().await {
                    None => return Ok(None),
                    Some(Err(_)) => self.break_off().await,
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => self.left = data,
                        Err(trailers) => return Ok(Some((trailers, self))),
                    },
                }
                continue;
            }
            let mut length = self.left.len().min(room);
            if let Some(rate) = self.in_flight.0.bandwidth() {
                let piece = usize::try_from((rate / PIECES_PER_SECOND).max(1));
                length = length.min(piece.unwrap_or(usize::MAX));
                self.handle.wait_turn(length, rate).await;
            }
            let piece = self.left.split_to(length);
            self.sent += length as u64;
            return Ok(Some((Frame::data(piece), self)));
        }
    }

    /// Ends the connection once all bytes so far are sent; it never returns.
    async fn break_off(&self) {
        self.handle.ask_for_break();
        loop {
            // Each waking has hyper flush again, and the flush that finds nothing left fails.
            sleep(Duration::from_millis(1)).await;
        }
    }
}
