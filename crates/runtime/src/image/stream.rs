//! The bytes of a layer on their way from its blob to the tar reader: counted, bounded and digested.

use std::cell::Cell;
use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::rc::Rc;

use sha2::{Digest as _, Sha256};

use super::Limits;
use super::error::Bound;

/// Bytes unpacked before the ratio counts.
const RATIO_FREE: u64 = 64 << 20;

/// `sha256:` and the digest in hex.
pub(crate) fn sha256_name(hash: Sha256) -> String {
    let mut name = String::from("sha256:");
    for byte in hash.finalize() {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// The digest of bytes at hand.
pub(crate) fn sha256_of(bytes: &[u8]) -> String {
    sha256_name(Sha256::new_with_prefix(bytes))
}

/// The 64 hex digits of a `sha256:` digest, or none if it is anything else.
pub(crate) fn sha256_hex(digest: &str) -> Option<&str> {
    let hex = digest.strip_prefix("sha256:")?;
    let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    (hex.len() == 64 && hex.bytes().all(lower)).then_some(hex)
}

/// Counts and digests what is written.
pub(crate) struct Counted<W> {
    pub(crate) inner: W,
    pub(crate) hash: Sha256,
    pub(crate) size: u64,
}

impl<W> Counted<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new(), size: 0 }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What the readers of one layer share.
pub(super) struct Meter<'a> {
    limits: &'a Limits,
    cancelled: &'a (dyn Fn() -> bool + Sync),
    packed: Cell<u64>,
    unpacked: Cell<u64>,
    /// Bytes still allowed before the next entry's content; none while content is read.
    headers: Cell<Option<u64>>,
    broken: Cell<Option<Bound>>,
    stopped: Cell<bool>,
    ended: Cell<bool>,
    zeros: Cell<u64>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(limits: &'a Limits, cancelled: &'a (dyn Fn() -> bool + Sync)) -> Rc<Meter<'a>> {
        Rc::new(Meter {
            limits,
            cancelled,
            packed: Cell::new(0),
            unpacked: Cell::new(0),
            headers: Cell::new(None),
            broken: Cell::new(None),
            stopped: Cell::new(false),
            ended: Cell::new(false),
            zeros: Cell::new(0),
        })
    }

    /// The bound that was broken, if one was.
    pub(super) fn broken(&self) -> Option<Bound> {
        self.broken.get()
    }

    /// Whether the caller asked to stop.
    pub(super) fn stopped(&self) -> bool {
        self.stopped.get()
    }

    /// Whether the unpacked bytes have been read to their end.
    pub(super) fn ended(&self) -> bool {
        self.ended.get()
    }

    /// How many zero bytes the unpacked bytes end with so far.
    pub(super) fn zeros(&self) -> u64 {
        self.zeros.get()
    }

    /// Compressed bytes read so far.
    pub(super) fn packed(&self) -> u64 {
        self.packed.get()
    }

    /// From here on only headers are read, or only content.
    pub(super) fn expect_headers(&self, headers: bool) {
        self.headers.set(headers.then_some(self.limits.headers));
    }

    /// Whether this many bytes may be unpacked.
    pub(super) fn allow(&self, bytes: u64) -> io::Result<()> {
        let ratio = self.packed.get().max(1).saturating_mul(self.limits.ratio);
        if bytes > self.limits.bytes {
            self.broken.set(Some(Bound::Bytes));
        } else if bytes > RATIO_FREE && bytes > ratio {
            self.broken.set(Some(Bound::Ratio));
        } else {
            return Ok(());
        }
        Err(io::Error::other("the layer is larger than the bounds"))
    }

    /// The bound's number.
    pub(super) fn allowed(&self, bound: Bound) -> u64 {
        match bound {
            Bound::Bytes => self.limits.bytes,
            Bound::Entries => self.limits.entries,
            Bound::Ratio => self.limits.ratio,
            Bound::Path => self.limits.path,
            Bound::Headers => self.limits.headers,
        }
    }

    fn unpacked(&self, bytes: &[u8]) -> io::Result<()> {
        if (self.cancelled)() {
            self.stopped.set(true);
            return Err(io::Error::other("stopped on request"));
        }
        let count = bytes.len() as u64;
        if count == 0 {
            self.ended.set(true);
        }
        match bytes.iter().rposition(|byte| *byte != 0) {
            None => self.zeros.set(self.zeros.get() + count),
            Some(at) => self.zeros.set(count - at as u64 - 1),
        }
        self.unpacked.set(self.unpacked.get() + count);
        self.allow(self.unpacked.get())?;
        if let Some(left) = self.headers.get() {
            let Some(left) = left.checked_sub(count) else {
                self.broken.set(Some(Bound::Headers));
                return Err(io::Error::other("the headers are larger than the bounds"));
            };
            self.headers.set(Some(left));
        }
        Ok(())
    }
}

/// Counts compressed bytes.
struct Packed<'a, R> {
    inner: R,
    meter: Rc<Meter<'a>>,
}

impl<R: Read> Read for Packed<'_, R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.meter.packed.set(self.meter.packed.get() + count as u64);
        Ok(count)
    }
}

/// The unpacked bytes of a blob: gzip, zstd or as they are, told by their first bytes.
pub(super) struct Unpacked<'a> {
    inner: Box<dyn Read + 'a>,
    hash: Sha256,
    meter: Rc<Meter<'a>>,
}

impl<'a> Unpacked<'a> {
    pub(super) fn new(blob: impl Read + 'a, meter: Rc<Meter<'a>>) -> io::Result<Unpacked<'a>> {
        let mut packed = BufReader::with_capacity(64 << 10, Packed { inner: blob, meter: Rc::clone(&meter) });
        let inner: Box<dyn Read + 'a> = match packed.fill_buf()? {
            [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(packed)),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => {
                let mut decoder = zstd::Decoder::with_buffer(packed)?;
                decoder.window_log_max(27)?;
                Box::new(decoder)
            }
            _ => Box::new(packed),
        };
        Ok(Unpacked { inner, hash: Sha256::new(), meter })
    }

    /// Reads what is left and gives the digest of all of it.
    pub(super) fn finish(mut self) -> io::Result<String> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? > 0 {}
        Ok(sha256_name(self.hash))
    }
}

impl Read for Unpacked<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.hash.update(&buf[..count]);
        self.meter.unpacked(&buf[..count])?;
        Ok(count)
    }
}
