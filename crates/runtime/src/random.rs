//! Names that nobody else has, and what nobody can guess.

use std::io::Read as _;

use jiff::Timestamp;

/// Sixteen random hexadecimal digits.
pub(crate) fn hex() -> String {
    // A name that two instances share would only make an old success count for a new unit; the time alone tells them
    // apart if there is no randomness.
    let instead = || Timestamp::now().as_nanosecond().to_le_bytes()[..8].try_into().unwrap_or_default();
    format!("{:016x}", u64::from_le_bytes(bytes().unwrap_or_else(|_| instead())))
}

/// Bytes that nobody can guess.
pub(crate) fn bytes<const N: usize>() -> std::io::Result<[u8; N]> {
    let mut bytes = [0_u8; N];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}
