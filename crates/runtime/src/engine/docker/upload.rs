//! Archives that are sent while they are made.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc::{Sender, channel};

/// How many bytes are sent at once.
const PIECE: usize = 256 << 10;

/// The bytes that are written on a thread of their own, as they come.
pub(super) fn stream(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = channel(8);
    std::thread::spawn(move || {
        let mut to = Chunks { to: sender.clone(), piece: Vec::with_capacity(PIECE) };
        if let Err(error) = write(&mut to).and_then(|()| to.flush()) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// A writer whose bytes are taken in pieces from the other end of a channel.
struct Chunks {
    to: Sender<io::Result<Bytes>>,
    piece: Vec<u8>,
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.piece.extend_from_slice(bytes);
        if self.piece.len() >= PIECE {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = Bytes::from(std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE)));
        self.to.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))
    }
}

/// Writes a folder as an archive: what is in it, with owners, modes and links as they are.
pub(super) fn folder(path: &Path, to: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", path)?;
    archive.finish()
}
