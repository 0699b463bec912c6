//! One layer from its tar into a folder.

use std::ffi::OsStr;
use std::io::{self, Read, Seek as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::rc::Rc;

use tar::EntryType;

use super::Limits;
use super::error::{Bound, ImageError, Rule};
use super::stream::{Meter, Unpacked};
use super::tree::{Attrs, Fail, Owners, Tree};

/// Unpacks a blob into an empty folder and gives the digest of its unpacked bytes.
///
/// `label` names the layer in errors. `whole` asks for the end marker of a tar, for layers whose unpacked digest
/// nobody knows.
pub(super) fn unpack(
    blob: impl Read,
    into: &Path,
    label: &str,
    whole: bool,
    limits: &Limits,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<String, ImageError> {
    let meter = Meter::new(limits, cancelled);
    let mut layer = Layer { label, into, meter: Rc::clone(&meter), written: 0, is_volume: false };
    let digest = layer.unpack(blob)?;
    if whole && meter.zeros() < 512 {
        let reason = "it lacks the mark at its end".to_owned();
        return Err(ImageError::Truncated { layer: label.to_owned(), reason });
    }
    Ok(digest)
}

/// Unpacks the files of a volume into an empty folder, and gives the digest of the archive. No name in it means the removal
/// of another, and what is zero becomes a hole. How large it may be is for the caller to say, who knows what it should be.
pub(crate) fn volume(
    archive: impl Read,
    into: &Path,
    label: &str,
    cancelled: &(dyn Fn() -> bool + Sync),
) -> Result<String, ImageError> {
    let limits = Limits { bytes: u64::MAX, entries: u64::MAX, ratio: u64::MAX, ..Limits::default() };
    let meter = Meter::new(&limits, cancelled);
    Layer { label, into, meter, written: 0, is_volume: true }.unpack(archive)
}

/// Whether an entry is one that a volume may have: what [`volume`] would refuse of it wherever it is unpacked.
pub(crate) fn lawful<R: Read>(entry: &tar::Entry<'_, R>) -> Result<(), Rule> {
    let name = entry.path_bytes();
    if name.starts_with(b"/") {
        return Err(Rule::AbsoluteName);
    }
    split(&name, Rule::ParentComponent)?;
    match entry.header().entry_type() {
        EntryType::Link => {
            split(&entry.link_name_bytes().unwrap_or_default(), Rule::HardLinkLeaves).map(drop)
        }
        EntryType::Char | EntryType::Block => Err(Rule::Device),
        EntryType::Directory
        | EntryType::Regular
        | EntryType::Continuous
        | EntryType::GNUSparse
        | EntryType::Symlink
        | EntryType::Fifo
        | EntryType::XGlobalHeader => Ok(()),
        _ => Err(Rule::UnknownKind),
    }
}

struct Layer<'a> {
    label: &'a str,
    into: &'a Path,
    meter: Rc<Meter<'a>>,
    written: u64,
    /// Whether it is a volume: what lies over nothing, and may have large holes.
    is_volume: bool,
}

impl<'a> Layer<'a> {
    /// Unpacks it, and gives the digest of its unpacked bytes.
    fn unpack(&mut self, blob: impl Read + 'a) -> Result<String, ImageError> {
        let stream = Unpacked::new(blob, Rc::clone(&self.meter)).map_err(|e| self.unreadable(&e))?;
        let owners = Owners::here();
        let mut tree = Tree::new(self.into, owners).map_err(ImageError::io("open", self.into))?;
        let mut archive = tar::Archive::new(stream);
        self.entries(&mut archive, &mut tree, owners)?;
        self.meter.expect_headers(false);
        let digest = archive.into_inner().finish().map_err(|e| self.unreadable(&e))?;
        tree.finish().map_err(|fail| self.fail(fail, b"/"))?;
        Ok(digest)
    }

    fn too_large(&self, bound: Bound) -> ImageError {
        ImageError::TooLarge { layer: self.label.to_owned(), bound, allowed: self.meter.allowed(bound) }
    }

    /// Why reading failed.
    fn unreadable(&self, error: &io::Error) -> ImageError {
        let layer = self.label.to_owned();
        if self.meter.stopped() {
            ImageError::Cancelled
        } else if let Some(bound) = self.meter.broken() {
            self.too_large(bound)
        } else if self.meter.ended() || error.kind() == io::ErrorKind::UnexpectedEof {
            ImageError::Truncated { layer, reason: format!("after {} compressed bytes", self.meter.packed()) }
        } else {
            ImageError::Damaged { layer, reason: error.to_string() }
        }
    }

    /// Why writing failed.
    fn fail(&self, fail: Fail, entry: &[u8]) -> ImageError {
        match fail {
            Fail::Rule(rule) => {
                ImageError::Refused { layer: self.label.to_owned(), entry: shown(entry), rule }
            }
            Fail::Io(source) => {
                let name = OsStr::from_bytes(entry.strip_prefix(b"/").unwrap_or(entry));
                ImageError::Io { what: "unpack into", path: self.into.join(name), source }
            }
        }
    }

    fn entries(
        &mut self,
        archive: &mut tar::Archive<Unpacked<'_>>,
        tree: &mut Tree,
        owners: Owners,
    ) -> Result<(), ImageError> {
        self.meter.expect_headers(true);
        let mut entries = archive.entries().map_err(|e| self.unreadable(&e))?;
        let mut count = 0;
        loop {
            // The reader skips what is left of the entry before, which is only padding.
            self.meter.expect_headers(true);
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(|e| self.unreadable(&e))?;
            count += 1;
            if count > self.meter.allowed(Bound::Entries) {
                return Err(self.too_large(Bound::Entries));
            }
            self.meter.expect_headers(false);
            self.entry(&mut entry, tree, owners)?;
            io::copy(&mut entry, &mut io::sink()).map_err(|e| self.unreadable(&e))?;
        }
    }

    fn entry<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        tree: &mut Tree,
        owners: Owners,
    ) -> Result<(), ImageError> {
        let kind = entry.header().entry_type();
        if kind.is_pax_global_extensions() {
            return Ok(());
        }
        let name = entry.path_bytes().into_owned();
        if name.len() as u64 > self.meter.allowed(Bound::Path) {
            return Err(self.too_large(Bound::Path));
        }
        let attrs = attributes(entry, owners).map_err(|error| match error.kind() {
            io::ErrorKind::Unsupported => self.fail(Rule::Sparse.into(), &name),
            _ => self.unreadable(&error),
        })?;
        let parts = if name.starts_with(b"/") {
            Err(Rule::AbsoluteName)
        } else {
            split(&name, Rule::ParentComponent)
        };
        let parts = parts.map_err(|rule| self.fail(rule.into(), &name))?;
        if !self.is_volume
            && let Some(done) = whiteout(&parts, tree)
        {
            return done.map_err(|fail| self.fail(fail, &name));
        }
        let done = match kind {
            EntryType::Directory => tree.folder(&parts, attrs),
            // Archives from before POSIX mark folders by the slash alone.
            EntryType::Regular if name.ends_with(b"/") => tree.folder(&parts, attrs),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                return self.file(entry, tree, &parts, &attrs, &name);
            }
            EntryType::Symlink => tree.symlink(&parts, &entry.link_name_bytes().unwrap_or_default(), &attrs),
            EntryType::Link => {
                let target = entry.link_name_bytes().unwrap_or_default().into_owned();
                split(&target, Rule::HardLinkLeaves)
                    .map_err(Fail::Rule)
                    .and_then(|target| tree.hard_link(&parts, &target))
            }
            EntryType::Fifo => tree.fifo(&parts, &attrs),
            EntryType::Char if device(entry) == (0, 0) => Err(Rule::FakeWhiteout.into()),
            EntryType::Char | EntryType::Block => Err(Rule::Device.into()),
            _ => Err(Rule::UnknownKind.into()),
        };
        done.map_err(|fail| self.fail(fail, &name))
    }

    fn file<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        tree: &mut Tree,
        parts: &[&OsStr],
        attrs: &Attrs,
        name: &[u8],
    ) -> Result<(), ImageError> {
        let expected = entry.size();
        let mut file = tree.file(parts).map_err(|fail| self.fail(fail, name))?;
        let mut buffer = [0; 32 << 10];
        let mut size = 0;
        loop {
            let count = fill(entry, &mut buffer).map_err(|e| self.unreadable(&e))?;
            if count == 0 {
                break;
            }
            size += count as u64;
            // Counted here as well as in the stream: a sparse file unpacks to more than its archive holds.
            self.written += count as u64;
            self.meter.allow(self.written).map_err(|e| self.unreadable(&e))?;
            let is_hole = self.is_volume && count == buffer.len() && buffer.iter().all(|byte| *byte == 0);
            let put = match is_hole {
                true => file.seek_relative(count as i64),
                false => file.write_all(&buffer[..count]),
            };
            put.map_err(|e| self.fail(Fail::Io(e), name))?;
        }
        if self.is_volume {
            file.set_len(size).map_err(|e| self.fail(Fail::Io(e), name))?;
        }
        if size != expected {
            let reason = format!("within `{}`", shown(name));
            return Err(ImageError::Truncated { layer: self.label.to_owned(), reason });
        }
        tree.seal(&file, attrs).map_err(|fail| self.fail(fail, name))
    }
}

/// Reads until the buffer is full or there is no more, and gives how many bytes that were.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < buffer.len() {
        match from.read(&mut buffer[at..]) {
            Ok(0) => break,
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// A name as it may be shown: without control characters and not endless.
fn shown(name: &[u8]) -> String {
    let text = String::from_utf8_lossy(name);
    let mut out: String = text.chars().take(200).flat_map(char::escape_debug).collect();
    if text.chars().nth(200).is_some() {
        out.push_str("...");
    }
    out
}

fn split(name: &[u8], climbing: Rule) -> Result<Vec<&OsStr>, Rule> {
    let mut parts = Vec::new();
    for part in name.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(climbing),
            part if part.len() > 255 || part.contains(&0) => return Err(Rule::BadName),
            part => parts.push(OsStr::from_bytes(part)),
        }
    }
    if name.is_empty() { Err(Rule::BadName) } else { Ok(parts) }
}

/// Handles the names that mean the removal of others; none for all other names.
fn whiteout(parts: &[&OsStr], tree: &mut Tree) -> Option<Result<(), Fail>> {
    let (name, parents) = parts.split_last()?;
    if parents.iter().any(|part| part.as_bytes().starts_with(b".wh.")) {
        // What old union file systems kept for themselves is of no use to anybody else.
        let private = parents.first().is_some_and(|part| part.as_bytes().starts_with(b".wh..wh."));
        return Some(if private { Ok(()) } else { Err(Rule::BadWhiteout.into()) });
    }
    let hidden = name.as_bytes().strip_prefix(b".wh.")?;
    Some(match hidden {
        b".wh..opq" => tree.opaque(parents),
        b"" | b"." | b".." => Err(Rule::BadWhiteout.into()),
        hidden if hidden.starts_with(b".wh.") => Ok(()),
        hidden => tree.whiteout(parents, OsStr::from_bytes(hidden)),
    })
}

fn device<R: Read>(entry: &tar::Entry<'_, R>) -> (u32, u32) {
    let number = |n: io::Result<Option<u32>>| n.ok().flatten().unwrap_or(0);
    (number(entry.header().device_major()), number(entry.header().device_minor()))
}

/// The attributes of an entry, its extended headers over its plain one.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>, owners: Owners) -> io::Result<Attrs> {
    let header = entry.header();
    let mut attrs = Attrs {
        mode: header.mode()?,
        uid: u32::try_from(header.uid()?).unwrap_or(u32::MAX - 1),
        gid: u32::try_from(header.gid()?).unwrap_or(u32::MAX - 1),
        mtime: (i64::try_from(header.mtime()?).unwrap_or(0), 0),
        xattrs: Vec::new(),
    };
    let Some(extensions) = entry.pax_extensions()? else { return Ok(attrs) };
    for extension in extensions {
        let extension = extension?;
        let (Ok(key), value) = (extension.key(), extension.value_bytes()) else { continue };
        let text = std::str::from_utf8(value).unwrap_or_default();
        match key {
            "uid" => attrs.uid = text.parse().unwrap_or(attrs.uid),
            "gid" => attrs.gid = text.parse().unwrap_or(attrs.gid),
            // Sparse files in this form are not put together again; their content would be wrong.
            _ if key.starts_with("GNU.sparse.") => return Err(io::Error::from(io::ErrorKind::Unsupported)),
            "mtime" => attrs.mtime = seconds(text).unwrap_or(attrs.mtime),
            _ => {
                if let Some(name) = key.strip_prefix("SCHILY.xattr.")
                    && kept(name, owners)
                {
                    attrs.xattrs.push((name.to_owned(), value.to_vec()));
                }
            }
        }
    }
    Ok(attrs)
}

/// Whether an extended attribute is kept. None that overlayfs reads ever is.
fn kept(name: &str, owners: Owners) -> bool {
    if name.split('.').nth(1) == Some("overlay") || name.contains('\0') || name.len() > 255 {
        return false;
    }
    name.starts_with("user.") || (owners == Owners::Keep && name == "security.capability")
}

/// Seconds and nanoseconds of a decimal number.
fn seconds(text: &str) -> Option<(i64, u32)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanos: u32 = digits.parse().ok()?;
    // A time before 1970 counts its fraction backwards.
    if text.starts_with('-') && nanos > 0 {
        Some((whole - 1, 1_000_000_000 - nanos))
    } else {
        Some((whole, nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_fractions_on_either_side_of_zero() {
        assert_eq!(seconds("12.5"), Some((12, 500_000_000)));
        assert_eq!(seconds("12"), Some((12, 0)));
        assert_eq!(seconds("-1.25"), Some((-2, 750_000_000)));
        assert_eq!(seconds("x"), None);
    }

    #[test]
    fn overlay_attributes_are_never_kept() {
        for name in ["trusted.overlay.opaque", "user.overlay.redirect", "user.overlay.x.y"] {
            assert!(!kept(name, Owners::Keep) && !kept(name, Owners::Caller), "{name}");
        }
        assert!(kept("security.capability", Owners::Keep));
        assert!(!kept("security.capability", Owners::Caller));
        assert!(kept("user.comment", Owners::Caller));
    }
}
