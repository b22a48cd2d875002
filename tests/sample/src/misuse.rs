//! The role that caps are for: asked to, it eats memory, forks without end, floods its log or fills its volume. Else it is well behaved.
//! An answer says that it has begun; what comes of it is for the judge to see.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::thread;

use crate::http::{self, Request, Response};

/// What `/fill` writes to, on the volume.
const FILE: &str = "/data/fill";
const MIB: usize = 1 << 20;

/// Serves on port 8080: `/health`, `/eat`, `/fork`, `/say/COUNT/WORD`, `/fill/MEBIBYTES`, `/empty`.
pub fn run() -> io::Result<()> {
    http::serve(8080, answer)
}

/// Makes processes of itself, each of which does the same.
pub fn fork() -> ! {
    loop {
        // By its own name, by which they are counted.
        let mut command = Command::new("/landfall-sample");
        command.arg("fork").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Where no more are allowed it tries on, as a bomb does.
        let _ = command.spawn();
    }
}

fn answer(request: &Request) -> Response {
    let words: Vec<&str> = request.target.trim_start_matches('/').split('/').collect();
    let done = match words.as_slice() {
        ["health"] => Ok(()),
        ["eat"] => begin(eat),
        ["fork"] => begin(|| fork()),
        ["say", count, word] => match count.parse::<u64>() {
            Ok(count) => {
                let word = (*word).to_owned();
                begin(move || say(count, &word))
            }
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        },
        ["fill", mebibytes] => match mebibytes.parse::<usize>() {
            Ok(mebibytes) => begin(move || fill(mebibytes)),
            Err(_) => Err(io::ErrorKind::InvalidInput.into()),
        },
        ["empty"] => fs::remove_file(FILE),
        _ => Err(io::ErrorKind::Unsupported.into()),
    };
    match done {
        Ok(()) => Response::new(200, "ok\n"),
        Err(error) => Response::new(500, format!("{error}\n")),
    }
}

fn begin(what: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(what).map(drop)
}

fn eat() {
    let mut eaten = Vec::new();
    loop {
        // Written to: memory that was only asked for is not used.
        eaten.push(vec![1_u8; MIB]);
    }
}

fn say(count: u64, word: &str) {
    let mut out = io::BufWriter::new(io::stdout().lock());
    for number in 0..count {
        // Nobody may read it.
        let _ = writeln!(out, "{word} {number} {:.<80}", "");
    }
    let _ = out.flush();
}

/// Until it is done, or there is no room.
fn fill(mebibytes: usize) {
    let filled = OpenOptions::new().create(true).append(true).open(FILE).and_then(|mut file| {
        for _ in 0..mebibytes {
            file.write_all(&vec![1_u8; MIB])?;
        }
        file.sync_all()
    });
    println!("filled {mebibytes} MiB: {filled:?}");
}
