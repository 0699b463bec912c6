//! Names that nobody else has.

use jiff::Timestamp;

/// Sixteen random hexadecimal digits.
pub(crate) fn hex() -> String {
    let mut bytes = [0_u8; 8];
    // A name that two instances share would only make an old success count for a new unit; the time alone
    // tells them apart if there is no randomness.
    let filled = std::fs::File::open("/dev/urandom")
        .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut bytes));
    if filled.is_err() {
        bytes = Timestamp::now().as_nanosecond().to_le_bytes()[..8].try_into().unwrap_or_default();
    }
    format!("{:016x}", u64::from_le_bytes(bytes))
}
