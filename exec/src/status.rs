//! The first bytes of an HTTP answer. Pure. They come from a program that may be broken, or speak something else altogether.

/// `HTTP/1.1 200` and what ends the number.
const LENGTH: usize = 13;
const BEGIN: &[u8] = b"HTTP/1.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It may become one: more bytes are needed.
    Begun,
    Code(u16),
    /// Not HTTP, whatever follows.
    Foreign,
}

/// Looks at what has come so far; anything behind the code is ignored.
pub fn read(head: &[u8]) -> Status {
    if !head.iter().take(LENGTH).enumerate().all(|(at, byte)| fits(at, *byte)) {
        return Status::Foreign;
    }
    match head.get(9..LENGTH) {
        Some([hundreds, tens, ones, _]) => {
            let [hundreds, tens, ones] = [hundreds, tens, ones].map(|digit| u16::from(digit - b'0'));
            Status::Code(hundreds * 100 + tens * 10 + ones)
        }
        Some(_) | None => Status::Begun,
    }
}

fn fits(at: usize, byte: u8) -> bool {
    match at {
        0..7 => byte == BEGIN[at],
        8 => byte == b' ',
        7 | 9..12 => byte.is_ascii_digit(),
        _ => matches!(byte, b' ' | b'\r' | b'\n'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_what_is_none() {
        let table: [(&[u8], Status); 14] = [
            (b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n", Status::Code(200)),
            (b"HTTP/1.0 404\r\n", Status::Code(404)),
            (b"HTTP/1.1 503\n", Status::Code(503)),
            (b"HTTP/1.1 000 ", Status::Code(0)),
            (b"HTTP/1.1 200 \xff\xff\0", Status::Code(200)),
            (b"", Status::Begun),
            (b"HTT", Status::Begun),
            (b"HTTP/1.1 200", Status::Begun),
            (b"HTTP/1.1 2000", Status::Foreign),
            (b"HTTP/1.1 -20 ", Status::Foreign),
            (b"HTTP/2 200 OK", Status::Foreign),
            (b"\0", Status::Foreign),
            (b"SSH-2.0-OpenSSH\r\n", Status::Foreign),
            (b" HTTP/1.1 200 OK", Status::Foreign),
        ];
        for (head, status) in table {
            assert_eq!(read(head), status, "{}", head.escape_ascii());
        }
    }

    #[test]
    fn every_beginning_of_an_answer_waits_for_the_rest() {
        let answer = b"HTTP/1.1 204 ";
        for length in 0..answer.len() {
            assert_eq!(read(&answer[..length]), Status::Begun, "{length}");
        }
    }
}
