//! Whole messages on streams.
//!
//! A message says its length in its envelope. The length is compared with what the reader is
//! willing to take before anything is allocated, and memory then grows with what has arrived, not
//! with what was announced.

use picket_wire::envelope::{ENVELOPE_BYTES, Envelope, EnvelopeError};
use quinn::{
    ClosedStream, Connection, ConnectionError, ReadError, RecvStream, SendStream, WriteError,
};

/// What is allocated at once for a message: most fit in it whole.
const FIRST_BYTES: usize = 16 * 1024;

/// Why a message could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendMessageError {
    /// No stream could be opened.
    #[error("open a stream")]
    Open(#[from] ConnectionError),
    /// The stream broke.
    #[error("write to a stream")]
    Write(#[from] WriteError),
    /// The stream was closed before.
    #[error("the stream is closed")]
    Closed(#[from] ClosedStream),
}

/// Why no message could be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadMessageError {
    /// The stream broke.
    #[error("read from a stream")]
    Read(#[from] ReadError),
    /// What came is no message.
    #[error("read an envelope")]
    Envelope(#[from] EnvelopeError),
    /// The payload is longer than the reader takes.
    #[error("a payload of {got} bytes is announced, at most {max} are taken")]
    TooLong {
        /// The reader's bound.
        max: usize,
        /// What was announced.
        got: usize,
    },
    /// The stream ended inside a message.
    #[error("the stream ended after {got} bytes of a message")]
    Torn {
        /// How much had come.
        got: usize,
    },
}

/// Why a question got no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It could not be sent.
    #[error("send a request")]
    Send(#[from] SendMessageError),
    /// The answer could not be read.
    #[error("read the answer")]
    Read(#[from] ReadMessageError),
    /// The stream ended without an answer.
    #[error("the peer ended the stream without an answer")]
    NoAnswer,
}

impl AskError {
    /// Whether the request never left: nobody can have acted on it.
    #[must_use]
    pub const fn is_certainly_not_sent(&self) -> bool {
        matches!(self, Self::Send(SendMessageError::Open(_)))
    }
}

/// Writes a whole message, envelope included, as the codec made it. The stream stays open.
///
/// # Errors
/// When the stream breaks.
pub async fn send_message(stream: &mut SendStream, message: &[u8]) -> Result<(), SendMessageError> {
    Ok(stream.write_all(message).await?)
}

/// Writes the last message of a stream.
///
/// # Errors
/// When the stream breaks.
pub async fn reply(stream: &mut SendStream, message: &[u8]) -> Result<(), SendMessageError> {
    send_message(stream, message).await?;
    Ok(stream.finish()?)
}

/// Sends one message on a stream of its own. Waits for the peer's credit: the number of streams
/// that it lets us have open.
///
/// # Errors
/// When the connection or the stream breaks.
pub async fn send_uni(
    connection: &Connection,
    priority: i32,
    message: &[u8],
) -> Result<(), SendMessageError> {
    let mut stream = connection.open_uni().await?;
    stream.set_priority(priority)?;
    reply(&mut stream, message).await
}

/// Sends a request on a stream of its own and reads the answer, whose payload has at most
/// `max_payload` bytes.
///
/// # Errors
/// When the connection or the stream breaks, or when the answer is no message.
pub async fn ask(
    connection: &Connection,
    message: &[u8],
    max_payload: usize,
) -> Result<Vec<u8>, AskError> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(SendMessageError::from)?;
    reply(&mut send, message).await?;
    read_message(&mut receive, max_payload)
        .await?
        .ok_or(AskError::NoAnswer)
}

/// Reads one whole message, envelope included; `None` when the stream ends before it begins. Not
/// safe to cancel: what has been read is lost. See [`MessageReader`].
///
/// # Errors
/// When the stream breaks, when what comes is no message, or when its payload is longer than
/// `max_payload`.
pub async fn read_message(
    stream: &mut RecvStream,
    max_payload: usize,
) -> Result<Option<Vec<u8>>, ReadMessageError> {
    Partial::default().read_on(stream, max_payload).await
}

/// Reads the messages of a stream one after the other. Safe to cancel: it keeps its place.
#[derive(Debug)]
pub struct MessageReader {
    stream: RecvStream,
    partial: Partial,
    max_payload: usize,
}

impl MessageReader {
    /// Reads from `stream` messages with at most `max_payload` bytes of payload.
    #[must_use]
    pub fn new(stream: RecvStream, max_payload: usize) -> Self {
        Self {
            stream,
            partial: Partial::default(),
            max_payload,
        }
    }

    /// The next message, envelope included; `None` when the stream has ended. Safe to cancel.
    ///
    /// # Errors
    /// As [`read_message`]. The stream is of no use after an error.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ReadMessageError> {
        self.partial
            .read_on(&mut self.stream, self.max_payload)
            .await
    }
}

/// The part of a message that has arrived.
#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    /// Length of the whole, once the envelope has been read.
    whole: Option<usize>,
}

impl Partial {
    async fn read_on(
        &mut self,
        stream: &mut RecvStream,
        max_payload: usize,
    ) -> Result<Option<Vec<u8>>, ReadMessageError> {
        loop {
            let wanted = self.wanted(max_payload)?;
            if self.bytes.len() == wanted {
                self.whole = None;
                return Ok(Some(std::mem::take(&mut self.bytes)));
            }
            match stream.read_chunk(wanted - self.bytes.len(), true).await? {
                Some(chunk) => self.bytes.extend_from_slice(&chunk.bytes),
                None if self.bytes.is_empty() => return Ok(None),
                None => {
                    return Err(ReadMessageError::Torn {
                        got: self.bytes.len(),
                    });
                }
            }
        }
    }

    /// How long the message is, as far as is known: at first its envelope.
    fn wanted(&mut self, max_payload: usize) -> Result<usize, ReadMessageError> {
        if let Some(whole) = self.whole {
            return Ok(whole);
        }
        let Some(envelope) = self.bytes.first_chunk::<ENVELOPE_BYTES>() else {
            return Ok(ENVELOPE_BYTES);
        };
        let length = Envelope::parse(envelope)?.length;
        if length > max_payload {
            return Err(ReadMessageError::TooLong {
                max: max_payload,
                got: length,
            });
        }
        self.bytes.reserve(length.min(FIRST_BYTES));
        Ok(*self.whole.insert(ENVELOPE_BYTES + length))
    }
}
