//! Azure Key Vault and IMDS as they behave, for tests and for people who try things: serves until it is killed. What it does
//! is in `landfall_tests::sandbox`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use landfall_tests::sandbox::{control, server};

const USAGE: &str = "usage: sandbox DIRECTORY imds=ADDRESS:PORT [VAULT=ADDRESS:PORT…]
       sandbox tell DIRECTORY '{\"do\":\"log\"}'   (all words: tests/src/sandbox/control.rs)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let done = match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tell", directory, word] => tell(Path::new(directory), word),
        [directory, imds, vaults @ ..] if imds.starts_with("imds=") => serve(Path::new(directory), imds, vaults),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve(directory: &Path, imds: &str, vaults: &[&str]) -> Result<()> {
    let vaults: Vec<(String, SocketAddr)> = vaults.iter().map(|word| named(word)).collect::<Result<_>>()?;
    server::run(directory, named(imds)?.1, &vaults)
}

fn named(word: &str) -> Result<(String, SocketAddr)> {
    let (name, address) = word.split_once('=').with_context(|| format!("`{word}` is not NAME=ADDRESS:PORT"))?;
    let address = address.parse().with_context(|| format!("`{address}` is no address with a port"))?;
    Ok((name.to_owned(), address))
}

fn tell(directory: &Path, word: &str) -> Result<()> {
    let reply = control::tell(directory, &serde_json::from_str(word)?)?;
    println!("{}", serde_json::to_string(&reply)?);
    Ok(())
}
