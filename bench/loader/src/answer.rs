//! Reads as much of HTTP/1.1 as the servers under test answer with: a status, and a body of known length or in chunks.

use crate::Failure;

/// The status of the answer that `received` holds, if the answer is complete.
pub fn complete(received: &[u8]) -> Result<Option<u16>, Failure> {
    let Some(head_bytes) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&received[..head_bytes])?;
    let body = &received[head_bytes + 4..];
    let status = head.get(9..12).ok_or("an answer without a status")?.parse()?;
    let header = |name: &str| {
        let mut lines = head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    };
    let whole = match header("content-length") {
        Some(length) => body.len() >= length.parse()?,
        None if header("transfer-encoding").is_some() => body.ends_with(b"0\r\n\r\n"),
        None => return Err("an answer with neither length nor chunks".into()),
    };
    Ok(whole.then_some(status))
}

#[cfg(test)]
mod tests {
    use super::complete;

    #[test]
    fn an_answer_is_complete_when_its_body_is() {
        let check =
            |received: &str, expected| assert_eq!(complete(received.as_bytes()).unwrap(), expected);
        check("", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", None);
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", None);
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok", Some(200));
        check("HTTP/1.1 401 Unauthorized\r\na: b\r\nCONTENT-LENGTH:0\r\n\r\n", Some(401));
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n", None);
        check(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            Some(200),
        );
    }
}
