//! A door's connections: accepted until the stop, drained, and cut in the end.
//!
//! What every door shares below its protocol. Owns the listener and the tasks of its connections; the
//! protocol is what makes a connection out of a socket. After the stop nothing new is accepted,
//! requests under way may end, and whatever is left at the drain's end is cut. Never reads a byte
//! itself.

use std::fmt::Display;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::{GracefulConnection, GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// A socket, as hyper wants it.
pub type Socket = TokioIo<TcpStream>;

/// Serves `listener` by `connect` until `stop`, then finishes what is under way, for at most `drain`.
pub async fn serve<C>(
    listener: TcpListener,
    stop: CancellationToken,
    drain: Duration,
    connect: impl Fn(Socket) -> C + Send,
) where
    C: GracefulConnection + Send + 'static,
    C::Error: Display + Send,
{
    let (graceful, cut) = (GracefulShutdown::new(), CancellationToken::new());
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some to be free rather than spin.
                    tracing::warn!(%error, "connection not accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        // Answers are small or written in large pieces; waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let connection = graceful.watch(connect(TokioIo::new(stream)));
        let cut = cut.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = cut.cancelled() => {}
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended early");
                },
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(seconds = drain.as_secs(), "connections cut: they were not done in time");
        cut.cancel();
    }
}
