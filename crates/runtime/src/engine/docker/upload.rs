//! Archives that are sent while they are made.

use std::io::{self, Write};
use std::path::Path;

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::mpsc::channel;

use crate::piece;

/// The bytes that are written on a thread of their own, as they come.
pub(super) fn stream(
    write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let (sender, receiver) = channel(piece::WAITING);
    piece::send(write, move |piece| sender.blocking_send(piece.map(Bytes::from)).is_ok());
    futures_util::stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) })
}

/// Writes a folder as an archive: what is in it, with owners, modes and links as they are.
pub(super) fn folder(path: &Path, to: &mut dyn Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(to);
    archive.follow_symlinks(false);
    archive.append_dir_all(".", path)?;
    archive.finish()
}
