//! The output of a process as lines: whole, valid UTF-8, secrets masked.

use std::io::{self, Read};

use crate::secrets::Mask;

/// The bytes after which a line that does not end is cut.
const LONGEST: usize = 256 * 1024;

/// Reads to the end, and gives each line, see [`Lines`].
pub(crate) fn read(mut reader: impl Read, mask: &Mask, mut each: impl FnMut(String)) {
    let mut lines = Lines::default();
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => lines.take(&buffer[..read], mask, &mut each),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    lines.end(mask, each);
}

/// Makes lines, without their ends, of bytes that come in pieces. A line that does not end is cut, never within a
/// character, nor so that a secret would be torn into two parts that nobody recognises.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    /// Takes the next bytes, and gives each line that ends in them.
    pub(crate) fn take(&mut self, bytes: &[u8], mask: &Mask, mut each: impl FnMut(String)) {
        let searched = self.pending.len();
        self.pending.extend_from_slice(bytes);
        let mut begin = 0;
        while let Some(end) = self.pending[searched.max(begin)..].iter().position(|byte| *byte == b'\n') {
            let end = searched.max(begin) + end;
            each(text(&self.pending[begin..end], mask));
            begin = end + 1;
        }
        self.pending.drain(..begin);
        if self.pending.len() > LONGEST {
            self.pending = cut(&self.pending, mask, &mut each);
        }
    }

    /// Gives the last line, if it had no end.
    pub(crate) fn end(self, mask: &Mask, mut each: impl FnMut(String)) {
        if !self.pending.is_empty() {
            each(text(&self.pending, mask));
        }
    }
}

fn text(line: &[u8], mask: &Mask) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    mask.apply(&String::from_utf8_lossy(line))
}

/// Gives all but the end of a line that is too long; the end, in which a secret may have begun, is what is left.
fn cut(line: &[u8], mask: &Mask, each: &mut impl FnMut(String)) -> Vec<u8> {
    // A character that is not whole yet must not be taken for a wrong one.
    let whole = line.utf8_chunks().last().map_or(line.len(), |last| {
        if last.invalid().len() < 4 { line.len() - last.invalid().len() } else { line.len() }
    });
    let masked = mask.apply(&String::from_utf8_lossy(&line[..whole]));
    let mut at = masked.len().saturating_sub(mask.longest());
    while !masked.is_char_boundary(at) {
        at -= 1;
    }
    each(masked[..at].to_owned());
    [&masked.as_bytes()[at..], &line[whole..]].concat()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use setpoint_model::names::SecretName;

    /// Gives its bytes in pieces of these sizes, over and over.
    struct Pieces<'a>(&'a [u8], Vec<usize>, usize);

    impl Read for Pieces<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.1[self.2 % self.1.len()].min(self.0.len()).min(buffer.len());
            self.2 += 1;
            buffer[..size].copy_from_slice(&self.0[..size]);
            self.0 = &self.0[size..];
            Ok(size)
        }
    }

    fn lines(bytes: &[u8], pieces: &[usize], secret: &str) -> Vec<String> {
        let mask = Mask::new(&BTreeMap::from([(SecretName::new("s").unwrap(), secret.to_owned())]));
        let mut lines = Vec::new();
        read(Pieces(bytes, pieces.to_vec(), 0), &mask, |line| lines.push(line));
        lines
    }

    #[test]
    fn chunks_break_neither_lines_nor_characters() {
        let text = "größe\r\nzwei ümläute\n\nletzte ohne Ende €";
        for pieces in [vec![1], vec![2], vec![3, 1], vec![100]] {
            assert_eq!(
                lines(text.as_bytes(), &pieces, ""),
                ["größe", "zwei ümläute", "", "letzte ohne Ende €"],
                "{pieces:?}"
            );
        }
    }

    #[test]
    fn what_is_no_utf8_is_replaced() {
        assert_eq!(lines(b"a\xffb\n", &[1], ""), ["a\u{fffd}b"]);
    }

    #[test]
    fn a_secret_that_comes_in_two_writes_is_masked() {
        assert_eq!(lines(b"token hunter2hunter2 end\n", &[9], "hunter2hunter2"), ["token *** end"]);
    }

    #[test]
    fn a_line_without_end_is_cut_and_neither_a_secret_nor_a_character_is_torn() {
        let secret = "hunter2hunter2";
        for shift in 0..40 {
            let text = format!("{}{secret}€€{}", "x".repeat(LONGEST - 20 + shift), "y".repeat(LONGEST));
            let told = lines(text.as_bytes(), &[4096], secret).concat();
            assert!(!told.contains("hunter2") && !told.contains('\u{fffd}'), "{shift}");
            assert_eq!(told.len(), text.len() - secret.len() + 3, "{shift}");
        }
    }
}
