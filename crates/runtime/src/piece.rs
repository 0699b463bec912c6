//! What is written on a thread of its own, for a reader here.

use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};

/// How many bytes go at once.
const PIECE: usize = 256 << 10;
/// How many pieces wait for the reader before the writer has to.
pub(crate) const WAITING: usize = 8;

/// Reads what is written on another thread; that one's error comes after what it wrote. A writer whose reader is dropped
/// is told of a broken pipe.
pub(crate) fn written(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> impl Read + Send {
    let (sender, receiver) = sync_channel(WAITING);
    send(write, move |piece| sender.send(piece).is_ok());
    Reader { receiver, piece: Vec::new(), at: 0 }
}

/// Sends what is written on another thread, piece by piece, and the error that ended it. `to` says whether anybody still
/// takes it; a writer is told of a broken pipe if nobody does.
pub(crate) fn send(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
    to: impl FnMut(io::Result<Vec<u8>>) -> bool + Send + 'static,
) {
    std::thread::spawn(move || {
        let mut to = Pieces { to, piece: Vec::with_capacity(PIECE) };
        if let Err(error) = write(&mut to).and_then(|()| to.flush()) {
            (to.to)(Err(error));
        }
    });
}

struct Pieces<F> {
    to: F,
    piece: Vec<u8>,
}

impl<F: FnMut(io::Result<Vec<u8>>) -> bool> Write for Pieces<F> {
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
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        if (self.to)(Ok(piece)) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }
}

struct Reader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.piece.len() {
            match self.receiver.recv() {
                Ok(piece) => (self.piece, self.at) = (piece?, 0),
                Err(_) => return Ok(0),
            }
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_so_is_the_error_after_it() {
        let mut all = Vec::new();
        written(|to| to.write_all(&vec![7; 3 << 20])).read_to_end(&mut all).unwrap();
        assert_eq!(all, vec![7; 3 << 20]);
        let mut failing = written(|to| {
            to.write_all(b"some")?;
            to.flush()?;
            Err(io::Error::other("no more"))
        });
        let mut some = [0; 4];
        failing.read_exact(&mut some).unwrap();
        assert_eq!(&some, b"some");
        assert_eq!(failing.read(&mut [0]).unwrap_err().to_string(), "no more");
    }
}
