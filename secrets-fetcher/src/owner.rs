//! Files of another owner. The process that talks to the network has no capability; where a file of a set is to belong to somebody else it
//! hands the open file to `landfall-secrets-owner@.service`, which may give files away and can do nothing else: no network, no path, no
//! value that is not in its hand. That one is this program too, started by systemd for each file with [`GIVE`] as its only argument.
//!
//! It gives away what is a plain file in memory and belongs to its own user, and nothing more: whoever reaches the socket gains no file by it.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::fs::{MetadataExt as _, fchown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::sys::statfs::{FsType, TMPFS_MAGIC, fstatfs};

/// The argument that makes this program the one that gives files away.
pub const GIVE: &str = "give-file";

/// The kernel's `RAMFS_MAGIC`.
const RAMFS_MAGIC: FsType = FsType(0x8584_58f6);
/// systemd starts a process for it.
const PATIENCE: Duration = Duration::from_secs(10);
/// `OWNER GROUP`, two numbers or `-`.
const WORDS: usize = 64;
const DONE: &str = "done";
/// What changes who a program runs as.
const SET_ID: u32 = 0o6000;

/// Gives a file to an owner and a group: by itself where it may, else by whoever listens at `socket`.
pub fn give(file: &File, uid: Option<u32>, gid: Option<u32>, socket: &Path) -> io::Result<()> {
    match fchown(file, uid, gid) {
        Err(error) if may_not(&error) && socket.exists() => ask(file, uid, gid, socket),
        other => other,
    }
}

/// `EINVAL`: in a user namespace (`PrivateUsers=`) there are no other users at all.
fn may_not(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| code == Errno::EPERM as i32 || code == Errno::EINVAL as i32)
}

fn ask(file: &File, uid: Option<u32>, gid: Option<u32>, socket: &Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let word = |id: Option<u32>| id.map_or_else(|| "-".to_owned(), |id| id.to_string());
    let words = format!("{} {}", word(uid), word(gid));
    let files = [file.as_raw_fd()];
    sendmsg::<()>(
        stream.as_raw_fd(),
        &[IoSlice::new(words.as_bytes())],
        &[ControlMessage::ScmRights(&files)],
        MsgFlags::empty(),
        None,
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer == DONE { Ok(()) } else { Err(io::Error::other(format!("`{}` said: {answer}", socket.display()))) }
}

/// Answers the one question that stdin, a socket, brings; the answer goes to stdout, which is the same.
pub fn main() -> ExitCode {
    let done = receive(io::stdin().as_raw_fd()).and_then(|(file, uid, gid)| hand_over(&file, uid, gid));
    let answer = done.as_ref().err().map_or(DONE, String::as_str);
    let sent = io::stdout().write_all(answer.as_bytes());
    if sent.is_ok() && done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

type Asked = (File, Option<u32>, Option<u32>);

fn receive(socket: i32) -> Result<Asked, String> {
    let mut bytes = [0; WORDS];
    let mut space = nix::cmsg_space!([i32; 1]);
    let mut slices = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(socket, &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)
        .map_err(|error| format!("nothing was asked: {error}"))?;
    let length = message.bytes;
    let mut files: Vec<RawFd> = Vec::new();
    for control in message.cmsgs().map_err(|error| format!("no file came along: {error}"))? {
        if let ControlMessageOwned::ScmRights(numbers) = control {
            files.extend(numbers);
        }
    }
    let [file] = files[..] else { return Err(format!("{} files came along, not one", files.len())) };
    // Opened once more: to own a bare number is unsafe, and this process ends at once.
    let file =
        File::open(format!("/proc/self/fd/{file}")).map_err(|error| format!("the file cannot be opened: {error}"))?;
    let words = std::str::from_utf8(&bytes[..length]).map_err(|_| "the question is no text".to_owned())?;
    let id = |word: &str| match word {
        "-" => Ok(None),
        number => number.parse().map(Some).map_err(|_| "an owner is a number or `-`".to_owned()),
    };
    let (uid, gid) = words.split_once(' ').ok_or("the question is not `OWNER GROUP`")?;
    Ok((file, id(uid)?, id(gid)?))
}

fn hand_over(file: &File, uid: Option<u32>, gid: Option<u32>) -> Result<(), String> {
    let failed = |error: io::Error| format!("the file cannot be looked at: {error}");
    let found = file.metadata().map_err(failed)?;
    let kind = fstatfs(file).map_err(|error| failed(error.into()))?.filesystem_type();
    let is_own = found.uid() == nix::unistd::geteuid().as_raw();
    if !found.is_file() || !is_own || found.mode() & SET_ID != 0 || (kind != TMPFS_MAGIC && kind != RAMFS_MAGIC) {
        return Err("it is no plain file in memory that belongs to this user".to_owned());
    }
    fchown(file, uid, gid).map_err(|error| format!("it cannot be given away: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;

    /// What the one side is told of a file that the other sends with these words.
    fn answered(file: &File, words: &str) -> Result<(), String> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let files = [file.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&files)];
        sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(words.as_bytes())], &rights, MsgFlags::empty(), None).unwrap();
        receive(theirs.as_raw_fd()).and_then(|(file, uid, gid)| hand_over(&file, uid, gid))
    }

    #[test]
    fn only_a_plain_file_of_its_own_in_memory_is_given_away() {
        let memory = tempfile::tempdir_in("/dev/shm").unwrap();
        let path = memory.path().join("secret");
        std::fs::write(&path, "x").unwrap();
        let file = File::open(&path).unwrap();
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(answered(&file, &format!("{own} -")), Ok(()));
        for (words, said) in [("x -", "a number"), ("1 -1", "a number"), ("12", "`OWNER GROUP`")] {
            assert!(answered(&file, words).unwrap_err().contains(said), "{words}");
        }
        let set_id = std::os::unix::fs::PermissionsExt::from_mode(0o4755);
        std::fs::set_permissions(&path, set_id).unwrap();
        let directory = File::open(memory.path()).unwrap();
        let on_disk = tempfile::NamedTempFile::new_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        for file in [&file, &directory, on_disk.as_file()] {
            assert!(answered(file, &format!("{own} -")).unwrap_err().contains("no plain file"), "{file:?}");
        }
    }
}
