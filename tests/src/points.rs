//! Which system calls of the agent are points: every write, fsync and rename below a directory, and every request to the
//! Engine that changes something. Reads a stopped process through /proc and changes nothing in it.
//!
//! A point is named by what it does, not by a number of calls: `fsync ledger/<app>.jsonl` for the third time is the same
//! point in every run, also where timers and probes put other calls between. Names of temporary files and ids are `*`.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::libc;
use nix::unistd::Pid;

/// How much of a written buffer is looked at: a request line and more.
const HEAD: usize = 512;
/// The longest path.
const PATH_MAX: usize = 4096;
/// An id in a path or a target has at least so many hexadecimal digits.
const ID: usize = 32;

/// What one system call is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    /// A write, fsync or rename below the directory.
    Disk(String),
    /// A request to the Engine that changes something.
    Engine(String),
    /// A request of our health probes (`exec`): as many as time allows, so they are counted and not numbered.
    Probe,
}

/// What the kernel says of a process that stands at the entry of a system call.
#[derive(Debug)]
pub struct Stopped {
    process: Pid,
    number: i64,
    arguments: [u64; 6],
}

impl Stopped {
    /// Reads `/proc/PID/syscall`; none where the process is in no call that the kernel can tell.
    pub fn read(process: Pid) -> Result<Option<Self>> {
        let text = std::fs::read_to_string(format!("/proc/{process}/syscall"))?;
        let mut words = text.split_whitespace();
        let Some(Ok(number)) = words.next().map(str::parse) else { return Ok(None) };
        let mut arguments = [0; 6];
        for (argument, word) in arguments.iter_mut().zip(words) {
            *argument = u64::from_str_radix(word.trim_start_matches("0x"), 16)?;
        }
        Ok(Some(Self { process, number, arguments }))
    }

    /// Which point this call is, if it is one; `directory` is the one whose files count.
    pub fn point(&self, directory: &Path) -> Result<Option<Point>> {
        let [first, second, third, fourth, ..] = self.arguments;
        match self.number {
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_sendto => self.written(first, second, third, directory),
            libc::SYS_writev | libc::SYS_pwritev => {
                let (base, length) = self.first_vector(second, third)?;
                self.written(first, base, length, directory)
            }
            libc::SYS_sendmsg => {
                // struct msghdr: name, its length, vectors, their number.
                let [vectors, count] = [self.word(second + 16)?, self.word(second + 24)?];
                let (base, length) = self.first_vector(vectors, count)?;
                self.written(first, base, length, directory)
            }
            libc::SYS_fsync | libc::SYS_fdatasync => Ok(below(&self.descriptor(first), directory, "fsync")),
            #[cfg(target_arch = "x86_64")]
            libc::SYS_rename => Ok(below(&self.path(second)?, directory, "rename to")),
            libc::SYS_renameat | libc::SYS_renameat2 => Ok(below(&self.path(fourth)?, directory, "rename to")),
            _ => Ok(None),
        }
    }

    fn written(&self, descriptor: u64, base: u64, length: u64, directory: &Path) -> Result<Option<Point>> {
        let path = self.descriptor(descriptor);
        if !path.to_string_lossy().starts_with("socket:") {
            return Ok(below(&path, directory, "write"));
        }
        let mut head = vec![0; HEAD.min(usize::try_from(length)?)];
        let count = self.memory()?.read_at(&mut head, base)?;
        Ok(request(&String::from_utf8_lossy(&head[..count])))
    }

    fn descriptor(&self, number: u64) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/fd/{number}", self.process)).unwrap_or_default()
    }

    fn first_vector(&self, at: u64, count: u64) -> Result<(u64, u64)> {
        if count == 0 { Ok((at, 0)) } else { Ok((self.word(at)?, self.word(at + 8)?)) }
    }

    fn word(&self, at: u64) -> Result<u64> {
        let mut bytes = [0; 8];
        self.memory()?.read_exact_at(&mut bytes, at)?;
        Ok(u64::from_ne_bytes(bytes))
    }

    fn path(&self, at: u64) -> Result<PathBuf> {
        let mut bytes = vec![0; PATH_MAX];
        let count = self.memory()?.read_at(&mut bytes, at)?;
        let end = bytes[..count].iter().position(|byte| *byte == 0).context("a path without an end")?;
        Ok(String::from_utf8_lossy(&bytes[..end]).into_owned().into())
    }

    fn memory(&self) -> Result<File> {
        let path = format!("/proc/{}/mem", self.process);
        File::open(&path).with_context(|| path)
    }
}

fn below(path: &Path, directory: &Path, verb: &str) -> Option<Point> {
    let rest = path.strip_prefix(directory).ok()?.to_string_lossy().into_owned();
    Some(Point::Disk(format!("{verb} {}", without_ids(if rest.is_empty() { "." } else { &rest }))))
}

/// Reads the first line of a request; none where it only asks, or is no request.
fn request(head: &str) -> Option<Point> {
    let mut words = head.lines().next()?.split(' ');
    let method = words.next().filter(|method| ["POST", "PUT", "DELETE"].contains(method))?;
    let target = words.next()?.split('?').next()?;
    // `/v1.45/containers/…`
    let target = match target.strip_prefix("/v").and_then(|rest| rest.split_once('/')) {
        Some((version, rest)) if version.starts_with(|c: char| c.is_ascii_digit()) => rest,
        Some(_) | None => target.trim_start_matches('/'),
    };
    if target.starts_with("exec/") || target.ends_with("/exec") {
        return Some(Point::Probe);
    }
    // The name of an image is several segments long.
    let target = match target.strip_prefix("images/").and_then(|rest| rest.rsplit_once('/')) {
        Some((_, last)) => format!("images/*/{last}"),
        None => without_ids(target),
    };
    Some(Point::Engine(format!("{method} {target}")))
}

fn without_ids(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let digits = segment.chars().take_while(char::is_ascii_hexdigit).count();
        if digits >= ID || segment.starts_with(landfall_core::publish::TEMPORARY) { "*" } else { segment }
    });
    segments.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_told_apart() {
        let engine = |text: &str| Some(Point::Engine(text.to_owned()));
        let id = "ab".repeat(32);
        for (head, point) in [
            ("GET /containers/json HTTP/1.1\r\n".to_owned(), None),
            ("nothing of HTTP".to_owned(), None),
            (format!("POST /containers/{id}/exec HTTP/1.1\r\n"), Some(Point::Probe)),
            (format!("POST /v1.45/exec/{id}/start HTTP/1.1\r\n"), Some(Point::Probe)),
            (format!("POST /containers/{id}/stop?t=10 HTTP/1.1\r\n"), engine("POST containers/*/stop")),
            (format!("POST /v1.45/containers/{id}/rename?name=a HTTP/1.1\r\n"), engine("POST containers/*/rename")),
            (format!("DELETE /containers/{id}?v=true HTTP/1.1\r\n"), engine("DELETE containers/*")),
            ("POST /images/create?fromImage=x HTTP/1.1\r\n".to_owned(), engine("POST images/create")),
            (
                "POST /images/127.0.0.1:5000/sample/api@sha256:00/tag?repo=x HTTP/1.1\r\n".to_owned(),
                engine("POST images/*/tag"),
            ),
        ] {
            assert_eq!(request(&head), point, "{head}");
        }
    }

    #[test]
    fn paths_outside_are_no_points_and_ids_do_not_count() {
        let directory = Path::new("/root/agent");
        let named = |path: &str| below(Path::new(path), directory, "write");
        assert_eq!(named("/root/agent2/x"), None);
        assert_eq!(named("/root/agent/ledger/web.jsonl"), Some(Point::Disk("write ledger/web.jsonl".to_owned())));
        let file = format!("/root/agent/apps/web/deployments/{}/.tmp-12-3", "0f".repeat(32));
        assert_eq!(named(&file), Some(Point::Disk("write apps/web/deployments/*/*".to_owned())));
        assert_eq!(named("/root/agent"), Some(Point::Disk("write .".to_owned())));
    }
}
