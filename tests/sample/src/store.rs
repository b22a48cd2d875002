//! The datastore of the sample, a file per key in a named volume, and the one-shot migration that writes its schema. As a database
//! does, it leaves a lock file with its process id in it, unless it ends in order; and has a word that repairs.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::http::{self, Request, Response};

/// Has the process id while a store runs, and nothing after an orderly end.
const LOCK: &str = "store.lock";
/// A line for each repair.
const REPAIRS: &str = "store.repairs";

/// Serves `GET` and `PUT /keys/NAME` and `/health` on port 8080 from the files in `directory`.
pub fn run(directory: &str) -> io::Result<()> {
    let directory = PathBuf::from(directory);
    std::fs::create_dir_all(&directory)?;
    let lock = directory.join(LOCK);
    std::fs::write(&lock, std::process::id().to_string())?;
    http::stop_on_sigterm_with(move || drop(std::fs::write(lock, "")))?;
    http::serve(8080, move |request| answer(&directory, request))
}

fn answer(directory: &Path, request: &Request) -> Response {
    if request.target == "/health" {
        return Response::new(200, "ok\n");
    }
    let key = request.target.strip_prefix("/keys/").unwrap_or_default();
    if key.is_empty() || !key.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
        return Response::new(404, "keys are `/keys/` and `a-z`, `0-9`, `-`\n");
    }
    let done = match request.method.as_str() {
        "GET" => std::fs::read(directory.join(key)).map(|value| Response::new(200, value)),
        "PUT" => put(directory, key, &request.body).map(|()| Response::new(204, "")),
        other => return Response::new(405, format!("`{other}` is not served\n")),
    };
    done.unwrap_or_else(|error| match error.kind() {
        io::ErrorKind::NotFound => Response::new(404, format!("no key `{key}`\n")),
        _ => Response::new(500, format!("`{key}`: {error}\n")),
    })
}

/// What was not shut down cleanly is made good after so many milliseconds; `fail` fails in its place.
pub fn repair(directory: &str, how: &str) -> io::Result<()> {
    let directory = PathBuf::from(directory);
    std::fs::OpenOptions::new().create(true).append(true).open(directory.join(REPAIRS))?.write_all(b"repaired\n")?;
    let Ok(milliseconds) = how.parse() else {
        return Err(io::Error::other(format!("the data cannot be repaired: `{how}`")));
    };
    std::thread::sleep(Duration::from_millis(milliseconds));
    std::fs::write(directory.join(LOCK), "")
}

/// A key is old or new, never half: a store is killed in tests.
fn put(directory: &Path, key: &str, value: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{key}.tmp"));
    let mut file = std::fs::File::create(&temporary)?;
    file.write_all(value)?;
    file.sync_all()?;
    std::fs::rename(&temporary, directory.join(key))
}

/// The migration: writes `SCHEMA` into the store at `STORE`; `MODE=fail` fails in its place.
pub fn migrate() -> io::Result<()> {
    let read = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.to_owned());
    if read("MODE", "ok") == "fail" {
        return Err(io::Error::other("fails because MODE=fail says so"));
    }
    let schema = read("SCHEMA", "1");
    let answer = http::call(&read("STORE", "store:8080"), ("PUT", "/keys/schema"), schema.as_bytes())?;
    if answer.status != 204 {
        return Err(io::Error::other(format!("the store answered {}: {}", answer.status, answer.text())));
    }
    println!("schema is {schema} now");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_and_paths_are_not_keys() {
        let directory = std::env::temp_dir().join(format!("landfall-sample-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        for (method, target, body, status) in [
            ("GET", "/keys/schema", "", 404),
            ("PUT", "/keys/schema", "7", 204),
            ("GET", "/keys/schema", "", 200),
            ("GET", "/keys/../etc/passwd", "", 404),
            ("GET", "/keys/", "", 404),
            ("DELETE", "/keys/schema", "", 405),
            ("GET", "/health", "", 200),
        ] {
            let request = Request { method: method.into(), target: target.into(), body: body.into() };
            assert_eq!(answer(&directory, &request).status, status, "{method} {target}");
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
