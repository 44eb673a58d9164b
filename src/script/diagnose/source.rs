//! A script's file before it is compiled: what cannot be a source is refused here, with the byte that shows it.

use std::sync::Arc;

use super::Site;
use crate::frame::Frame;

/// Compiling is quadratic in parts of the source: at 64 KiB the worst takes 1.4 s, at 256 KiB 6 s.
pub(crate) const SOURCE_BYTES_MAX: usize = 64 * 1024;

/// The text of a script's file, without a byte order mark.
pub(crate) fn source(path: &str, bytes: &[u8]) -> Result<Arc<str>, Box<Frame>> {
    if bytes.len() > SOURCE_BYTES_MAX {
        return Err(too_long(path, bytes.len() as u64));
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(invalid) => {
            let offset = invalid.valid_up_to();
            let good = Arc::from(String::from_utf8_lossy(&bytes[..offset]));
            let place = Site { path, source: &good }.place(offset..offset, "valid up to here");
            let byte = bytes.get(offset).copied().unwrap_or_default();
            let title = format!("byte 0x{byte:02x} at offset {offset} is not UTF-8");
            return Err(Box::new(
                Frame::error("E0208", title).at(place).help("save the file in UTF-8"),
            ));
        }
    };
    if let Some(offset) = text.find('\0') {
        let whole = Arc::from(text);
        let place = Site { path, source: &whole }.place(offset..offset + 1, "");
        let title = format!("a NUL byte stands at offset {offset}");
        return Err(Box::new(Frame::error("E0208", title).at(place).help("take it out")));
    }
    Ok(Arc::from(text.strip_prefix('\u{feff}').unwrap_or(text)))
}

/// A file of so many bytes, which need not be read to be refused.
pub(crate) fn too_long(path: &str, bytes: u64) -> Box<Frame> {
    let title = format!("`{path}` has {bytes} bytes; a script may have {SOURCE_BYTES_MAX}");
    Box::new(
        Frame::error("E0208", title)
            .help("move functions into `scripts/lib/`, and `import` them from there"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], title: &str) {
        let frame = source("scripts/a.rhai", bytes).unwrap_err();
        assert_eq!(frame.code, "E0208");
        assert!(frame.title.contains(title), "{}", frame.title);
    }

    #[test]
    fn s33_a_source_over_64_kib_is_refused_with_its_size() {
        check(&vec![b' '; 65_537], "65537 bytes; a script may have 65536");
        assert!(source("scripts/a.rhai", &vec![b' '; 65_536]).is_ok());
    }

    #[test]
    fn s38_what_is_no_text_is_refused_with_the_byte() {
        check(b"let a = 1;\0", "NUL byte stands at offset 10");
        check(b"let a = \"\xff\";", "byte 0xff at offset 9 is not UTF-8");
        check(b"\xc3", "byte 0xc3 at offset 0");
    }

    #[test]
    fn s38_a_byte_order_mark_is_stripped_and_crlf_is_kept() {
        assert_eq!(&*source("a", b"\xef\xbb\xbflet a;\r\n").unwrap(), "let a;\r\n");
    }
}
