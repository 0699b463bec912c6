//! The input and output of processes in containers.

use std::io::{Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use futures_util::{Stream, StreamExt};
use setpoint_sandbox as sandbox;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::client::Connected;
use super::error::DockerError;
use crate::engine::{Ended, EngineError, Io};

/// How often a window is looked at for a new size.
const LOOK: Duration = Duration::from_millis(100);
/// How many pieces wait for a reader before the writer has to.
const PIECES: usize = 64;

/// What the engine sends of a process.
pub(super) type Output = Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>;
/// What the engine takes for a process.
pub(super) type Input = Pin<Box<dyn AsyncWrite + Send>>;

/// Where output goes.
pub(super) enum Sink {
    /// To this process's own output and errors.
    Own,
    /// To whoever reads.
    Pieces(mpsc::Sender<Vec<u8>>),
    /// Output to the one, errors to the other.
    Apart(mpsc::Sender<Vec<u8>>, mpsc::Sender<Vec<u8>>),
}

impl Sink {
    /// The sink of a process that is connected so, with the reader of what goes into it, if somebody is to read; and
    /// with that of its errors, where they are apart.
    pub(super) fn of(io: Io) -> (Self, Option<Pieces>, Option<Pieces>) {
        if io == Io::Inherit {
            return (Self::Own, None, None);
        }
        let (pieces, output) = Pieces::channel();
        if io == Io::Piped {
            let (errors, complaints) = Pieces::channel();
            return (Self::Apart(pieces, errors), Some(output), Some(complaints));
        }
        (Self::Pieces(pieces), Some(output), None)
    }

    pub(super) async fn put(&self, piece: LogOutput) {
        match self {
            Self::Own => write_own(&piece),
            // Nobody reads any more: the process may go on.
            Self::Pieces(pieces) => drop(pieces.send(piece.into_bytes().to_vec()).await),
            Self::Apart(output, errors) => {
                let to = if matches!(piece, LogOutput::StdErr { .. }) { errors } else { output };
                drop(to.send(piece.into_bytes().to_vec()).await);
            }
        }
    }
}

/// What a process reads: as long as a sender is there, its input is open.
pub(super) fn keys() -> (mpsc::Sender<Vec<u8>>, mpsc::Receiver<Vec<u8>>) {
    mpsc::channel(PIECES)
}

fn write_own(piece: &LogOutput) {
    let (bytes, is_error) = (piece.as_ref(), matches!(piece, LogOutput::StdErr { .. }));
    // Who closed our output does not want it.
    let _ = if is_error {
        let mut stderr = std::io::stderr();
        stderr.write_all(bytes).and_then(|()| stderr.flush())
    } else {
        let mut stdout = std::io::stdout();
        stdout.write_all(bytes).and_then(|()| stdout.flush())
    };
}

/// Writes to a process what is typed, and closes its input when that ends.
pub(super) async fn feed(mut input: Input, mut typed: mpsc::Receiver<Vec<u8>>) {
    while let Some(bytes) = typed.recv().await {
        if input.write_all(&bytes).await.is_err() || input.flush().await.is_err() {
            return;
        }
    }
    let _ = input.shutdown().await;
}

/// Passes on this process's own input, on a thread that ends with it.
pub(super) fn pass_on_input(keys: mpsc::Sender<Vec<u8>>) {
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin();
        let mut buffer = [0_u8; 8192];
        while let Ok(read @ 1..) = stdin.read(&mut buffer) {
            if keys.blocking_send(buffer[..read].to_vec()).is_err() {
                break;
            }
        }
    });
}

/// Output that comes in pieces, as a reader.
pub(super) struct Pieces {
    read: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Pieces {
    fn channel() -> (mpsc::Sender<Vec<u8>>, Self) {
        let (pieces, read) = mpsc::channel(PIECES);
        (pieces, Self { read, rest: Vec::new(), at: 0 })
    }

    /// The output of a stream, read beside this thread.
    pub(super) fn of(
        connected: &Connected,
        stream: impl Stream<Item = Result<LogOutput, Error>> + Send + 'static,
    ) -> Self {
        let (pieces, output) = Self::channel();
        connected.spawn(async move {
            let mut stream = std::pin::pin!(stream);
            while let Some(Ok(piece)) = stream.next().await {
                if pieces.send(piece.into_bytes().to_vec()).await.is_err() {
                    return;
                }
            }
        });
        output
    }
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        while self.at == self.rest.len() {
            match self.read.blocking_recv() {
                Some(piece) => (self.rest, self.at) = (piece, 0),
                None => return Ok(0),
            }
        }
        let length = buffer.len().min(self.rest.len() - self.at);
        buffer[..length].copy_from_slice(&self.rest[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

/// What a process reads, as a writer.
pub(super) struct Keys(pub(super) mpsc::Sender<Vec<u8>>);

impl Write for Keys {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let sent = self.0.blocking_send(bytes.to_vec());
        sent.map(|()| bytes.len()).map_err(|_| std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Joins this terminal to a process's own until it ends. `wait` waits so long for its end, `resize` tells it the
/// height and width of the window.
pub(super) fn join(
    output: Option<Pieces>,
    keys: Option<mpsc::Sender<Vec<u8>>>,
    resized: &Arc<AtomicBool>,
    mut resize: impl FnMut(u16, u16),
    mut wait: impl FnMut(Duration) -> Result<Option<Ended>, EngineError>,
) -> Result<Ended, EngineError> {
    let Some(mut output) = output else {
        let why = "it has no terminal".to_owned();
        return Err(DockerError::Refused { what: "join a process", why }.into());
    };
    let raw = sandbox::RawTerminal::new()?;
    if let Some(keys) = keys {
        pass_on_input(keys);
    }
    resized.store(true, Ordering::SeqCst);
    let shown = std::thread::spawn(move || {
        let mut stdout = std::io::stdout();
        let mut buffer = [0_u8; 8192];
        while let Ok(read @ 1..) = output.read(&mut buffer) {
            if stdout.write_all(&buffer[..read]).and_then(|()| stdout.flush()).is_err() {
                break;
            }
        }
    });
    let ended = loop {
        if resized.swap(false, Ordering::SeqCst) {
            let (height, width) = sandbox::window();
            resize(height, width);
        }
        if let Some(ended) = wait(LOOK)? {
            break ended;
        }
    };
    let _ = shown.join();
    drop(raw);
    Ok(ended)
}
