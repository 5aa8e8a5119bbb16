//! One client connection of the proxy, and the handle by which a request can end it.
//!
//! hyper owns the socket while it serves and has no way to cut it short, so the socket is wrapped:
//! the [`Handle`] tells the wrapper or the serving task how the connection is to end. A reset sends
//! an RST at once; a close drops the socket; a break first waits until every byte handed to hyper
//! has gone to the kernel, so that a body can be cut at an exact byte.
//!
//! Never decides when: that is the rules' affair.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How a connection's requests reach the connection itself.
#[derive(Debug, Default)]
pub(super) struct Handle {
    cut: Notify,
    reset: AtomicBool,
    broken: AtomicBool,
    /// When the connection may send its next byte of body, under a bandwidth limit.
    free_at: Mutex<Option<Instant>>,
}

impl Handle {
    /// Resolves when the connection is to be dropped.
    pub(super) async fn cut(&self) {
        self.cut.notified().await;
    }

    /// Has the connection dropped with an RST.
    pub(super) fn ask_for_reset(&self) {
        self.reset.store(true, Ordering::SeqCst);
        self.cut.notify_one();
    }

    /// Has the connection dropped.
    pub(super) fn ask_for_close(&self) {
        self.cut.notify_one();
    }

    /// Has the connection fail at its next flush that left nothing unsent.
    pub(super) fn ask_for_break(&self) {
        self.broken.store(true, Ordering::SeqCst);
    }

    /// Waits for the turn of the next `bytes` at `rate` bytes a second.
    pub(super) async fn wait_turn(&self, bytes: usize, rate: u64) {
        let turn = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            // Time in which nothing was sent is lost, not saved up.
            let turn = free_at.map_or(now, |free_at| free_at.max(now));
            *free_at = Some(turn + Duration::from_secs_f64(bytes as f64 / rate.max(1) as f64));
            turn
        };
        sleep_until(turn).await;
    }
}

/// The socket of a connection, obeying its [`Handle`].
#[derive(Debug)]
pub(super) struct Line {
    stream: TcpStream,
    handle: Arc<Handle>,
}

impl Line {
    pub(super) fn new(stream: TcpStream, handle: Arc<Handle>) -> Line {
        Line { stream, handle }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.handle.reset.load(Ordering::SeqCst) {
            // With nothing to linger for, closing sends an RST.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Line {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Line {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes the socket only when its own buffer is empty: all has been sent.
        if self.handle.broken.load(Ordering::SeqCst) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
