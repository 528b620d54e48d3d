//! `Flow`: how much of what Redis has sent is not used yet, and whether all that has come was read.
//!
//! The client hands messages on through a queue without a bound. So its stream stops reading while too much waits there:
//! then Redis' own limit of output buffers acts, and closes the connection.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use redis::aio::{AsyncPushSender, SendError};
use redis::{PushInfo, PushKind, Value};
use sockring_protocol::adapter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// Bytes of messages that may wait to be looked at.
pub(super) const UNUSED_BYTES_MAX: usize = 8 << 20;
/// A longer message ends the connection before it is all there. What the decoder takes, and what goes around it.
const MESSAGE_BYTES_MAX: usize = adapter::MESSAGE_BYTES_MAX + (1 << 20);

/// One connection's input, between Redis and whoever uses it.
#[derive(Debug)]
pub(super) struct Flow {
    unused: AtomicUsize,
    /// Bytes since the last whole message or answer.
    unfinished: AtomicUsize,
    /// They have become too many.
    is_too_long: AtomicBool,
    /// The last look at the stream found nothing.
    is_drained: AtomicBool,
    waiting: Mutex<Option<Waker>>,
    /// What made the stream fail. The client tells it to only one of those who use it.
    failure: Mutex<Option<io::Error>>,
}

impl Flow {
    pub(super) fn new() -> Arc<Flow> {
        Arc::new(Flow {
            unused: AtomicUsize::new(0),
            unfinished: AtomicUsize::new(0),
            is_too_long: AtomicBool::new(false),
            is_drained: AtomicBool::new(false),
            waiting: Mutex::new(None),
            failure: Mutex::new(None),
        })
    }

    /// This much was looked at.
    pub(super) fn used(&self, bytes: usize) {
        let before = self.unused.fetch_sub(bytes, Ordering::AcqRel);
        if before >= UNUSED_BYTES_MAX && before - bytes < UNUSED_BYTES_MAX {
            let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
            waiting.into_iter().for_each(Waker::wake);
        }
    }

    /// An answer has come whole.
    pub(super) fn answered(&self) {
        self.unfinished.store(0, Ordering::Relaxed);
    }

    /// Whether all that has come was read.
    pub(super) fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Relaxed)
    }

    /// Whether a message or an answer has ended the connection by its length.
    pub(super) fn is_too_long(&self) -> bool {
        self.is_too_long.load(Ordering::Relaxed)
    }

    /// What made the stream fail, if it is known.
    pub(super) fn failure(&self) -> Option<io::Error> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn read(&self, bytes: usize) -> io::Result<()> {
        if self.unfinished.fetch_add(bytes, Ordering::Relaxed) + bytes > MESSAGE_BYTES_MAX {
            self.is_too_long.store(true, Ordering::Relaxed);
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.unused.load(Ordering::Acquire) >= UNUSED_BYTES_MAX
    }

    /// Whether the stream has to wait until something is used.
    fn has_to_wait(&self, context: &Context<'_>) -> bool {
        if !self.is_full() {
            return false;
        }
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = Some(context.waker().clone());
        // It may have been used in between.
        self.is_full()
    }
}

/// The bytes of a push that count.
pub(super) fn size_of_push(push: &PushInfo) -> usize {
    let size = |value: &Value| match value {
        Value::BulkString(bytes) => bytes.len(),
        _ => 0,
    };
    size_of::<PushInfo>() + push.data.iter().map(|value| size(value) + size_of::<Value>()).sum::<usize>()
}

/// Where the client puts what Redis sends unasked.
pub(super) struct Pushes {
    pub(super) sender: mpsc::UnboundedSender<PushInfo>,
    pub(super) flow: Arc<Flow>,
}

impl AsyncPushSender for Pushes {
    fn send(&self, push: PushInfo) -> Result<(), SendError> {
        self.flow.answered();
        // Confirmations come as answers too; those of shard channels are told by their names.
        if matches!(push.kind, PushKind::Subscribe | PushKind::PSubscribe) {
            return Ok(());
        }
        self.flow.unused.fetch_add(size_of_push(&push), Ordering::AcqRel);
        self.sender.send(push).map_err(|_| SendError)
    }
}

/// A stream that is read as its `Flow` allows.
pub(super) struct Metered<S> {
    pub(super) stream: S,
    pub(super) flow: Arc<Flow>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.flow.is_drained.store(false, Ordering::Relaxed);
        if this.flow.has_to_wait(context) {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Pending => {
                this.flow.is_drained.store(true, Ordering::Relaxed);
                Poll::Pending
            }
            Poll::Ready(Ok(())) => Poll::Ready(this.flow.read(buffer.filled().len() - before)),
            Poll::Ready(Err(error)) => {
                let told = io::Error::new(error.kind(), error.to_string());
                this.flow.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(told);
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> PushInfo {
        PushInfo { kind: PushKind::Message, data: vec![Value::BulkString(vec![0; bytes])] }
    }

    fn read(metered: &mut Metered<&[u8]>) -> Poll<io::Result<()>> {
        let mut bytes = [0; 16];
        let mut buffer = ReadBuf::new(&mut bytes);
        let mut context = Context::from_waker(Waker::noop());
        Pin::new(metered).poll_read(&mut context, &mut buffer)
    }

    #[test]
    fn nothing_is_read_while_too_much_waits() {
        let flow = Flow::new();
        let (sender, mut receiver) = mpsc::unbounded_channel();
        let pushes = Pushes { sender, flow: Arc::clone(&flow) };
        let mut metered = Metered { stream: &[7u8; 64][..], flow: Arc::clone(&flow) };
        assert!(read(&mut metered).is_ready() && !flow.is_drained());
        pushes.send(message(UNUSED_BYTES_MAX)).unwrap();
        pushes.send(message(1)).unwrap();
        assert!(read(&mut metered).is_pending() && !flow.is_drained(), "more may have come");
        let first = receiver.try_recv().unwrap();
        flow.used(size_of_push(&first));
        assert!(read(&mut metered).is_ready());
        assert_eq!(metered.stream.len(), 32);
    }

    #[test]
    fn a_message_without_an_end_is_an_error() {
        let flow = Flow::new();
        flow.read(MESSAGE_BYTES_MAX).unwrap();
        flow.answered();
        flow.read(MESSAGE_BYTES_MAX).unwrap();
        assert!(flow.read(1).is_err());
    }
}
