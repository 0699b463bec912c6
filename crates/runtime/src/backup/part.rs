//! Parts of backups: bytes that are compressed into a file, and read from one again, with every digest looked at.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::path::Path;

use setpoint_model::backup::{Part, What};
use sha2::{Digest as _, Sha256};

use super::error::BackupError;
use super::tree::{self, Fault, Tree};
use crate::cancel::Cancel;
use crate::image::{Counted, sha256_name};

/// How well parts are compressed.
const LEVEL: i32 = 3;

/// What was written.
pub(super) struct Written {
    /// How many bytes there were, and their digest.
    pub(super) bytes: u64,
    pub(super) digest: String,
    /// How many there are in the file, and their digest.
    pub(super) stored: u64,
    pub(super) layer: String,
    /// What is in it, if it is a volume.
    pub(super) tree: Option<Tree>,
}

/// What is read, which is written on the way.
struct Through<'a> {
    from: &'a mut dyn Read,
    plain: Counted<zstd::Encoder<'static, Counted<&'a File>>>,
    /// Why writing failed: reading stops then.
    refused: Option<io::Error>,
    cancel: &'a Cancel,
    heard: &'a dyn Fn(u64),
}

impl Read for Through<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.asked() {
            return Err(stopped());
        }
        let count = self.from.read(buffer)?;
        if let Err(error) = self.plain.write_all(&buffer[..count]) {
            self.refused = Some(error);
            return Err(io::Error::other("it cannot be written"));
        }
        (self.heard)(self.plain.size);
        Ok(count)
    }
}

fn stopped() -> io::Error {
    io::Error::other("stopped")
}

/// Reads all that there is, and writes it compressed to a file, to the disk. `volume` is the name of the volume whose
/// archive it is.
pub(super) fn store(
    from: &mut dyn Read,
    volume: Option<&str>,
    (to, path): (&File, &Path),
    heard: &dyn Fn(u64),
    cancel: &Cancel,
) -> Result<Written, BackupError> {
    let failed = |error| BackupError::io("write", path)(error);
    let encoder = zstd::Encoder::new(Counted::new(to), LEVEL).map_err(failed)?;
    let mut through = Through { from, plain: Counted::new(encoder), refused: None, cancel, heard };
    let read = match volume {
        Some(volume) => tree::look(volume, &mut through).map(Some),
        None => io::copy(&mut through, &mut io::sink()).map(|_| None).map_err(Fault::Io),
    };
    let tree = match read {
        Ok(tree) => tree,
        Err(_) if cancel.asked() => return Err(BackupError::Cancelled),
        Err(Fault::Wrong(error)) => return Err(error),
        Err(Fault::Io(error)) => {
            return Err(match through.refused {
                Some(refused) => BackupError::io("write", path)(refused),
                None => {
                    BackupError::io("read", Path::new(volume.unwrap_or("the output of the command")))(error)
                }
            });
        }
    };
    let Counted { inner, hash, size } = through.plain;
    let file = inner.finish().map_err(failed)?;
    to.sync_all().map_err(failed)?;
    let (stored, layer) = (file.size, sha256_name(file.hash));
    Ok(Written { bytes: size, digest: sha256_name(hash), stored, layer, tree })
}

/// The bytes of a part, which are an error at their end where they are not what they should be.
struct Checked<R> {
    from: R,
    hash: Option<Sha256>,
    bytes: u64,
    expected: (String, u64),
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.bytes += count as u64;
        let wrong = |why: &str| {
            io::Error::new(io::ErrorKind::InvalidData, format!("it is not what is listed: {why}"))
        };
        if self.bytes > self.expected.1 {
            return Err(wrong("it is longer"));
        }
        if let Some(hash) = &mut self.hash {
            hash.update(&buffer[..count]);
        }
        if count == 0
            && !buffer.is_empty()
            && let Some(hash) = self.hash.take()
            && sha256_name(hash) != self.expected.0
        {
            return Err(wrong("its digest is another"));
        }
        Ok(count)
    }
}

/// The bytes of a part that lies in a file.
pub(super) fn open(path: &Path, part: &Part) -> Result<Box<dyn Read + Send>, BackupError> {
    let failed = |error| BackupError::io("read", path)(error);
    let file = File::open(path).map_err(failed)?;
    let plain = zstd::Decoder::new(file).map_err(failed)?;
    let expected = (part.digest.clone(), part.bytes);
    Ok(Box::new(Checked { from: plain, hash: Some(Sha256::new()), bytes: 0, expected }))
}

/// Looks at every byte of a part that lies in a file.
pub(super) fn verify(name: &str, path: &Path, part: &Part, cancel: &Cancel) -> Result<(), BackupError> {
    let refused = |why: String| BackupError::refused(name, why);
    let file = File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => refused(format!("it lacks its part {}", part.layer)),
        _ => BackupError::io("read", path)(error),
    })?;
    let mut stored = Counted::new(io::sink());
    io::copy(&mut Watched { from: BufReader::new(file), cancel }, &mut stored).map_err(
        |error| match cancel.asked() {
            true => BackupError::Cancelled,
            false => BackupError::io("read", path)(error),
        },
    )?;
    let found = sha256_name(stored.hash);
    if (stored.size, &found) != (part.stored, &part.layer) {
        return Err(refused(format!("its part {} has the digest {found}", part.layer)));
    }
    let mut plain = Watched { from: open(path, part)?, cancel };
    let read = match &part.what {
        What::Volume { volume, .. } => tree::look(volume, &mut plain).map(Some),
        What::Dump => io::copy(&mut plain, &mut io::sink()).map(|_| None).map_err(Fault::Io),
    };
    match (read, &part.what) {
        (Err(_), _) if cancel.asked() => Err(BackupError::Cancelled),
        (Err(Fault::Wrong(error)), _) => Err(error),
        (Err(Fault::Io(error)), _) => Err(refused(format!("its part {}: {error}", part.layer))),
        (Ok(Some(found)), What::Volume { volume, tree, .. }) if found.digest != *tree => {
            Err(refused(format!("the files of {volume} are not those that are listed")))
        }
        (Ok(_), _) => Ok(()),
    }
}

/// What is read until somebody asks to stop.
struct Watched<'a, R> {
    from: R,
    cancel: &'a Cancel,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.cancel.asked() { Err(stopped()) } else { self.from.read(buffer) }
    }
}

/// The digest of what is read.
pub(super) fn digest(from: &mut impl Read) -> io::Result<String> {
    let mut hash = Counted::new(io::sink());
    io::copy(from, &mut hash)?;
    Ok(sha256_name(hash.hash))
}
